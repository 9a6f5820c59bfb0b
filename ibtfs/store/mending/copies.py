"""What a copy of a repository still has: whole files, frames, bytes of payloads, manifests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ibtfs.errors import FormatDamaged, IntegrityError, NotARepository, ObjectMissing
from ibtfs.format.compression import Codec
from ibtfs.format.point import decode_point
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.generations import generations
from ibtfs.store.archives.newest import counting
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.archives.rewriter import FileRewriter
from ibtfs.store.mending.payloads import mend_payloads
from ibtfs.store.mending.pieces import Found
from ibtfs.store.points import MANIFEST_LIMIT
from ibtfs.store.removal.needed import kept_in
from ibtfs.store.removal.sweep import Sweeper
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import whole
from ibtfs.store.storage.opening import Place, storage_at

PIECE = 1 << 20
STEP = 64 << 10
CHECKSUM = 16


class Lack(NamedTuple):
    """An object that is damaged or missing here, and whole in the copy."""

    name: str
    archive: str


class CopyGiver:
    """Gives bytes of payloads from the archive of a copy, whose frames are verified."""

    def __init__(self, reader: ArchiveReader) -> None:
        self._reader = reader

    def give(self, stream: int, start: int, end: int) -> Found:
        """As Giver says."""
        try:
            return [(start, b"".join(self._reader.payload(stream, start, end - start)))]
        except IntegrityError:
            if end - start <= STEP:
                return []
        found: Found = []
        for low in range(start, end, STEP):
            found += self.give(stream, low, min(low + STEP, end))
        return found


class Copy:
    """A copy of *repository*: *other* has the same id.  *beat* is called often; one thread."""

    def __init__(self, repository: Repository, other: Repository, beat: Callable[[], None]) -> None:
        self._repository, self._other, self._beat = repository, other, beat

    def lacking(self) -> Iterator[Lack]:
        """The objects that can be taken from the copy as they are there: reads all that both have.

        Raises StorageFailed.
        """
        repository = self._repository
        names = self._other.archive_ids()
        needed = self._named()
        for archive_id in names:
            here, there = (
                counting(r.storage, r.keys, archive_id) for r in (repository, self._other)
            )
            if layout.INDEX not in here and (
                archive_id not in needed or self._is_removed(archive_id)
            ):
                continue  # it was removed, or never was here
            for kind, generation in there.items():
                name = layout.archive_file(archive_id, kind, generation)
                if generation < here.get(kind, 0) or self._is_sound(repository, archive_id, name):
                    continue
                if self._is_wanted(archive_id, kind, here) and self._is_sound(
                    self._other, archive_id, name
                ):
                    yield Lack(name, archive_id)
        yield from self._lacking_points()

    def _named(self) -> set[str]:
        """The archives that manifests and indexes here name, as far as they can be read."""
        repository = self._repository
        named = {point.state.archive for point in repository.points.all().points}
        for archive_id in repository.archive_ids():
            try:
                named.update(repository.archive(archive_id).header.archives)
            except IntegrityError:
                named.add(archive_id)
        for point_id in self._lost_points():
            try:
                named.add(self._other.points.get(point_id).state.archive)
            except IntegrityError:
                continue
        return named

    def _is_removed(self, archive_id: str) -> bool:
        return layout.REMOVED in self._repository.storage.list(layout.archive(archive_id))

    def _is_wanted(self, archive_id: str, kind: str, here: dict[str, int]) -> bool:
        """Whether an archive is to have a file of a kind; so it is if that cannot be told."""
        if kind in here or kind == layout.INDEX:
            return True
        try:
            return kind in self._repository.archive(archive_id).kinds
        except IntegrityError:
            return True

    def _is_sound(self, repository: Repository, archive_id: str, name: str) -> bool:
        """Whether a file of an archive is there, and all of its frames verify."""
        found = layout.parse_archive_file(name)
        assert found is not None
        try:
            with repository.storage.open(name) as stored:
                object_name = layout.archive_object(archive_id, found.kind)
                FrameFileReader(repository.keys, object_name, stored).verify(self._beat)
        except IntegrityError:
            return False
        return True

    def _lost_points(self) -> list[str]:
        """Points of the copy that are not here, nor were removed on purpose: archives are left."""
        points = self._repository.points
        runs = {name.rpartition(".")[0] for name in self._repository.storage.list(layout.ARCHIVES)}
        gone = set(self._other.points.ids()) - {*points.ids(), *points.forgotten()}
        lists = self._repository.unlocked.lists
        return sorted(one for one in gone & runs if lists is None or not lists.is_gone(one))

    def _lacking_points(self) -> Iterator[Lack]:
        damaged = self._repository.points.all().damaged
        for point_id in [*sorted(damaged), *self._lost_points()]:
            name = layout.point(point_id)
            try:
                data = whole(self._other.storage, name, MANIFEST_LIMIT)
                decode_point(data, name, point_id, self._repository.keys)
            except IntegrityError:
                continue
            yield Lack(name, "")

    def take(self, lack: Lack) -> None:
        """Put an object of the copy in the place of the one here.

        A file of an archive of which a later generation was listed since becomes one that is later.
        For who is alone in the repository.  Raises IntegrityError, LockLost, StorageFull,
        StorageFailed.
        """
        file, lists = layout.parse_archive_file(lack.name), self._repository.unlocked.lists
        if lack.archive and file is not None and lists is not None:
            least = lists.least_generation(layout.archive_object(lack.archive, file.kind))
            if file.generation < least:
                self._take_later(lack, file.kind, least)
                return
        with (
            self._other.storage.open(lack.name) as stored,
            self._repository.storage.replace(lack.name) as upload,
        ):
            for start in range(0, stored.size, PIECE):
                self._beat()
                upload.write(stored.read(start, min(PIECE, stored.size - start)))
            upload.finish()

    def _take_later(self, lack: Lack, kind: str, after: int) -> None:
        repository, name = self._repository, layout.archive_object(lack.archive, kind)
        with self._other.storage.open(lack.name) as stored:
            old = FrameFileReader(repository.keys, name, stored)
            codec = Codec(repository.config.level)
            with FileRewriter(
                repository.storage, repository.keys, name, old, codec, after=after
            ) as file:
                for stream in old.tables:
                    self._beat()
                    file.copy_all(stream)
                file.finish()

    def hurt(self) -> list[str]:
        """The archives that both have and of which something is still missing here."""
        both = set(self._repository.archive_ids()) & set(self._other.archive_ids())
        return [archive_id for archive_id in sorted(both) if self._is_hurt(archive_id)]

    def _is_hurt(self, archive_id: str) -> bool:
        repository = self._repository
        reader = repository.archive(archive_id)
        try:
            for kind in reader.kinds:
                generation = reader.file(kind).generation
                name = layout.archive_file(archive_id, kind, generation)
                if not self._is_sound(repository, archive_id, name):
                    return True
            for record, ranges in kept_in(repository, reader):
                for start, end in ranges:
                    if not reader.covers(record.stream, record.start + start, end - start):
                        return True
        except IntegrityError:
            return True
        return False

    def mend(self, archive_id: str) -> str:
        """Take what fits of an archive of the copy; what that was, nothing if there was nothing.

        For who is alone in the repository.  Raises IntegrityError, LockLost, StorageFull,
        StorageFailed.
        """
        done = []
        for kind in (layout.INDEX, layout.SIGS):
            if kind in generations(self._repository.storage, archive_id):
                count = self.mend_records(archive_id, kind)
                done += [f"{count} frames of {kind}"] if count else []
        giver = CopyGiver(self._other.archive(archive_id))
        size = mend_payloads(self._repository, archive_id, giver, self._beat)
        done += [f"{size} bytes of contents"] if size else []
        return f"{' and '.join(done)} taken from the copy" if done else ""

    def mend_records(self, archive_id: str, kind: str) -> int:
        """Take frames of records from another generation of a file: how many.

        Only those whose checksum is the one that the damaged frame has.  For who is alone in the
        repository.  Raises IntegrityError, LockLost, StorageFull, StorageFailed.
        """
        here = self._repository.archive(archive_id).file(kind)
        there = self._other.archive(archive_id).file(kind)
        taken = {
            (stream, row): place
            for stream, table in here.tables.items()
            for row in range(len(table.starts))
            if (place := self._same_frame(here, there, stream, row)) >= 0
        }
        if taken:
            self._rewrite(archive_id, kind, (here, there), taken)
        return len(taken)

    def _same_frame(
        self, here: FrameFileReader, there: FrameFileReader, stream: int, row: int
    ) -> int:
        """The row of the frame of the copy that a damaged one was; -1 if there is none."""
        self._beat()
        try:
            here.frame(stream, row)
            return -1
        except FormatDamaged:
            ours, other = here.table(stream), there.table(stream)
        place = other.find(ours.starts[row])
        if place < 0 or other.starts[place] != ours.starts[row]:
            return -1
        if (other.counts[place], other.runs[place]) != (ours.counts[row], ours.runs[row]):
            return -1
        if other.marks[place] != ours.marks[row] or (
            # marks tell sealed frames apart, checksums those that are not
            not ours.marks[row]
            and there.stored_frame(stream, place)[:CHECKSUM]
            != here.stored_frame(stream, row)[:CHECKSUM]
        ):
            return -1
        try:
            there.frame(stream, place)
        except IntegrityError:
            return -1
        return place

    def _rewrite(
        self, archive_id: str, kind: str, files: tuple[FrameFileReader, FrameFileReader],
        taken: dict[tuple[int, int], int],
    ) -> None:  # fmt: skip
        old, other = files
        repository = self._repository
        name = layout.archive_object(archive_id, kind)
        codec = Codec(repository.config.level)
        with FileRewriter(repository.storage, repository.keys, name, old, codec) as file:
            for stream, table in old.tables.items():
                for row in range(len(table.starts)):
                    place = taken.get((stream, row))
                    if place is None:
                        file.copy(stream, row)
                    else:
                        file.copy_from(other, stream, row, place)
            file.finish()
        Sweeper(repository).drop_earlier(archive_id)
        repository.forget_read()


def configured_by(place: Place, other: Repository) -> Repository:
    """The repository at *place*, whose configuration is lost, with that of its copy *other*.

    It is put there.  Raises NotARepository unless *other* is a copy, StorageFull, StorageFailed.
    """
    storage = storage_at(place).shared_as(other.config.shared)
    found = Repository(storage, other.config, other.unlocked)
    if not _is_readable(found):
        raise NotARepository("Nothing there belongs to the repository that is to be its copy")
    with other.storage.open(layout.CONFIG) as stored, storage.replace(layout.CONFIG) as upload:
        upload.write(stored.read(0, stored.size))
        upload.finish()
    return found


def _is_readable(repository: Repository) -> bool:
    if repository.points.all().points:
        return True
    for archive_id in repository.archive_ids():
        try:
            repository.archive(archive_id).require_header()
        except (IntegrityError, ObjectMissing):
            continue
        return True
    return False
