"""A content of another repository as the source of a large one: verified while it is read."""

from __future__ import annotations

from bisect import bisect_right

from ibtfs.actions.source.chunks import CHUNK, Chunk
from ibtfs.actions.source.holes import Piece
from ibtfs.errors import IntegrityError, SourceError
from ibtfs.format.index import Reference
from ibtfs.store.contents.holes import holes
from ibtfs.store.contents.reader import Contents

Holes = tuple[tuple[int, int], ...]
"""Start and length of each hole of a content, in order; none touch."""


def holes_within(contents: Contents, ref: Reference) -> Holes:
    """The holes of a content.  Raises IntegrityError."""
    found: list[tuple[int, int]] = []
    for start, length in holes(contents, ref):
        if found and sum(found[-1]) == start:
            found[-1] = (found[-1][0], found[-1][1] + length)
        else:
            found.append((start, length))
    return tuple(found)


class StoredSource:
    """Gives the content *ref* of *size* bytes once, as ByteSource says.

    Its end is given only if all of it had the *digest*.
    """

    ready = True

    def __init__(
        self, contents: Contents, ref: Reference, size: int, digest: bytes, holes: Holes
    ) -> None:
        self._contents, self._ref, self._size, self._digest = contents, ref, size, digest
        self._holes, self._starts = holes, [start for start, _ in holes]
        self._hasher = contents.digests.hasher()
        self.has_failed = False

    def chunk(self, position: int) -> Chunk:
        """As ByteSource says; *position* must follow what was read."""
        try:
            return self._chunk(position)
        except IntegrityError as error:
            self.has_failed = True
            raise SourceError(f"cannot be read: {error}") from error

    def _chunk(self, position: int) -> Chunk:
        length = min(CHUNK, self._size - position)
        if length <= 0:
            if self._hasher.finish() != self._digest:
                self.has_failed = True
                raise SourceError("cannot be read: its bytes do not have the digest of the content")
            return Chunk(0, b"", [])
        pieces = self._pieces(position, position + length)
        hole = self._hole(position)
        if hole:
            self._hasher.add_zeros(hole)
            return Chunk(hole, b"", [Piece(position, hole, hole=True)])
        data = self._contents.read(self._ref, position, length)
        self._hasher.update(data)
        return Chunk(len(data), data, pieces)

    def _hole(self, position: int) -> int:
        """How many bytes, in whole chunks, from *position* are a hole."""
        row = bisect_right(self._starts, position) - 1
        if row < 0:
            return 0
        return max(sum(self._holes[row]) - position, 0) // CHUNK * CHUNK

    def _pieces(self, start: int, end: int) -> list[Piece]:
        """The holes between *start* and *end*, and the data around them; none without holes."""
        found: list[Piece] = []
        position = start
        for row in range(max(bisect_right(self._starts, start) - 1, 0), len(self._holes)):
            first, length = self._holes[row]
            if first >= end:
                break
            hole = Piece(first, length, hole=True)
            if first + length <= position:
                continue
            hole = hole.cut(position, end)
            if hole.start > position:
                found.append(Piece(position, hole.start - position, hole=False))
            found.append(hole)
            position = hole.start + hole.length
        if found and position < end:
            found.append(Piece(position, end - position, hole=False))
        return found
