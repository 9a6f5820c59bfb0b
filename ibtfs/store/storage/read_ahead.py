"""Reading ahead of who reads an object far away in order: several pieces at once, bounded.

The first read of a place is for itself; who goes on where it ended is taken to go on further.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import deque
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import NamedTuple

from ibtfs.errors import IbtfsError
from ibtfs.store.storage.background import Background
from ibtfs.store.storage.base import StoredObject

PIECE, LEAST_PIECE = 4 << 20, 1 << 20
AHEAD = 4 * PIECE
"""Of who has read for long; before that, as much as he has read."""
ALL_AHEAD = 64 << 20
"""Of all objects that are read at the same time."""
GAP = 256 << 10
"""Who leaves out no more than this goes on."""
STREAMS = 4
"""So many who read an object in order are told apart."""


class Room:
    """How many bytes may be on their way, or wait; threads may share it."""

    def __init__(self, limit: int = ALL_AHEAD) -> None:
        self._left, self._lock = limit, threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there is room for *size* bytes, which are taken then."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """Give them back."""
        with self._lock:
            self._left += size


class _Piece(NamedTuple):
    """The bytes from *start* to *end*, when they are there."""

    start: int
    end: int
    data: Future[bytes]


class _Stream:
    """Somebody who reads in order: he has read *run* bytes, and goes on at *next*."""

    def __init__(self, run: int, goes_on: int) -> None:
        self.run, self.next = run, goes_on
        self.pieces: deque[_Piece] = deque()

    def covering(self, offset: int, end: int) -> list[_Piece]:
        """The pieces that have all bytes from *offset* to *end*; none if they do not."""
        found = [piece for piece in self.pieces if piece.start < end and offset < piece.end]
        for piece in found:
            if piece.start > offset:
                return []
            offset = piece.end
        return found if offset >= end else []

    def drop(self, before: int, room: Room) -> None:
        """Let go of pieces that end *before*."""
        while self.pieces and self.pieces[0].end <= before:
            piece = self.pieces.popleft()
            piece.data.cancel()
            room.give(piece.end - piece.start)


class ReadAhead:
    """*stored*, as StoredObject says, read ahead in *background*, as far as there is *room*."""

    def __init__(self, stored: StoredObject, background: Background, room: Room) -> None:
        self._stored, self._background, self._room = stored, background, room
        self.name, self.shown, self.size = stored.name, stored.shown, stored.size
        self._lock = threading.Lock()
        self._streams: list[_Stream] = []
        # an object may be dropped while another thread still reads from it
        self._let_go = weakref.finalize(self, _drop_all, self._streams, room)

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        end = min(offset + size, self.size)
        with self._lock:
            stream, found = self._stream(offset, end)
            if stream is not None:
                stream.run, stream.next = stream.run + size, max(stream.next, end)
                stream.drop(offset - PIECE, self._room)
                self._go_on(stream)
        if not found:
            return self._stored.read(offset, size)
        try:
            return b"".join(_cut(piece, offset, end) for piece in found)
        except (IbtfsError, CancelledError):
            with self._lock:
                _drop_all(self._streams, self._room)
            return self._stored.read(offset, size)

    def _stream(self, offset: int, end: int) -> tuple[_Stream | None, list[_Piece]]:
        """Who reads here, if that is known, and the pieces that he wants, if they are on the way.

        Whoever reads here for the first time is remembered.
        """
        going = [one for one in self._streams if one.next <= offset <= one.next + GAP]
        for stream in going or self._streams:
            found = stream.covering(offset, end)
            if found or going:
                self._streams.remove(stream)
                self._streams.append(stream)
                return stream, found
        if len(self._streams) >= STREAMS:
            self._streams.pop(0).drop(self.size, self._room)
        self._streams.append(_Stream(end - offset, end))
        return None, []

    def _go_on(self, stream: _Stream) -> None:
        """Have more on its way."""
        start = max(stream.next, stream.pieces[-1].end if stream.pieces else 0)
        ahead = min(max(stream.run, LEAST_PIECE), AHEAD)
        while start < min(stream.next + ahead, self.size):
            size = min(max(ahead // 4, LEAST_PIECE), PIECE, self.size - start)
            if not self._room.take(size):
                return
            work = functools.partial(self._stored.read, start, size)
            stream.pieces.append(_Piece(start, start + size, self._background.submit(work)))
            start += size

    def is_removed(self) -> bool:
        """As StoredObject says."""
        return self._stored.is_removed()

    def close(self) -> None:
        """As StoredObject says."""
        with self._lock:
            _drop_all(self._streams, self._room)
        self._stored.close()

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()


def _cut(piece: _Piece, offset: int, end: int) -> memoryview:
    first = max(offset - piece.start, 0)
    return memoryview(piece.data.result())[first : end - piece.start]


def _drop_all(streams: list[_Stream], room: Room) -> None:
    while streams:
        stream = streams.pop()
        stream.drop(stream.pieces[-1].end if stream.pieces else 0, room)
