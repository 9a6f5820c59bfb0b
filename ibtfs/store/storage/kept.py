"""What was fetched of objects far away, kept in bounded memory; objects that are read from it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from types import TracebackType

from ibtfs.store.storage.base import StoredObject
from ibtfs.store.storage.far import Data


class Kept:
    """Bytes by what they are of, *limit* of them at most; those used longest ago go.

    Threads may share it.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Data] = OrderedDict()

    def put(self, key: Hashable, data: Data) -> None:
        """Keep *data*."""
        if len(data) > self._limit:
            return
        with self._lock:
            self._drop(key)
            self._kept[key] = data
            self._size += len(data)
            while self._size > self._limit:
                self._drop(next(iter(self._kept)))

    def get(self, key: Hashable) -> Data | None:
        """What is kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def drop(self, key: Hashable) -> Data | None:
        """Keep it no more; what it was."""
        with self._lock:
            return self._drop(key)

    def _drop(self, key: Hashable) -> Data | None:
        found = self._kept.pop(key, None)
        self._size -= len(found) if found is not None else 0
        return found

    def all(self) -> list[Hashable]:
        """What is kept."""
        with self._lock:
            return list(self._kept)

    def drop_all(self, matches: Callable[[Hashable], bool] = lambda _: True) -> bool:
        """Keep nothing more of what *matches* is true of; whether anything was kept."""
        with self._lock:
            found = list(filter(matches, self._kept))
            for key in found:
                self._drop(key)
        return bool(found)


class PartlyKept:
    """An object of which *kept* may give the end, or all; *opened* opens it for what it does not,
    if it is not *stored*, open already.

    As StoredObject says.
    """

    def __init__(
        self,
        name: str,
        size: int,
        kept: Callable[[], Data | None],
        opened: Callable[[], StoredObject],
        shown: str = "",
        stored: StoredObject | None = None,
    ) -> None:
        self.name, self.shown = name, shown or name
        self.size = size
        self._kept, self._open = kept, opened
        self._lock = threading.Lock()
        self._stored = stored

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        found = self._kept()
        if found is not None and offset >= self.size - len(found):
            at = offset - (self.size - len(found))
            return bytes(found[at : at + size])
        return self._opened().read(offset, size)

    def _opened(self) -> StoredObject:
        with self._lock:
            if self._stored is None:
                self._stored = self._open()
            return self._stored

    def is_removed(self) -> bool:
        """As StoredObject says: what is kept takes no room there."""
        with self._lock:
            stored = self._stored
        return stored is not None and stored.is_removed()

    def close(self) -> None:
        """As StoredObject says."""
        with self._lock:
            stored, self._stored = self._stored, None
        if stored is not None:
            stored.close()

    def __enter__(self) -> PartlyKept:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()
