"""Putting the files of small old archives together into bundles, and writing bundles anew.

A *unit* is an archive that lies in its folder, or a bundle.  Units fall into tiers by size; when
there are enough of one tier, they become one larger unit.  So there are few units however many
archives there are, and a byte is written about once a tier.  A bundle of which much is dead, or
whose archives have many folders beside it, is written anew without that.

A bundle is durable before anything that lies in it goes from where it was.  So it may be cut off at
any moment: then some files are there twice, and alike, and the next time they go.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from ibtfs.errors import IntegrityError, ObjectMissing, ObjectUnreadable, StorageFailed, StorageFull
from ibtfs.format.bundle import ARCHIVES_LIMIT, Directory, Member, encode_ends
from ibtfs.format.compression import Codec
from ibtfs.store import layout
from ibtfs.store.archives.generations import all_generations, generations
from ibtfs.store.lock import Lock
from ibtfs.store.removal.held import Held, Unit, held_in_bundles
from ibtfs.store.removal.stored import PIECE, Stored
from ibtfs.store.repository import Repository

log = logging.getLogger(__name__)

SPARE = 16 << 20
"""Bytes that are to stay free: bundles are not worth a full disk."""


class Bounds(NamedTuple):
    """What is put together: archives of less than *archive_size* bytes, older than *age* seconds.

    *tiers* are sizes below which units belong together; *least* is how many of them become one. A
    bundle has at most *archives* archives and *size* bytes.  It is written anew if more than one
    of *dead_share* bytes in it is dead.
    """

    least: int = 32
    tiers: tuple[int, ...] = (64 << 10, 2 << 20, 64 << 20)
    archive_size: int = 4 << 20
    age: float = 24 * 3600
    size: int = 256 << 20
    archives: int = ARCHIVES_LIMIT
    dead_share: int = 4


BOUNDS = Bounds()


class Bundled(NamedTuple):
    """What was done: *archives* came into a bundle; bytes *written* for it, and *freed* by it."""

    archives: int = 0
    written: int = 0
    freed: int = 0
    failed: str = ""


class _Unreadable(Exception):
    """An archive that cannot be put into a bundle, and why."""

    def __init__(self, archive_id: str, error: IntegrityError) -> None:
        super().__init__(str(error))
        self.archive_id = archive_id


class Bundler:
    """Puts archives of a repository together; used by one thread, whose prune lock is *lock*.

    *most* bounds the bytes that are written; with *all_of_it* nothing dead stays in bundles.
    *tick* is called now and then while it works.
    """

    def __init__(
        self,
        repository: Repository,
        lock: Lock,
        bounds: Bounds,
        *,
        most: int | None = None,
        all_of_it: bool = False,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._repository, self._lock, self._bounds = repository, lock, bounds
        self._storage, self._left, self._all, self._tick = repository.storage, most, all_of_it, tick
        self._units: list[Unit] = []

    def run(self) -> Iterator[Bundled]:
        """Do it, step by step.  Raises LockLost, StorageFailed."""
        bundled = self._storage.bundles.archives()
        yield Bundled(freed=self._drop_twice(bundled))
        for held in held_in_bundles(self._storage):
            self._units.append(held.unit)
            if not held.live:
                self._units.pop()
                self._lock.verify()
                yield Bundled(freed=self._delete(held.name))
            elif self._is_worn(held):
                yield self._put_together([held.unit])
        self._units += self._in_folders()
        for tier in range(len(self._bounds.tiers)):
            while group := self._group(tier):
                yield self._put_together(group)

    # What goes

    def _drop_twice(self, archive_ids: Collection[str]) -> int:
        """Remove from folders what lies in bundles, too, and is alike; bytes freed."""
        freed = 0
        folders = self._storage.list_folder(layout.ARCHIVES)
        with Stored(self._storage) as stored:
            for archive_id in sorted(set(folders).intersection(archive_ids)):
                folder = layout.archive(archive_id)
                names = self._storage.list_folder(folder)
                if not names:
                    self._storage.delete(folder)
                for base in sorted(self._storage.bundles.names(archive_id).intersection(names)):
                    if stored.is_twice(f"{folder}/{base}"):
                        freed += self._delete(f"{folder}/{base}")
        return freed

    def _delete(self, name: str) -> int:
        """Remove an object; bytes freed."""
        size = 0
        with contextlib.suppress(IntegrityError):
            size = self._size(name)
        self._storage.delete(name)
        self._storage.bundles.look_again()
        return size

    def _size(self, name: str) -> int:
        with self._storage.open(name) as stored:
            return stored.size

    def _is_worn(self, held: Held) -> bool:
        """Whether a bundle is to be written anew by itself."""
        if self._all:
            return held.dead > 0
        beside = max(self._bounds.least, held.archives // self._bounds.least)
        return held.dead * self._bounds.dead_share > held.size or held.folders >= beside

    # What is put together

    def _in_folders(self) -> Iterator[Unit]:
        """The archives that may be put into a bundle, and lie in none."""
        bundled = self._storage.bundles.archives()
        names = [n for n in self._storage.list_folder(layout.ARCHIVES) if n not in bundled]
        self._lock.verify()  # ages are told by its time
        for name, files in all_generations(self._storage, names):
            if layout.INDEX not in files:
                continue
            if self._repository.age(name, self._lock) < self._bounds.age:
                continue
            try:
                size = sum(self._size(layout.archive_file(name, *file)) for file in files.items())
            except IntegrityError:
                continue  # a check tells of it
            if size < self._bounds.archive_size:
                yield Unit((name,), size)

    def _group(self, tier: int) -> list[Unit]:
        """Units of a tier that are to become one, the oldest first; none if they are too few."""
        lowest = self._bounds.tiers[tier - 1] if tier else 0
        units = sorted(
            unit
            for unit in self._units
            if lowest <= unit.size < self._bounds.tiers[tier]
            and len(unit.archives) * 2 <= self._bounds.archives
        )
        if len(units) < self._bounds.least:
            return []
        group: list[Unit] = []
        size = archives = 0
        for unit in units:
            size, archives = size + unit.size, archives + len(unit.archives)
            if size > self._bounds.size or archives > self._bounds.archives:
                break
            group.append(unit)
        return group if len(group) > 1 else []

    def _put_together(self, units: Sequence[Unit]) -> Bundled:
        """Make one bundle of *units*; these are replaced by it, or are none any more."""
        size = sum(unit.size for unit in units)
        archives = sorted({name for unit in units for name in unit.archives})
        try:
            if not self._is_room(size):
                raise StorageFull("Small archives were not put together: too little room")
            name, written = self._write(archives)
        except StorageFull as error:
            log.debug("%s", error)
            self._units = [unit for unit in self._units if unit not in units]
            return Bundled(failed=str(error) if self._all else "")
        except _Unreadable as error:
            # it stays as it is, and does not keep the others back
            self._units = [one for one in self._units if error.archive_id not in one.archives]
            return Bundled(failed=str(error))
        self._units = [unit for unit in self._units if unit not in units]
        self._units.append(Unit(tuple(archives), size, name))
        new = sum(1 for unit in units if not unit.bundle)
        return self._drop_old(units, archives, Bundled(new, written))

    def _is_room(self, size: int) -> bool:
        space = self._repository.space()
        is_allowed = self._left is None or size <= self._left
        return is_allowed and space.blocks_available * space.block_size >= size + SPARE

    def _drop_old(self, units: Sequence[Unit], archives: Sequence[str], done: Bundled) -> Bundled:
        """Remove what now lies in a new bundle.  Some file systems keep what somebody has open."""
        freed = 0
        try:
            for unit in units:
                if unit.bundle:
                    self._lock.verify()  # else others may have taken the new one for dead
                    freed += self._delete(unit.bundle)
            freed += self._drop_twice(archives)
        except StorageFailed as error:
            return done._replace(freed=freed, failed=str(error))
        return done._replace(freed=freed)

    # Writing

    def _write(self, archives: Sequence[str]) -> tuple[str, int]:
        """Write a bundle of all that counts of *archives*: its name, and its size."""
        members: list[Member] = []
        for ordinal, archive_id in enumerate(archives):
            try:
                members += self._members(ordinal, archive_id)
            except IntegrityError as error:
                raise _Unreadable(archive_id, error) from error
        made = [self._storage.made(layout.archive_file(a, layout.INDEX, 1)) for a in archives]
        directory = Directory(archives, made, members, 0)
        name = layout.bundle(os.urandom(8).hex())
        codec = Codec(self._repository.config.level)
        first, last = encode_ends(self._repository.id, name, directory, codec)
        with self._storage.put(name) as upload:
            upload.write(first)
            for member in members:
                archive_id = archives[member.archive]
                try:
                    for piece in self._pieces(archive_id, member):
                        upload.write(piece)
                except IntegrityError as error:
                    raise _Unreadable(archive_id, error) from error
                self._tick()
            upload.write(last)
            upload.finish()
        if self._left is not None:
            self._left -= upload.size
        self._storage.bundles.look_again()
        if all(bundle.name != name for bundle in self._storage.bundles.all()):
            raise StorageFailed(f"{name}: cannot be read, though it was just written")
        self._require_indexes(name, directory)
        return name, upload.size

    def _require_indexes(self, name: str, directory: Directory) -> None:
        """See that all indexes in a new bundle verify; else it goes, and one archive is to blame.

        One that was damaged before is as it was.
        """
        with Stored(self._storage) as stored:
            for member in directory.all():
                if layout.KINDS[member.kind] != layout.INDEX:
                    continue
                archive_id, keys = directory.archives[member.archive], self._repository.keys
                try:
                    stored.require_index(keys, archive_id, member.generation, name)
                except IntegrityError as error:
                    self._lock.verify()  # else others may count on it by now
                    self._delete(name)
                    raise _Unreadable(archive_id, error) from error
                self._tick()

    def _members(self, ordinal: int, archive_id: str) -> Iterator[Member]:
        files = generations(self._storage, archive_id)
        if layout.INDEX not in files:
            raise ObjectMissing(f"{layout.archive_object(archive_id, layout.INDEX)}: is gone")
        for number, kind in enumerate(layout.KINDS):
            if kind in files:
                size = self._size(layout.archive_file(archive_id, kind, files[kind]))
                yield Member(ordinal, number, files[kind], size)

    def _pieces(self, archive_id: str, member: Member) -> Iterator[bytes]:
        kind = layout.KINDS[member.kind]
        with self._storage.open(layout.archive_file(archive_id, kind, member.generation)) as stored:
            for place in range(0, member.size, PIECE):
                size = min(PIECE, member.size - place)
                piece = stored.read(place, size)
                if len(piece) != size:
                    raise ObjectUnreadable(f"{stored.shown}: the disk gives less than it should")
                yield piece
