"""The next generation of an archive's index: what a plan keeps, rebuilt where it says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from ibtfs.errors import FormatDamaged
from ibtfs.format.compression import Codec
from ibtfs.format.extents import encode_parts
from ibtfs.format.frames import CONTENTS, DATA_STREAMS, HEADER, MAPS, SLABS, STATES, STREAMS
from ibtfs.format.index import ContentRecord, IndexHeader, Reference, encode_record, shell_of
from ibtfs.store import layout
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.archives.rewriter import FileRewriter
from ibtfs.store.contents.whole import kept_ranges
from ibtfs.store.removal.needed import Kept, needed_by, slab_numbers
from ibtfs.store.removal.plan import ArchivePlan
from ibtfs.store.removal.rebase import Rebased, shell_map
from ibtfs.store.repository import Repository


class Contents(NamedTuple):
    """The content records of an index to be: those that change, by number, and all that are kept.

    *kept* are the records as they were, or are to be, with what is kept of their payloads.
    """

    changed: dict[int, Rebased]
    kept: dict[int, Kept]


def planned_contents(repository: Repository, reader: ArchiveReader, plan: ArchivePlan) -> Contents:
    """What becomes of the content records of an archive.  Raises IntegrityError."""
    changed: dict[int, Rebased] = {}
    kept: dict[int, Kept] = {}
    for number, record in reader.contents():
        if number >= len(plan.contents):
            raise FormatDamaged(f"{reader.where}: has more contents than it says")
        if plan.contents[number]:
            if number in plan.rebuilt:
                changed[number] = plan.rebuilt[number]
            stays = changed[number].record if number in changed else record
            kept[number] = Kept(stays, [(0, record.length)])
        elif number in plan.shells:
            ranges = plan.shells[number]
            kept[number] = Kept(shell_of(record), ranges)
            here = kept_ranges(repository, Reference(reader.id, number), record)
            if not record.is_shell or ranges != here:
                extents = shell_map(record.length, ranges)
                changed[number] = Rebased(shell_of(record), extents, ())
    return Contents(changed, kept)


class IndexRewriter:
    """Writes the next generation of one index by a plan; used by one thread."""

    def __init__(self, repository: Repository, plan: ArchivePlan) -> None:
        self._repository, self._plan = repository, plan
        self._reader = repository.archive(plan.id)
        self._old = self._reader.file(layout.INDEX)
        self._header = self._reader.header
        self._contents = planned_contents(repository, self._reader, plan)
        self._ordinals = {name: place for place, name in enumerate(self._header.archives) if name}
        self._archives = list(self._header.archives)
        self._ends = dict(_ends(self._reader, self._header))
        self._maps: list[bytes] = []
        self._slabs: list[bytes] = []
        self._first_map, self._first_slab = self._ends["maps"], self._ends["slabs"]

    def write(self) -> int:
        """Make it durable, then visible; bytes written.

        Raises IntegrityError, StorageFull, StorageFailed, LockLost, ObjectExists.
        """
        bodies = {number: self._encoded(new) for number, new in self._contents.changed.items()}
        name = layout.archive_object(self._plan.id, layout.INDEX)
        codec = Codec(self._repository.config.level)
        storage, keys = self._repository.storage, self._repository.keys
        with FileRewriter(storage, keys, name, self._old, codec, renew=True) as file:
            if not self._header.has_data:
                needed = needed_by(self._contents.kept.values())
                file.keep_payloads(needed.payloads)
            file.keep_records(CONTENTS, _flags(self._contents.kept), bodies)
            file.keep_records(STATES, self._plan.states)
            file.keep_records(MAPS, _flags(self._kept_maps()))
            file.add_records(MAPS, self._first_map, self._maps)
            file.keep_records(SLABS, _flags(self._kept_slabs()))
            file.add_records(SLABS, self._first_slab, self._slabs)
            file.add_header(HEADER, self._new_header().encode())
            return file.finish()

    def _encoded(self, new: Rebased) -> bytes:
        """The body of a record that changes; its map and slabs get their numbers."""
        record = new.record._replace(map_first=0, map_parts=0)
        if len(new.extents) > 1 or record.donors or record.base or record.length != record.size:
            parts = encode_parts(new.extents)
            record = record._replace(
                map_first=self._first_map + len(self._maps), map_parts=len(parts)
            )
            self._maps += parts
        if new.slabs:
            record = record._replace(slabs=self._first_slab + len(self._slabs))
            self._slabs += new.slabs
        return encode_record(record, self._ordinal)

    def _ordinal(self, archive_id: str) -> int:
        if archive_id not in self._ordinals:
            self._ordinals[archive_id] = len(self._archives)
            self._archives.append(archive_id)
        return self._ordinals[archive_id]

    def _unchanged(self) -> Iterator[ContentRecord]:
        changed = self._contents.changed
        return (
            kept.record for number, kept in self._contents.kept.items() if number not in changed
        )

    def _kept_maps(self) -> set[int]:
        return {
            number
            for record in self._unchanged()
            for number in range(record.map_first, record.map_first + record.map_parts)
        }

    def _kept_slabs(self) -> set[int]:
        return {number for record in self._unchanged() for number in slab_numbers(record)}

    def _new_header(self) -> IndexHeader:
        self._ends["maps"] += len(self._maps)
        self._ends["slabs"] += len(self._slabs)
        return replace(self._header, archives=tuple(self._archives), ends=self._ends)


def _flags(numbers: dict[int, Kept] | set[int]) -> bytearray:
    flags = bytearray(max(numbers, default=-1) + 1)
    for number in numbers:
        flags[number] = 1
    return flags


def _ends(reader: ArchiveReader, header: IndexHeader) -> Iterator[tuple[str, int]]:
    """One more than the last number, or address, ever given in each stream.

    Told by the records, for all of those are there until the first of them is pruned; from then on
    by the header.  Raises IntegrityError.
    """
    index = reader.file(layout.INDEX)
    ends = {STREAMS[stream]: index.table(stream).end for stream in (*DATA_STREAMS, MAPS, SLABS)}
    for _, record in reader.contents():
        for name, end in (
            ("maps", record.map_first + record.map_parts),
            ("slabs", slab_numbers(record).stop),
            (STREAMS[record.stream], record.start + record.length),
        ):
            ends[name] = max(ends[name], end)
    for name, end in header.ends.items():
        ends[name] = max(ends.get(name, 0), end)
    yield from ends.items()
