"""What of an archive's payloads and slab digests its records need: all that its files have to hold.

It is told by the records alone, so that it can be told at any time: after a crash, by another
machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.contents.slabs import slab_records
from ibtfs.store.contents.whole import kept_ranges
from ibtfs.store.removal.rebase import joined
from ibtfs.store.repository import Repository

Ranges = list[tuple[int, int]]


class Kept(NamedTuple):
    """A content record, and what of its payload is kept: (start, end) within it."""

    record: ContentRecord
    ranges: Ranges


class Needed(NamedTuple):
    """What files have to hold: ranges of addresses by data stream, and numbers of slab records."""

    payloads: dict[int, Ranges]
    slabs: set[int]


def needed_by(kept: Iterable[Kept]) -> Needed:
    """What the records of an index need."""
    payloads: dict[int, Ranges] = {}
    slabs: set[int] = set()
    for record, ranges in kept:
        if record.length:
            found = payloads.setdefault(record.stream, [])
            found += [(record.start + start, record.start + end) for start, end in ranges]
        slabs.update(slab_numbers(record))
    return Needed({stream: joined(ranges) for stream, ranges in payloads.items()}, slabs)


def slab_numbers(record: ContentRecord) -> range:
    """The numbers of the records of the vault that a content has."""
    return (
        range(record.slabs, record.slabs + slab_records(record.size))
        if record.slabs >= 0
        else (range(0))
    )


def flags_of(file: FrameFileReader, stream: int, numbers: Iterable[int]) -> bytearray:
    """A 1 in the place of each of *numbers* that *file* has of a stream."""
    flags = bytearray(file.table(stream).end)
    for number in numbers:
        if number < len(flags):
            flags[number] = 1
    return flags


def kept_in(repository: Repository, reader: ArchiveReader) -> Iterator[Kept]:
    """The records of an index as it is.  Raises IntegrityError."""
    for number, record in reader.contents():
        ref = Reference(reader.id, number)
        yield Kept(record, kept_ranges(repository, ref, record))
