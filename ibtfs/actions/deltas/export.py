"""The difference between two stored contents as a delta of rdiff's, made from their maps.

What both took from the same stored bytes is copied.  What the maps do not explain is looked for
in the bytes themselves: near by where the maps agree for the most part (for flattening stores
again what it gathers), and all over the old content, by librsync's signature of it, where they do
not.  Memory is bounded by the number of ranges of the maps, not by the size of the contents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ibtfs.actions.deltas.match import match, verified
from ibtfs.errors import LibraryMissing
from ibtfs.format.index import Reference
from ibtfs.format.rdelta import LITERAL, Data, Match, delta_pieces
from ibtfs.format.rsync import Signature, SignatureWriter
from ibtfs.store.contents.overlap import Places, worthwhile
from ibtfs.store.contents.reader import Contents, Segment
from ibtfs.store.repository import Repository

NEAR_BLOCK = 64
NEAR_PIECE = 256 << 10
NEAR_MARGIN = 4 << 10
NEAR_LEAST = 32
FAR_BLOCK = 1 << 10
FAR_PIECE = 4 << 20
READ = 1 << 20


class Side(NamedTuple):
    """What a delta leads from, or to: a content of *size* bytes; *ref* is None if that is 0."""

    ref: Reference | None
    size: int


class DeltaExport:
    """Makes the delta from *old* to *new*; used once, by one thread.

    *copied_bytes*, *literal_bytes* and *delta_bytes* are counted while :meth:`pieces` runs.
    """

    def __init__(self, repository: Repository, old: Side, new: Side) -> None:
        self._contents = Contents(repository)
        self._old, self._new = old, new
        self._zeros_missed = False
        self.copied_bytes = self.literal_bytes = self.delta_bytes = 0

    def pieces(self) -> Iterator[Data]:
        """The bytes of the delta, in order.

        Raises IntegrityError.
        """
        for piece in delta_pieces(self._counted(self._matches()), self._reader(self._new)):
            self.delta_bytes += len(piece)
            yield piece

    def _counted(self, matches: Iterable[Match]) -> Iterator[Match]:
        for item in matches:
            if item[0] == LITERAL:
                self.literal_bytes += item[2]
            else:
                self.copied_bytes += item[2]
            yield item

    def _matches(self) -> Iterator[Match]:
        old, new = self._old, self._new
        if not new.size:
            return iter(())
        if not old.size:
            return iter([(LITERAL, 0, new.size)])
        if self._are_equal():
            return iter([(0, 0, new.size)])
        places = Places(self._segments(old), old.size)
        stored = sum(length for owner, _, length in self._segments(new) if owner is not None)
        unknown = sum(n for place, _, n in self._mapped(places) if place == LITERAL)
        search = self._near if 2 * unknown <= stored else self._far
        return worthwhile(search(self._mapped(places)))

    def _are_equal(self) -> bool:
        old, new = self._old, self._new
        if old.ref is None or new.ref is None or old.size != new.size:
            return False
        digests = {self._contents.record(ref).digest for ref in (old.ref, new.ref)}
        return len(digests) == 1

    def _segments(self, side: Side) -> Iterator[Segment]:
        if side.ref is None:
            return iter(())
        record = self._contents.record(side.ref)
        if record.is_plain and record.size == side.size:
            return iter([Segment(side.ref, 0, side.size)])
        return self._contents.segments(side.ref, 0, side.size)

    def _mapped(self, places: Places) -> Iterator[Match]:
        return worthwhile(places.matches(self._segments(self._new)))

    def _reader(self, side: Side) -> Callable[[int, int], bytes]:
        ref, contents = side.ref, self._contents
        if ref is None:
            return lambda offset, size: b""
        return lambda offset, size: contents.read(ref, offset, size)

    def _near(self, matches: Iterable[Match]) -> Iterator[Match]:
        """*matches* with each literal compared with what follows the copy before it."""
        read_old, read_new = self._reader(self._old), self._reader(self._new)
        shift = 0
        for place, position, size in matches:
            if place != LITERAL:
                shift = place - position
            if place != LITERAL or size < NEAR_LEAST:
                yield place, position, size
                continue
            for start in range(position, position + size, NEAR_PIECE):
                length = min(NEAR_PIECE, position + size - start)
                low = max(start + shift - NEAR_MARGIN, 0)
                high = min(start + shift + length + NEAR_MARGIN, self._old.size)
                if low >= high:
                    yield LITERAL, start, length
                    continue
                data = read_new(start, length)
                if self._is_vain(data):
                    yield LITERAL, start, length
                    continue
                found = match(read_old(low, high - low), data, block_size=NEAR_BLOCK)
                self._learn(data, found)
                for source, target, count in found:
                    yield (source if source == LITERAL else source + low), start + target, count

    def _far(self, matches: Iterable[Match]) -> Iterator[Match]:
        """*matches* with each literal looked for in all of the old content."""
        try:
            signature = self._sign()
        except LibraryMissing:
            yield from matches  # a large delta is better than none
            return
        read_old, read_new = self._reader(self._old), self._reader(self._new)
        with signature:
            for place, position, size in matches:
                if place != LITERAL:
                    yield place, position, size
                    continue
                for start in range(position, position + size, FAR_PIECE):
                    data = read_new(start, min(FAR_PIECE, position + size - start))
                    if self._is_vain(data):
                        yield LITERAL, start, len(data)
                        continue
                    found = signature.matches(data)
                    self._learn(data, found)
                    for source, target, count in found:
                        yield from self._checked(read_old, data, (source, target, count), start)

    def _is_vain(self, data: bytes) -> bool:
        """Whether *data* is zeros, and the old content had none when they were last looked for.

        A hole of gigabytes is then not searched for piece by piece.
        """
        return self._zeros_missed and data == bytes(len(data))

    def _learn(self, data: bytes, found: list[Match]) -> None:
        if all(place == LITERAL for place, _, _ in found) and data == bytes(len(data)):
            self._zeros_missed = True

    @staticmethod
    def _checked(
        read_old: Callable[[int, int], bytes], data: bytes, item: Match, start: int
    ) -> Iterator[Match]:
        """*item*, a match of *data* at *start*, a literal unless the old content has it there."""
        source, target, count = item
        if source != LITERAL:
            base = read_old(source, count)
            item = next(verified([(0, 0, count)], base, data[target : target + count]))
        yield (LITERAL if item[0] == LITERAL else source), start + target, count

    def _sign(self) -> Signature:
        """The signature of the whole old content, of at most about a million blocks."""
        read, size = self._reader(self._old), self._old.size
        with SignatureWriter(max(FAR_BLOCK, size >> 20)) as writer:
            parts = [writer.update(read(start, READ)) for start in range(0, size, READ)]
            parts.append(writer.finish())
        return Signature(b"".join(parts))
