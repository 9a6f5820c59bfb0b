"""The payload of a large content while it is written, across archives if need be."""

from __future__ import annotations

from blake3 import blake3

from ibtfs.format.extents import DONOR, OWN, RANGE_LIMIT, MapBuilder, Range
from ibtfs.format.index import DONOR_LIMIT, ContentRecord, Reference
from ibtfs.store.contents.slabs import SLAB, SlabDigests, encode_slabs, slab_digest
from ibtfs.store.writing.run import RunWriter

PARTS_LIMIT = 16
"""A content is cut into at most about so many parts by the size of archives."""
PART_LEAST = 64 << 20
"""Less than this is not made a part when an archive is closed for its age."""


class Payload:
    """Collects the literals and the map of one content of about *size* bytes.

    When the archive being written is due to be closed, what the content has in it becomes a
    content of its own, a part, and a donor of this one.
    """

    def __init__(self, writer: RunWriter, stream: int, size: int) -> None:
        self._writer = writer
        self.builder = MapBuilder()
        self.donors: list[Reference] = []
        self.total = 0
        self._part_bytes = max(writer.archive_bytes, size // PARTS_LIMIT)
        self.restart(stream)

    def restart(self, stream: int) -> None:
        """Begin an empty payload in *stream* of the open archive."""
        self.stream = stream
        self.start = self._writer.archive.position(stream)
        self.own = 0
        self._first = len(self.builder.ranges)
        self._hasher = blake3()
        self._slabs = SlabDigests()
        self._aligned = True

    @property
    def is_crowded(self) -> bool:
        """Whether the map has so many ranges that no slab may be cut into several any more."""
        return len(self.builder.ranges) > RANGE_LIMIT * 9 // 10

    @property
    def is_full(self) -> bool:
        """Whether all the rest has to be one range."""
        return len(self.builder.ranges) > RANGE_LIMIT - 1000

    def append(self, data: bytes | memoryview) -> None:
        """Add literals, in the order of the content."""
        if self._is_due:
            self._close_part()
        self._hasher.update(data)
        if self.own % SLAB or len(data) > SLAB:
            self._aligned = False
        if self._aligned:
            self._slabs.append(slab_digest(data))
        self.builder.add(OWN, self.own, len(data))
        self._writer.archive.append(self.stream, data)
        self.own += len(data)
        self.total += len(data)

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

    def donor(self, ref: Reference) -> int:
        """The number of *ref* among the donors; it is added when new."""
        if ref not in self.donors:
            self.donors.append(ref)
        return self.donors.index(ref)

    def _close_part(self) -> None:
        """Make a content of what the open archive has of this one, and close the archive."""
        archive = self._writer.archive
        slabs = -1
        if self._aligned:
            slabs = archive.add_slabs(encode_slabs(self._slabs, None))
        record = ContentRecord(
            self._hasher.digest(), self.own, self.stream, self.start, self.own, slabs=slabs
        )
        code = DONOR + self.donor(self._writer.add_content(record))
        ranges = self.builder.ranges
        for row in range(self._first, len(ranges)):
            if ranges[row].code == OWN:
                ranges[row] = Range(code, ranges[row].offset, ranges[row].length)
        self._writer.close_archive()
        self.restart(self.stream)
