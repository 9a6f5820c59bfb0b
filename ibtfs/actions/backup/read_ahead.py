"""Reading a large source once: a thread reads, hashes and looks one chunk ahead."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from blake3 import blake3

from ibtfs.actions.source.chunks import ByteSource
from ibtfs.actions.source.holes import Piece
from ibtfs.store.contents.slabs import SLAB, ZERO_DIGEST, slab_digest
from ibtfs.store.writing.run import RunWriter


class Read(NamedTuple):
    """A chunk of the source, where it begins, its holes, and the digests of its slabs.

    *is_hole*: it is all a hole, and whole slabs.
    """

    start: int
    data: bytes | memoryview
    holes: list[Piece]
    digests: list[bytes]
    is_hole: bool = False

    def slabs(self) -> Iterator[tuple[int, memoryview, bytes]]:
        """Each slab: where it begins, its bytes, its digest."""
        view = memoryview(self.data)
        for number, digest in enumerate(self.digests):
            first = number * SLAB
            yield self.start + first, view[first : first + SLAB], digest

    def pieces(self, start: int, end: int) -> list[Piece]:
        """The holes between *start* and *end*, and the data around them; none if all is data."""
        return [
            piece.cut(start, end)
            for piece in self.holes
            if piece.start < end and start < piece.start + piece.length
        ]


class ReadAhead:
    """Goes through *source* once; used by one thread.

    *look* is given every chunk before it is its turn, by another thread of *writer*.  At the end
    *digest* and *size* are those of all of it.
    """

    def __init__(self, source: ByteSource, writer: RunWriter, look: Callable[[Read], None]) -> None:
        self._source, self._writer, self._look = source, writer, look
        self._hasher = blake3()
        self.size = 0

    @property
    def digest(self) -> bytes:
        """The digest of what was read."""
        return self._hasher.digest()

    def chunks(self) -> Generator[Read, None, None]:
        """What the source holds, piece by piece; to be closed before the source is.

        Raises SourceError.
        """
        following = None
        try:
            while True:
                read = following.result() if following else self._read(self.size)
                following = None
                if not read.data:
                    return
                self.size += len(read.data)
                if self._source.ready:
                    following = self._writer.submit(self._read, self.size)
                yield read
        finally:
            if following is not None and not following.cancel():
                concurrent.futures.wait([following])  # it uses what the caller is to close

    def _read(self, start: int) -> Read:
        """Read, hash and look at the next chunk; one at a time."""
        chunk = self._source.chunk(start)
        data, holes = chunk
        self._hasher.update(data)
        if chunk.is_hole and len(data) % SLAB == 0:
            return Read(start, data, holes, [ZERO_DIGEST] * (len(data) // SLAB), is_hole=True)
        view = memoryview(data)
        digests = [slab_digest(view[at : at + SLAB]) for at in range(0, len(data), SLAB)]
        read = Read(start, data, holes, digests)
        self._look(read)
        return read
