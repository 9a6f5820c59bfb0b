"""Reading a large source once: a thread reads, hashes and looks one chunk ahead."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from ibtfs.actions.source.chunks import ByteSource, Chunk
from ibtfs.actions.source.holes import Piece
from ibtfs.format.digests import SLAB
from ibtfs.store.writing.run import RunWriter


class Read(NamedTuple):
    """A chunk of the source, where it begins, and the digests of its slabs; a hole has none."""

    start: int
    chunk: Chunk
    digests: list[bytes]

    def cut(self) -> Iterator[tuple[int, memoryview]]:
        """Each slab of data: where it begins, and its bytes."""
        view = memoryview(self.chunk.data)
        for first in range(0, len(view), SLAB):
            yield self.start + first, view[first : first + SLAB]

    def slabs(self) -> Iterator[tuple[int, memoryview, bytes]]:
        """Each slab of data: where it begins, its bytes, its digest."""
        for (start, slab), digest in zip(self.cut(), self.digests):
            yield start, slab, digest

    def pieces(self, start: int, end: int) -> list[Piece]:
        """The holes between *start* and *end*, and the data around them; none if all is data."""
        return [
            piece.cut(start, end)
            for piece in self.chunk.pieces
            if piece.start < end and start < piece.start + piece.length
        ]


class ReadAhead:
    """Goes through *source* once; used by one thread.

    *look* is given every chunk before it is its turn, by another thread of *writer*; not a hole.
    At the end *size* is that of all of it, and :meth:`finish` gives its digest.
    """

    def __init__(self, source: ByteSource, writer: RunWriter, look: Callable[[Read], None]) -> None:
        self._source, self._writer, self._look = source, writer, look
        self._digests = writer.digests
        self._hasher = writer.digests.hasher()
        self.size = 0

    def finish(self) -> bytes:
        """The digest of all that was read."""
        return self._hasher.finish()

    def chunks(self) -> Generator[Read, None, None]:
        """What the source holds, piece by piece; to be closed before the source is.

        Raises SourceError.
        """
        following = None
        try:
            while True:
                read = following.result() if following else self._read(self.size)
                following = None
                if not read.chunk.length:
                    return
                self.size += read.chunk.length
                if self._source.ready:
                    following = self._writer.submit(self._read, self.size)
                yield read
        finally:
            if following is not None and not following.cancel():
                concurrent.futures.wait([following])  # it uses what the caller is to close

    def _read(self, start: int) -> Read:
        """Read, hash and look at the next chunk; one at a time."""
        chunk = self._source.chunk(start)
        if chunk.is_hole:
            self._hasher.add_zeros(chunk.length)
            return Read(start, chunk, [])
        read = Read(start, chunk, [])
        for _, slab in read.cut():
            read.digests.append(self._digests.slab(slab))
            self._hasher.add_slab(read.digests[-1], len(slab))
        self._look(read)
        return read
