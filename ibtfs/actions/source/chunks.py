"""Where the bytes of a large content come from: a file with or without holes, or a stream."""

from __future__ import annotations

import os
from typing import BinaryIO, NamedTuple, Protocol

from ibtfs.actions.source.holes import Piece, hole_end, pieces
from ibtfs.actions.source.opening import source_error

CHUNK = 1 << 20
_ZEROS = bytes(CHUNK)


class Chunk(NamedTuple):
    """*length* bytes of a source: *data*, or none if all of them lie in one hole.

    *pieces* are its data and its holes, if there are any holes.
    """

    length: int
    data: bytes
    pieces: list[Piece]

    @property
    def is_hole(self) -> bool:
        """Whether all of it lies in one hole."""
        return self.length > len(self.data)


class ByteSource(Protocol):
    """Gives a content from beginning to end.

    *ready*: its bytes are there for the asking, so a thread may read them ahead.  One that waits
    for a pipe could not be stopped.
    """

    @property
    def ready(self) -> bool:
        """Whether reading never waits for somebody else."""
        ...

    def chunk(self, position: int) -> Chunk:
        """CHUNK bytes from *position*, or fewer at the end; of a hole all whole chunks that it has.

        Raises SourceError.
        """
        ...


class FileSource:
    """The first *size* bytes of an open file."""

    ready = True

    def __init__(self, descriptor: int, size: int, *, sparse: bool) -> None:
        self._descriptor, self._size, self._sparse = descriptor, size, sparse

    def chunk(self, position: int) -> Chunk:
        """As ByteSource says; holes are not read."""
        length = min(CHUNK, self._size - position)
        if length <= 0:
            return Chunk(0, b"", [])
        try:
            found: list[Piece] = []
            if self._sparse:
                hole = self._hole(position)
                if hole:
                    return Chunk(hole, b"", [Piece(position, hole, hole=True)])
                found = pieces(self._descriptor, position, position + length)
            data = self._read(position, length)
        except OSError as error:
            raise source_error(error) from error
        if len(data) < length:
            self._size = position + len(data)  # it was cut short meanwhile: this is the end
            return Chunk(len(data), data, [])
        return Chunk(length, data, [_as_read(piece, data, position) for piece in found])

    def _hole(self, position: int) -> int:
        """How many bytes, in whole chunks, from *position* are a hole."""
        hole = hole_end(self._descriptor, position, self._size) - position
        return hole // CHUNK * CHUNK

    def _read(self, position: int, length: int) -> bytes:
        data = os.pread(self._descriptor, length, position)
        while 0 < len(data) < length:
            more = os.pread(self._descriptor, length - len(data), position + len(data))
            if not more:
                break
            data += more
        return data


def _as_read(piece: Piece, data: bytes, position: int) -> Piece:
    """*piece*, a hole only if zeros were read there: it may have been written to meanwhile."""
    first = piece.start - position
    if piece.hole and data[first : first + piece.length] != _ZEROS[: piece.length]:
        return piece._replace(hole=False)
    return piece


class StreamSource:
    """A pipe, read once to its end."""

    ready = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._has_ended = stream, False

    def chunk(self, position: int) -> Chunk:
        """As ByteSource says; *position* must follow what was read."""
        parts, left = [], CHUNK
        try:
            while left and not self._has_ended:
                parts.append(self._stream.read(left))
                left -= len(parts[-1])
                self._has_ended = not parts[-1]  # a terminal would give more after its end
        except OSError as error:
            raise source_error(error) from error
        data = b"".join(parts)
        return Chunk(len(data), data, [])
