"""The readers of a repository's archives that are in use, not too many at a time."""

from __future__ import annotations

import resource
import threading
import weakref
from collections import OrderedDict
from collections.abc import Container

from ibtfs.format.keys import Keys
from ibtfs.store.archives.generations import list_again
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.cache import ByteCache
from ibtfs.store.storage.base import Storage

ARCHIVES_OPEN = 1024
"""At most; of a process that may not open many files, an eighth of those."""


class Readers:
    """Readers of archives; threads may share them.  *cache* holds what they read."""

    def __init__(self, storage: Storage, keys: Keys, cache: ByteCache) -> None:
        self._storage, self._keys, self._cache = storage, keys, cache
        self._lock = threading.Lock()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most_open = ARCHIVES_OPEN if files < 0 else min(ARCHIVES_OPEN, max(files // 8, 16))
        self._in_use: OrderedDict[str, ArchiveReader] = OrderedDict()
        self._all: weakref.WeakSet[ArchiveReader] = weakref.WeakSet()

    def get(self, archive_id: str) -> ArchiveReader:
        """The reader of an archive; nothing is opened before it is asked for something."""
        with self._lock:
            reader = self._in_use.get(archive_id)
            if reader is None:
                reader = ArchiveReader(self._storage, self._keys, archive_id, self._cache)
                self._in_use[archive_id] = reader
                self._all.add(reader)
                if len(self._in_use) > self._most_open:
                    self._in_use.popitem(last=False)
            else:
                self._in_use.move_to_end(archive_id)
            return reader

    def refresh(self) -> bool:
        """Look for later generations of the archives in use; whether there were any."""
        with self._lock:
            readers = list(self._in_use.values())
        outdated = [reader for reader in readers if reader.is_outdated()]
        for reader in outdated:
            reader.refresh()
        return bool(outdated)

    def drop_removed(self) -> None:
        """Let go of files of archives that were removed or replaced."""
        with self._lock:
            readers = list(self._all)  # also those that only somebody who reads still has
        list_again(self._storage, [reader.id for reader in readers if reader.is_open])
        for reader in readers:
            reader.drop_removed()

    def refresh_those(self, archive_ids: Container[str]) -> None:
        """Have some archives be read anew."""
        with self._lock:
            readers = [reader for reader in self._all if reader.id in archive_ids]
        for reader in readers:
            reader.refresh()

    def clear(self) -> None:
        """Forget them; whoever uses one goes on with it."""
        with self._lock:
            self._in_use.clear()
