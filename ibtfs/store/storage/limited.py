"""A storage that is not to take all of a line: what is read and written waits for its turn."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import NamedTuple

from ibtfs.store.storage.base import (
    FolderStorage,
    StoredObject,
    Upload,
)
from ibtfs.store.storage.passing import PassingStorage

LEAST_PIECE = 16 << 10
PIECES_A_SECOND = 4


class Rate:
    """So many *bytes_a_second* at most, over all that shares it; threads do.  0 is no limit."""

    def __init__(self, bytes_a_second: int) -> None:
        self._rate = bytes_a_second
        self._lock = threading.Lock()
        self._free_at = 0.0

    @property
    def piece(self) -> int:
        """Bytes that are moved without a pause between them; 0 if all may be."""
        return max(self._rate // PIECES_A_SECOND, LEAST_PIECE) if self._rate else 0

    def take(self, size: int) -> None:
        """Wait until *size* bytes may be moved."""
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._free_at)
            self._free_at = turn + size / self._rate
        time.sleep(turn - now)

    def take_all(self, size: int) -> None:
        """The same, piece by piece: others have their turns in between."""
        piece = self.piece or size or 1
        for first in range(0, size, piece):
            self.take(min(piece, size - first))


class Limits(NamedTuple):
    """How fast may be written, *up*, and read, *down*."""

    up: Rate = Rate(0)
    down: Rate = Rate(0)


UNLIMITED = Limits()


class LimitedObject:
    """An object that is read no faster than *rate*, as StoredObject says."""

    def __init__(self, stored: StoredObject, rate: Rate) -> None:
        self._stored, self._rate = stored, rate
        self.name, self.shown, self.size = stored.name, stored.shown, stored.size

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        size = max(min(size, self.size - offset), 0)
        self._rate.take_all(size)
        return self._stored.read(offset, size)

    def is_removed(self) -> bool:
        """As StoredObject says."""
        return self._stored.is_removed()

    def close(self) -> None:
        """As StoredObject says."""
        self._stored.close()

    def __enter__(self) -> LimitedObject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()


class LimitedUpload:
    """An object that is written no faster than *rate*, as Upload says."""

    def __init__(self, upload: Upload, rate: Rate) -> None:
        self._upload, self._rate = upload, rate
        self.name, self.size = upload.name, upload.size

    def write(self, data: bytes | memoryview) -> None:
        """As Upload says."""
        view, piece = memoryview(data), self._rate.piece or len(data) or 1
        for first in range(0, len(view), piece):
            part = view[first : first + piece]
            self._rate.take(len(part))
            self._upload.write(part)
        self.size = self._upload.size

    def finish(self) -> None:
        """As Upload says."""
        self._upload.finish()

    def abort(self) -> None:
        """As Upload says."""
        self._upload.abort()

    def __enter__(self) -> LimitedUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._upload.__exit__(kind, _, __)


class LimitedStorage(PassingStorage):
    """The storage at *place*, of which no more is read and written than *limits* allow.

    As FolderStorage says; threads may share it.  What lies in objects is counted, and not what is
    told of them: names, sizes, locks.
    """

    def __init__(self, place: FolderStorage, limits: Limits) -> None:
        super().__init__(place)
        self._limits = limits
        self._up, self._down = limits

    def shared_as(self, shared: bool) -> LimitedStorage:
        """As FolderStorage says; within the same limits."""
        return LimitedStorage(self._place.shared_as(shared), self._limits)

    def put(self, name: str) -> LimitedUpload:
        """As Storage says."""
        return LimitedUpload(self._place.put(name), self._up)

    def replace(self, name: str) -> LimitedUpload:
        """As Healing says."""
        return LimitedUpload(self._place.replace(name), self._up)

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        self._up.take(len(data))
        self._place.put_new(name, data)

    def open(self, name: str) -> LimitedObject:
        """As Storage says."""
        return LimitedObject(self._place.open(name), self._down)

    def open_end(self, name: str, most: int, size: int = -1) -> tuple[LimitedObject, bytes]:
        """As FarPlace says."""
        stored, end = super().open_end(name, most, size)
        self._down.take_all(len(end))
        return LimitedObject(stored, self._down), end


def limited(storage: FolderStorage, limits: Limits) -> FolderStorage:
    """*storage* within *limits*; as it is if there are none."""
    return LimitedStorage(storage, limits) if any(rate.piece for rate in limits) else storage
