"""Bytes that stay of payloads that go: copied, so that of those payloads nothing is left.

A plan keeps of a content that goes the ranges that others take from it.  To a purge that is too
much: how long the payload was, where in it they lay, and what followed what, though no content
that stays has both.  So they are copied into an archive that refers to nothing, each range that
somebody takes by itself, the last one first; and what was built on them is built on the copies.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from ibtfs.format.extents import DONOR, RANGE_LIMIT, ExtentMap, MapBuilder
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store.contents.reader import Contents
from ibtfs.store.removal.plan import ArchivePlan, Plan, Ranges
from ibtfs.store.removal.rebase import Rebased, payload_used, slabs_on
from ibtfs.store.repository import Repository

COPY_BYTES = 4 << 20
HOLES_KEPT = RANGE_LIMIT // 4
"""A content with more holes is copied with zeros in their place."""


class Copies(Protocol):
    """Where copies are put."""

    def add(self, pieces: Iterable[bytes | memoryview]) -> Reference:
        """Store *pieces*, together, as a mere payload.  Raises StorageFull, StorageFailed."""
        ...

    def finish(self) -> None:
        """Make all that was added durable, and readable.  Raises as :meth:`add`."""
        ...


class _Moved(NamedTuple):
    """Where ranges of a payload are now: where each began, in order, and where each begins now.

    Those that overlap are there one by one: each begins, and ends, behind the one before.
    """

    ref: Reference
    starts: list[int]
    places: list[int]

    def place(self, offset: int) -> int:
        """Where the byte is that was at *offset*, and what follows it in any range."""
        row = bisect.bisect_right(self.starts, offset) - 1
        return self.places[row] + offset - self.starts[row]


def copy_what_stays(repository: Repository, plan: Plan, copies: Copies) -> int:
    """Change *plan* so that it keeps no part of a payload, but copies of it; how many there are.

    The copies are made.  Whole payloads of which all stays are not copied.  Raises IntegrityError,
    StorageFull, StorageFailed.
    """
    work = _Copying(repository, plan, copies)
    work.copy_parts()
    work.copy_unfit()
    copies.finish()
    work.change_plan()
    return len(work.made)


class _Copying:
    """One plan, being changed."""

    def __init__(self, repository: Repository, plan: Plan, copies: Copies) -> None:
        self._repository, self._plan, self._copies = repository, plan, copies
        self._contents = Contents(repository)
        self._moved: dict[Reference, _Moved] = {}
        self.made: list[Reference] = []

    def _put(self, pieces: Iterable[bytes | memoryview]) -> Reference:
        ref = self._copies.add(pieces)
        self.made.append(ref)
        return ref

    def copy_parts(self) -> None:
        """Copy what others take of payloads of which they do not take all, as it is."""
        taken: dict[Reference, set[tuple[int, int]]] = {}
        for _, _, record, extents in self._built():
            for donor, start, end in payload_used(record, extents):
                if donor.number in self._plan.archives[donor.archive].shells:
                    taken.setdefault(donor, set()).add((start, end))
        for ref, used in sorted(taken.items()):
            ranges = _largest(used)
            if ranges != [(0, self._contents.record(ref).length)]:
                self._moved[ref] = self._copied(ref, ranges)

    def _built(self) -> Iterator[tuple[ArchivePlan, int, ContentRecord, ExtentMap]]:
        """The contents that stay and are built on payloads of others, as they are to be."""
        for archive in self._plan.archives.values():
            if archive.is_fixed:
                continue
            reader = self._repository.archive(archive.id)
            for number, record in reader.contents():
                new = archive.rebuilt.get(number)
                if not archive.contents[number] or not (new.record if new else record).donors:
                    continue
                if new is not None:
                    yield archive, number, new.record, new.extents
                else:
                    yield archive, number, record, reader.extents(number, record)

    def _copied(self, ref: Reference, ranges: Ranges) -> _Moved:
        lengths = [end - start for start, end in reversed(ranges)]
        places = list(itertools.accumulate(lengths, initial=0))[:-1]
        pieces = (
            piece
            for start, end in reversed(ranges)
            for first in range(start, end, COPY_BYTES)
            for piece in self._contents.payload(ref, first, min(COPY_BYTES, end - first))
        )
        return _Moved(self._put(pieces), [start for start, _ in ranges], places[::-1])

    def copy_unfit(self) -> None:
        """Copy contents that cannot be rebuilt in another way, whole."""
        for ref in self._plan.unfit:
            record = self._contents.record(ref)
            builder, own = MapBuilder(), 0
            holes = self._holes(ref, record)
            for code, length in holes if len(holes) <= HOLES_KEPT else [(DONOR, record.size)]:
                builder.add(code, own if code == DONOR else 0, length)
                own += length if code == DONOR else 0
            extents = builder.finish()
            donors = (self._put(self._bytes(ref, extents)),) if own else ()
            new = record._replace(base=None, depth=0, donors=donors, slabs=-1)
            slabs = slabs_on(self._repository, ref.archive, record, None)
            self._plan.archives[ref.archive].rebuilt[ref.number] = Rebased(new, extents, slabs)

    def _holes(self, ref: Reference, record: ContentRecord) -> list[tuple[int, int]]:
        """A content as zeros and bytes: code and length of each, DONOR for bytes."""
        found: list[tuple[int, int]] = []
        for owner, offset, length in self._contents.segments(ref, 0, record.size):
            code = DONOR if owner is not None else offset
            if found and found[-1][0] == code:
                found[-1] = (code, found[-1][1] + length)
            else:
                found.append((code, length))
        return found

    def _bytes(self, ref: Reference, extents: ExtentMap) -> Iterator[bytes | memoryview]:
        position = 0
        for code, _, length in extents.ranges():
            if code == DONOR:
                for first in range(0, length, COPY_BYTES):
                    size = min(COPY_BYTES, length - first)
                    yield from self._contents.own_pieces(ref, position + first, size)
            position += length

    def change_plan(self) -> None:
        """Build on the copies what was built on what they are copies of."""
        for archive, number, record, extents in self._built():
            if self._moved.keys().isdisjoint(record.donors):
                continue
            new = archive.rebuilt.get(number)
            if new is None:
                slabs = slabs_on(self._repository, archive.id, record, record.base)
                new = Rebased(record._replace(slabs=-1), extents, slabs)
            archive.rebuilt[number] = self._on_copies(new)
        for ref in self._moved:
            del self._plan.archives[ref.archive].shells[ref.number]
        for name in dict.fromkeys(ref.archive for ref in self.made):
            contents = self._repository.archive(name).contents()
            plan = ArchivePlan(name, bytearray(), bytearray())
            plan.shells = {number: [(0, record.length)] for number, record in contents}
            plan.contents = bytearray(max(plan.shells) + 1)
            self._plan.archives[name] = plan

    def _on_copies(self, content: Rebased) -> Rebased:
        """A content whose map names copies instead of what goes."""
        record, builder = content.record, MapBuilder()
        for code, offset, length in content.extents.ranges():
            moved = self._moved.get(record.donors[code - DONOR]) if code >= DONOR else None
            builder.add(code, moved.place(offset) if moved else offset, length)
        donors = tuple(self._moved[d].ref if d in self._moved else d for d in record.donors)
        new = record._replace(donors=donors)
        return content._replace(record=new, extents=builder.finish())


def _largest(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Those of *ranges*, (start, end) each, that lie in no other, in order."""
    found: Ranges = []
    for start, end in sorted(ranges, key=lambda item: (item[0], -item[1])):
        if not found or end > found[-1][1]:
            found.append((start, end))
    return found
