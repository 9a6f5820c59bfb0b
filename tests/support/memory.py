"""Objects of a storage that lie in memory."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from ibtfs.errors import ObjectMissing


class BytesObject:
    """Bytes as a StoredObject."""

    def __init__(self, data: bytes, name: str) -> None:
        self.name = self.shown = name
        self.size, self._data = len(data), data

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    def is_removed(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def __enter__(self) -> BytesObject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        pass


class MemoryStorage:
    """What reading needs of a storage, of *files*."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def open(self, name: str) -> BytesObject:
        if name not in self._files:
            raise ObjectMissing(f"{name}: no such file in the repository")
        return BytesObject(self._files[name], name)

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        inside = (name[len(folder) + 1 :] for name in self._files if name.startswith(f"{folder}/"))
        return sorted({name.partition("/")[0] for name in inside})

    def folder_token(self, folder: str, settles_ns: int) -> int:
        return 1
