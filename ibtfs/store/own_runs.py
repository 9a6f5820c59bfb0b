"""What a machine that only writes keeps of its own runs, for it can read nothing of the repository.

In a folder of its own lie the indexes of its archives, without any payload, digests of slabs, its
manifests, and signatures of contents that change: what the next run is compared with.  They hold
names and digests, in clear; without them the next backup is a full one.  Nothing of other machines
is known, or built upon.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping

from ibtfs.errors import (
    IntegrityError,
    ObjectExists,
    ObjectMissing,
    StorageFailed,
    StorageFull,
)
from ibtfs.format.compression import Codec
from ibtfs.format.config import Config
from ibtfs.format.index import Reference
from ibtfs.format.keys import Keys, PlainKeys
from ibtfs.format.point import Point, decode_point, encode_point
from ibtfs.store import layout
from ibtfs.store.archives.generations import generations, known_generations, look_again
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.cache import ByteCache
from ibtfs.store.listed import Lists
from ibtfs.store.points import MANIFEST_LIMIT, Points
from ibtfs.store.storage.base import Storage, whole
from ibtfs.store.storage.bundled import BundledStorage
from ibtfs.store.storage.local import LocalStorage

log = logging.getLogger(__name__)

SUMS_LIMIT = 64 << 20
UNFINISHED_SECONDS = 2 * 86400
"""So long ago was begun what no run can be about to finish any more."""


class OwnRuns:
    """The runs of this machine, as far as it kept them in *folder*; threads may share it.

    *keys* are those of what it keeps, *tag* is what its runs are told by, *host* is whose points it
    makes; *begin* begins a run at a second, and gives its id.
    """

    def __init__(
        self, folder: bytes, keys: PlainKeys, tag: str, host: str, begin: Callable[[str], str]
    ) -> None:
        self.storage = LocalStorage(folder)
        self.keys, self.tag, self.host, self.begin = keys, tag, host, begin

    def is_own(self, run_id: str) -> bool:
        """Whether a run is this machine's, by its id."""
        return run_id.endswith(self.tag)

    def has(self, archive_id: str) -> bool:
        """Whether what an archive of a run has is known here."""
        return layout.INDEX in generations(self.storage, archive_id)

    def point_ids(self) -> list[str]:
        """The points that are known here."""
        return self.storage.list(layout.POINTS)

    def point(self, point_id: str) -> Point:
        """A point that is known here.  Raises ObjectMissing, FormatDamaged."""
        name = layout.point(point_id)
        return decode_point(whole(self.storage, name, MANIFEST_LIMIT), name, point_id, self.keys)

    def keep(self, point: Point) -> None:
        """Keep a point that was made.  Raises StorageFull, StorageFailed."""
        name = layout.point(point.id)
        with contextlib.suppress(ObjectExists):
            self.storage.put_new(name, encode_point(point, name, self.keys, Codec()))

    def keep_sums(self, ref: Reference, sums: bytes) -> None:
        """Keep the signature of a content.  Raises StorageFull, StorageFailed."""
        with contextlib.suppress(ObjectExists):
            self.storage.put_new(layout.own_sums(*ref), sums)

    def drop_sums(self, ref: Reference) -> None:
        """Keep it no more.  Raises StorageFailed."""
        self.storage.delete(layout.own_sums(*ref))

    def sums(self, ref: Reference) -> bytes:
        """The signature that was kept of a content; empty if there is none."""
        try:
            return whole(self.storage, layout.own_sums(*ref), SUMS_LIMIT)
        except IntegrityError:
            return b""

    def tidy(self, stored: Storage, note: Callable[[str], None]) -> None:
        """Forget what is not *stored* any more; a *note* if nothing is known of what was made here.

        Raises StorageFailed.
        """
        made = [name for name in stored.list(layout.POINTS) if self.is_own(name)]
        if made and not set(made).intersection(self.point_ids()):
            note(
                f"What this machine kept of its {len(made)} backup points is not there any more: "
                "all is stored anew"
            )
        gone = set(self.storage.list(layout.ARCHIVES)).difference(stored.list(layout.ARCHIVES))
        for archive_id in gone:
            self._forget(archive_id)
        for point_id in set(self.point_ids()).difference(made):
            self.storage.delete(layout.point(point_id))

    def _forget(self, archive_id: str) -> None:
        """Forget an archive, unless another run may be about to finish it."""
        folder = layout.archive(archive_id)
        names = [f"{folder}/{name}" for name in self.storage.list(folder, unfinished=True)]
        if not self.has(archive_id):
            latest = time.time() - UNFINISHED_SECONDS
            names = [name for name in names if 0 < self.storage.made(name) < latest]
        for name in names:
            self.storage.delete(name)


def as_made(found: Mapping[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Those of the archives *found*, with the files of each, that nothing has gone from.

    Later generations may lack what the machine knows that made them.
    """
    return {name: files for name, files in found.items() if set(files.values()) == {1}}


class OwnPoints(Points):
    """The points that this machine made, and that are still there: it cannot read others."""

    def __init__(self, storage: BundledStorage, config: Config, keys: Keys, own: OwnRuns) -> None:
        super().__init__(storage, config, keys, b"")
        self._own = own

    def ids(self, *, recent: bool = False) -> list[str]:
        """As Points says."""
        known = set(self._own.point_ids())
        return [point_id for point_id in super().ids(recent=recent) if point_id in known]

    def fetch(self, point_ids: Iterable[str]) -> None:
        """Fetch nothing: what is known of them is here."""

    def tidy(self, note: Callable[[str], None]) -> None:
        """As Points says."""
        self._own.tidy(self._storage, note)

    def _decoded(self, name: str, point_id: str) -> Point:
        return self._own.point(point_id)

    def commit(self, point: Point) -> Point:
        """As Points says."""
        named = super().commit(point)
        try:
            self._own.keep(named)
        except (StorageFailed, StorageFull) as error:
            log.warning("The next backup cannot be compared with this one: %s", error)
        return named


class OwnReader(ArchiveReader):
    """An archive that this machine made: its records are read from what was kept of it here.

    *stored* is where its files lie; their contents cannot be read.
    """

    def __init__(self, own: OwnRuns, stored: Storage, archive_id: str, cache: ByteCache) -> None:
        super().__init__(own.storage, own.keys, archive_id, cache)
        self._stored = stored
        self._there: dict[str, int] | None = None

    @property
    def _files_there(self) -> dict[str, int]:
        if self._there is None:
            self._there = known_generations(self._stored, self.id)
        return self._there

    @property
    def generation(self) -> int:
        """As ArchiveReader says: of the one in the repository, whose records are the same or fewer.

        Raises ObjectMissing.
        """
        if layout.INDEX not in self._files_there:
            name = layout.archive_object(self.id, layout.INDEX)
            raise ObjectMissing(f"{name}: no such file in the repository")
        return self._files_there[layout.INDEX]

    def read_anew(self) -> int:
        """As ArchiveReader says."""
        self._there = None
        look_again(self._stored, self.id)
        return self.generation

    def covers(self, stream: int, start: int, length: int) -> bool:
        """As ArchiveReader says, by what files there are: what lies in them is not seen."""
        return self._data_kind() in self._files_there

    def payload(self, stream: int, start: int, length: int) -> list[memoryview]:
        """Raise ObjectMissing."""
        raise self._unreadable()

    def frame_at(self, stream: int, address: int) -> tuple[int, memoryview] | None:
        """Raise ObjectMissing."""
        raise self._unreadable()

    def _unreadable(self) -> ObjectMissing:
        return ObjectMissing(f"{self.where}: this machine only writes, and cannot read it")


def points_of(
    storage: BundledStorage,
    config: Config,
    keys: Keys,
    own: OwnRuns | None,
    cache_folder: bytes,
    lists: Lists | None,
) -> Points:
    """The points of a repository, or those that this machine may read."""
    if own is None:
        return Points(storage, config, keys, cache_folder, lists)
    return OwnPoints(storage, config, keys, own)


def reader_of(
    storage: Storage,
    keys: Keys,
    own: OwnRuns | None,
    cache: ByteCache,
    lists: Lists | None,
    archive_id: str,
) -> ArchiveReader:
    """The reader of an archive, or of what this machine may read of it."""
    if own is None:
        return ArchiveReader(storage, keys, archive_id, cache, lists)
    return OwnReader(own, storage, archive_id, cache)
