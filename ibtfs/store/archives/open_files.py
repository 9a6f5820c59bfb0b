"""The files of an archive that are open, and later generations of them.

A file may be replaced by a later generation of itself, ``data.2``, that lacks what prune removed.
So there is one rule for every read: who misses something lists the archive once more, and if there
are other generations than those at hand, tries once again.
"""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable
from typing import TypeVar

from ibtfs.errors import FormatDamaged, ObjectMissing, ObjectUnreadable, StorageFailed
from ibtfs.format.keys import Keys
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.generations import (
    doubt,
    drops,
    generations,
    is_far,
    known_generations,
    look_again,
)
from ibtfs.store.archives.newest import open_newest
from ibtfs.store.cache import ByteCache
from ibtfs.store.listed import Lists
from ibtfs.store.storage.base import Storage

Value = TypeVar("Value")


class OpenFiles(abc.ABC):
    """The files of the archive *archive_id*; threads may share it.

    A new era of *cache* begins when later generations of its files count.  Earlier ones than
    *lists* know are damage.
    """

    def __init__(
        self, storage: Storage, keys: Keys, archive_id: str, cache: ByteCache, lists: Lists | None
    ) -> None:
        self.id, self._lists = archive_id, lists
        self._storage, self._keys, self._cache = storage, keys, cache
        self._lock = threading.Lock()
        self._files: dict[str, FrameFileReader] = {}
        self._numbers: dict[str, int] = {}
        """The newest generations of those when they were opened."""
        self._era = 0

    @property
    def where(self) -> str:
        """How messages name it."""
        return layout.archive(self.id)

    def _file(self, kind: str) -> FrameFileReader:
        with self._lock:
            opened = self._files.get(kind)
            if opened is None:
                opened, number = open_newest(self._storage, self._keys, self.id, kind)
                if self._lists is not None:
                    name = layout.archive_object(self.id, kind)
                    self._lists.require_generation(name, opened.generation)
                self._files[kind], self._numbers[kind] = opened, number
            return opened

    def file(self, kind: str) -> FrameFileReader:
        """One of the archive's files, for check.  Raises ObjectMissing, FormatDamaged."""
        return self._again(lambda: self._file(kind))

    def _again(self, read: Callable[[], Value]) -> Value:
        """What *read* gives; on something missing, once more with the newest generations.

        So also on what an open file does not give: its disk may have gone, and have come back as
        another device.  And on damage, if the open file has no name any more: it may have been
        healed, by another one in its place.  Everything that reads goes through this.
        """
        era, before = self._era, drops(self._storage, self.id)
        try:
            return read()
        except (ObjectMissing, ObjectUnreadable, StorageFailed, FormatDamaged) as error:
            if isinstance(error, FormatDamaged):
                if not (doubt(self._storage, self.id, before) or self._has_removed()):
                    raise
            elif isinstance(error, ObjectMissing):
                if era == self._era and self._files and not self.is_outdated():
                    raise
            elif not self._files:
                raise
            self.refresh()
            return read()

    def refresh(self) -> None:
        """Drop open files and what is cached of them, so that newer generations are seen."""
        look_again(self._storage, self.id)
        with self._lock:
            if not self._files:
                return
            self._files = {}  # the last reader of an old one closes it
            self._forget()
            self._era += 1
        self._cache.begin_era()
        self._cache.drop(lambda key: isinstance(key, tuple) and key[0] == self.id)

    def read_anew(self) -> int:
        """The generation of the index that counts by now.  Raises as :attr:`generation`."""
        look_again(self._storage, self.id)
        opened, _ = open_newest(self._storage, self._keys, self.id, layout.INDEX)
        opened.close()
        return opened.generation

    def is_outdated(self) -> bool:
        """Whether files that are open have later generations now, or are gone."""
        with self._lock:
            opened = dict(self._files)
        if not opened:
            return False
        newest = generations(self._storage, self.id)
        return any(
            newest.get(kind) != self._numbers[kind] or file.is_gone()
            for kind, file in opened.items()
        )

    @property
    def is_open(self) -> bool:
        """Whether any of its files is open."""
        return bool(self._files)

    def drop_removed(self) -> None:
        """Let go of files that have no name any more: open, they would keep their room.

        Far away, of those that were replaced when the archive was listed last.
        """
        if self._is_older() if is_far(self._storage) else self._has_removed():
            self.refresh()

    def _is_older(self) -> bool:
        if not self.is_open:
            return False
        newest = known_generations(self._storage, self.id)
        with self._lock:
            return any(newest.get(kind) != self._numbers[kind] for kind in self._files)

    def _has_removed(self) -> bool:
        with self._lock:
            return any(file.is_removed for file in self._files.values())

    @property
    def generation(self) -> int:
        """That of the index that is read.  Raises ObjectMissing, FormatDamaged."""
        return self.file(layout.INDEX).generation

    @abc.abstractmethod
    def _forget(self) -> None:
        """Forget what was read: the files are to be opened anew."""

    def close(self) -> None:
        """Close the archive's files."""
        with self._lock:
            for opened in self._files.values():
                opened.close()
            self._files.clear()
