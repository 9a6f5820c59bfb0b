"""A content while it is written, across archives if need be; all but whole small ones are made so.

Its bytes are literals, which become its payload, and ranges that take them from elsewhere: from a
base, which it is a delta against then, or from the payloads of donors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ibtfs.errors import BaseDamaged, IntegrityError
from ibtfs.format.digests import SLAB, Digests
from ibtfs.format.extents import (
    BASE,
    DONOR,
    HOLE,
    OWN,
    RANGE_LIMIT,
    ZEROS,
    MapBuilder,
    Range,
)
from ibtfs.format.frames import LARGE, LITERALS
from ibtfs.format.index import DONOR_LIMIT, SHELL_DIGEST, ContentRecord, Reference
from ibtfs.store.contents.holes import may_have_holes
from ibtfs.store.contents.slabs import SlabDigests, encode_slabs, kept_of
from ibtfs.store.writing import flatten
from ibtfs.store.writing.run import Holes, RunWriter, holes_among

PARTS_LIMIT = 16
"""A content is cut into at most about so many parts by the size of archives."""
PART_LEAST = 64 << 20
"""Less than this is not made a part when an archive is closed for its age."""
COPY_BYTES = 4 << 20


class Stored(NamedTuple):
    """A content that is there already; *slabs* are the digests of its slabs: none of small ones."""

    ref: Reference
    record: ContentRecord
    slabs: SlabDigests

    def has(self, slab: int, digest: bytes, length: int) -> bool:
        """Whether slab number *slab* of it has this *digest* and *length*."""
        if not 0 <= slab < len(self.slabs) or self.slabs[slab] != kept_of(digest):
            return False
        return min(SLAB, self.record.size - slab * SLAB) == length


class _Part:
    """What the open archive has of a payload, should it become a content of its own.

    *first* is the number of its first range.
    """

    def __init__(self, first: int, digests: Digests) -> None:
        self.first = first
        self.slabs = SlabDigests()
        self._hasher = digests.hasher(self.slabs.append)

    def append(self, data: bytes | memoryview, digest: bytes | None) -> None:
        """Take note of *data*; *digest* is that of it as a slab, if it is known."""
        if digest is None or len(data) < SLAB or self._hasher.size % SLAB:
            self._hasher.update(data)
        else:
            self._hasher.add_slab(digest, SLAB)
            self.slabs.append(digest)

    def finish(self) -> bytes:
        """The digest of all of it."""
        return self._hasher.finish()


class Draft:
    """One content, its bytes given in order, once; used by one thread.

    Copies come from *base*.  A content of about *expected* bytes may be cut: when the archive being
    written is due to be closed, what the content has in it becomes a content of its own, a part,
    and a donor of this one.  Without *expected* it is not.

    *own* counts payload bytes in the open archive, *added* all that the content has cost.
    """

    def __init__(
        self, writer: RunWriter, base: Stored | None = None, *, expected: int | None = None
    ) -> None:
        self._writer, self.base = writer, base
        self._cuts = expected is not None
        self._part_bytes = max(writer.archive_bytes, (expected or 0) // PARTS_LIMIT)
        self._builder = MapBuilder()
        self.donors: list[Reference] = []
        self.added = 0
        self._looked_at: Reference | None = None
        self._has_holes = False
        self._begin(LARGE if base is None else LITERALS)

    def _begin(self, stream: int) -> None:
        """Begin an empty payload in *stream* of the open archive."""
        self._stream, self._start = stream, self._writer.archive.position(stream)
        self._part = _Part(len(self._builder.ranges), self._writer.digests)
        self.own = 0

    def rebase(self, base: Stored) -> None:
        """Go on as a delta against *base*; no literals and no copies may have been added yet."""
        if self.own or self.copies:
            raise ValueError("What was added already leads elsewhere")
        self.base = base
        self._begin(LITERALS)

    @property
    def copies(self) -> bool:
        """Whether anything is copied from the base."""
        return any(item.code == BASE for item in self._builder.ranges)

    @property
    def holes(self) -> Holes:
        """The holes that it has."""
        return holes_among((item.code, item.length) for item in self._builder.ranges)

    @property
    def is_crowded(self) -> bool:
        """Whether the map has so many ranges that no slab may be cut into several any more."""
        return len(self._builder.ranges) > RANGE_LIMIT * 9 // 10

    @property
    def is_full(self) -> bool:
        """Whether all the rest has to be one range."""
        return len(self._builder.ranges) > RANGE_LIMIT - 1000

    def append(self, data: bytes | memoryview, digest: bytes | None = None) -> None:
        """Add literals; *data* must not change afterwards.  *digest*: if they are a slab, its."""
        if self._cuts:
            if self._is_due:
                self._close_part()
            self._part.append(data, digest)
        self._put(self._builder, data)

    def add(self, code: int, offset: int, length: int) -> None:
        """Add a range of *length* bytes: a hole, zeros, a copy, or of a donor's payload."""
        self._builder.add(code, offset, length)

    def copy(self, offset: int, length: int) -> None:
        """Add a copy from the base, of what is data here: holes of the base become zeros."""
        for code, count in self._copied(offset, length):
            self.add(code, offset, count)
            offset += count

    def _copied(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Codes and lengths of the ranges of a copy."""
        base, contents = self.base, self._writer.contents
        if base is None or self.is_crowded:
            return [(BASE, length)]
        try:
            if self._looked_at != base.ref:
                self._has_holes = may_have_holes(contents, base.ref)
                self._looked_at = base.ref
            if not self._has_holes:
                return [(BASE, length)]
            return [
                (ZEROS if s.owner is None and s.offset == HOLE else BASE, s.length)
                for s in contents.segments(base.ref, offset, offset + length)
            ]
        except IntegrityError:
            return [(BASE, length)]  # where a hole is cannot be told; its bytes are

    def donor(self, ref: Reference) -> int:
        """The code of ranges from the payload of *ref*, which becomes a donor."""
        if ref not in self.donors:
            self.donors.append(ref)
        return DONOR + self.donors.index(ref)

    def _put(self, builder: MapBuilder, data: bytes | memoryview) -> None:
        """Append *data* to the payload, and its range to a map."""
        builder.add(OWN, self.own, len(data))
        self._writer.archive.append(self._stream, data)
        self.own += len(data)
        self.added += len(data)

    @property
    def _is_due(self) -> bool:
        """Whether what the open archive holds of it should become a part."""
        if not self._writer.is_due or self.own < SLAB:
            return False
        parts = len(self.donors)
        # the size of a stream is not known: parts grow, so that they stay few
        if self._writer.archive.data_bytes >= self._part_bytes << (parts // PARTS_LIMIT):
            return parts < DONOR_LIMIT - 4
        return self.own >= PART_LEAST and parts < PARTS_LIMIT

    def _close_part(self) -> None:
        """Make a content of what the open archive has of this one, and close the archive."""
        part, ranges = self._part, self._builder.ranges
        digest = part.finish()
        record = self._record(digest, self.own, self._add_slabs(part.slabs, None))
        code = self.donor(self._writer.add_content(record))
        for row in range(part.first, len(ranges)):
            if ranges[row].code == OWN:
                ranges[row] = Range(code, ranges[row].offset, ranges[row].length)
        self._writer.close_archive()
        self._begin(self._stream)

    def finish(
        self, digest: bytes, size: int, slabs: SlabDigests | None = None
    ) -> tuple[Reference, int]:
        """Write the record of the content; where it is, and the payload bytes added for it.

        *digest* and *size* are of all of it, and so are *slabs*, which are kept of a large one for
        the deltas that come after it.  Raises BaseDamaged if its chain can be no longer, and cannot
        be read.
        """
        base, holes = self.base if self.copies else None, self.holes
        flat = base is not None and self._is_at_bound(base, is_large=slabs is not None)
        ranges, number = self._builder.ranges, -1
        is_plain = len(ranges) == 1 and ranges[0].code == OWN
        if slabs is not None:
            number = self._add_slabs(slabs, _slabs_below(base, slabs, is_flat=flat))
        if base is not None and flat:
            base = self._flatten(base)
        record = self._record(digest, size, number)._replace(donors=tuple(self.donors))
        if base is not None:
            record = record._replace(depth=base.record.depth + 1, base=base.ref)
        ref = self._writer.add_content(record, None if is_plain else self._builder.finish())
        if holes:
            self._writer.holes[ref] = holes
        return ref, self.added

    def _record(self, digest: bytes, size: int, slabs: int) -> ContentRecord:
        """The record of a content with the payload that is in the open archive."""
        return ContentRecord(digest, size, self._stream, self._start, self.own, slabs=slabs)

    def _add_slabs(self, slabs: SlabDigests, base: SlabDigests | None) -> int:
        """Write *slabs*, or which of them differ from those of *base*; their first record."""
        return self._writer.archive.add_slabs(encode_slabs(slabs, base))

    def _is_at_bound(self, base: Stored, *, is_large: bool) -> bool:
        """Whether its chain would be too long."""
        contents, ranges = self._writer.contents, self._builder.ranges
        count = flatten.chain_ranges(contents, base.ref, ranges) if is_large else 0
        return flatten.at_bound(base.record, count)

    def _flatten(self, base: Stored) -> Stored | None:
        """Take what was copied from the payloads that it lies in; the base that is still needed."""
        ranges = self._builder.ranges
        try:
            resolved = flatten.resolve(self._writer.contents, base.ref, ranges, self.donors)
            donors = flatten.kept_donors(resolved)
            builder = self._gathered(resolved, donors, keep_holes=True)
            if flatten.are_too_many(builder.ranges):
                donors, keep_holes = [], flatten.may_keep_holes(resolved)
                builder = self._gathered(resolved, donors, keep_holes=keep_holes)
        except BaseDamaged:
            if not flatten.may_be_deeper(base.record):
                raise
            return base
        self._builder, self.donors = builder, donors
        return None

    def _gathered(
        self, resolved: Iterable[flatten.Resolved], donors: Sequence[Reference], *, keep_holes: bool
    ) -> MapBuilder:
        """A map of *resolved*, in which only *donors* are; other payloads are copied into its own.

        Raises BaseDamaged.
        """
        builder = MapBuilder()
        codes: dict[Reference | None, int] = {ref: DONOR + n for n, ref in enumerate(donors)}
        for owner, item in resolved:
            if owner in codes:
                builder.add(codes[owner], item.offset, item.length)
            elif owner is None and (keep_holes or item.code == OWN):
                builder.add(*item)
            else:
                for piece in self._pieces(owner, item):
                    self._put(builder, piece)
        return builder

    def _pieces(self, owner: Reference | None, item: Range) -> Iterator[bytes | memoryview]:
        """The bytes of *item*: of the payload of *owner*, or zeros.  Raises BaseDamaged."""
        for first in range(0, item.length, COPY_BYTES):
            size = min(COPY_BYTES, item.length - first)
            try:
                payload = self._writer.contents.payload
                pieces = payload(owner, item.offset + first, size) if owner else [bytes(size)]
            except IntegrityError as error:
                raise BaseDamaged(str(error)) from error
            yield from pieces


def _slabs_below(base: Stored | None, slabs: SlabDigests, *, is_flat: bool) -> SlabDigests | None:
    """What *slabs* of a content upon *base* are listed against; None: all of them are listed."""
    if base is None:
        return SlabDigests() if slabs.is_sparse else None
    return base.slabs if base.record.slabs >= 0 and not is_flat else None


def add_payload(writer: RunWriter, pieces: Iterable[bytes | memoryview]) -> Reference:
    """Add *pieces*, together, as a payload that belongs to no content, in frames of its own.

    Raises StorageFull, StorageFailed.
    """
    if writer.is_due:
        writer.close_archive()
    archive, size = writer.archive, 0
    start = archive.position(LITERALS)
    for piece in pieces:
        archive.append(LITERALS, bytes(piece))
        size += len(piece)
    archive.end_frame(LITERALS)
    writer.beat()
    return writer.add_content(ContentRecord(SHELL_DIGEST, size, LITERALS, start, size))
