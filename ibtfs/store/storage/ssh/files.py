"""The files that a client of a server reads."""

from __future__ import annotations

import threading
from collections import OrderedDict

from ibtfs.store.storage.base import Storage, StoredObject

MOST_OPEN = 400
"""Of files that are read, and of uploads, each: a process may often open no more than 1,024."""


class Files:
    """The files that a client reads, by its numbers; those used longest ago are closed."""

    def __init__(self, storage: Storage) -> None:
        self._storage, self._lock = storage, threading.Lock()
        self._open: OrderedDict[int, StoredObject] = OrderedDict()

    def opened(self, number: int, name: str) -> StoredObject:
        """*name*, open as *number*.  Raises ObjectMissing, ObjectUnreadable, StorageFailed."""
        with self._lock:
            found = self._open.get(number)
            if found is not None and found.name == name:
                self._open.move_to_end(number)
                return found
        found = self._storage.open(name)
        with self._lock:
            self._open[number] = found
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)  # who reads from it still has it
        return found

    def known(self, number: int) -> StoredObject | None:
        """What is open as *number*."""
        with self._lock:
            return self._open.get(number)

    def close(self, number: int) -> None:
        """Close what is open as *number*."""
        with self._lock:
            self._open.pop(number, None)
