"""Reading ahead of who reads an object far away in order: several pieces at once, bounded.

The first read of a place is for itself; who goes on where it ended is taken to go on further.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import OrderedDict, deque
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
IDLE_READS = 64
"""Who has read nothing while others read so often has no room any more, if others need it."""
STREAMS = 4
"""So many who read an object in order are told apart."""


class _Piece(NamedTuple):
    """The bytes from *start* to *end*, when they are there."""

    start: int
    end: int
    data: Future[bytes]


class _Stream:
    """Somebody who reads in order: he has read *run* bytes, and goes on at *next*."""

    def __init__(self, run: int, goes_on: int) -> None:
        self.run, self.next, self.used = run, goes_on, 0
        self.pieces: deque[_Piece] = deque()

    def covering(self, offset: int, end: int) -> list[_Piece]:
        """The pieces that have all bytes from *offset* to *end*; none if they do not."""
        found = [piece for piece in self.pieces if piece.start < end and offset < piece.end]
        for piece in found:
            if piece.start > offset:
                return []
            offset = piece.end
        return found if offset >= end else []


class Room:
    """How many bytes may be on their way, or wait; threads may share it.

    Whoever needs room gets that of those who have read nothing for long.  Streams are changed by
    who holds *lock* alone.
    """

    def __init__(self, limit: int = ALL_AHEAD) -> None:
        self._left, self.lock = limit, threading.RLock()
        self._streams: OrderedDict[_Stream, None] = OrderedDict()
        self._reads = 0
        self._gone: deque[list[_Stream]] = deque()

    def is_used(self, stream: _Stream) -> None:
        """Somebody reads in *stream*."""
        self._reads += 1
        stream.used = self._reads
        self._streams[stream] = None
        self._streams.move_to_end(stream)

    def take(self, size: int) -> bool:
        """Whether there is room for *size* bytes, which are taken then."""
        with self.lock:
            while self._gone:
                self.drop_all(self._gone.popleft())
            while size > self._left:
                oldest = next(iter(self._streams), None)
                if oldest is None or self._reads - oldest.used < IDLE_READS:
                    return False
                self.drop(oldest)
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """Give them back."""
        with self.lock:
            self._left += size

    def drop(self, stream: _Stream, before: int | None = None) -> None:
        """Let go of what *stream* has; or of pieces that end *before*."""
        with self.lock:
            while stream.pieces and (before is None or stream.pieces[0].end <= before):
                piece = stream.pieces.popleft()
                piece.data.cancel()
                # what is being read already takes its room until it has come
                piece.data.add_done_callback(
                    lambda _, size=piece.end - piece.start: self.give(size)  # type: ignore[misc]
                )
            if before is None:
                self._streams.pop(stream, None)

    def drop_all(self, streams: list[_Stream]) -> None:
        """Let go of all that *streams* have."""
        with self.lock:
            while streams:
                self.drop(streams.pop())

    def let_go(self, streams: list[_Stream]) -> None:
        """Do that later: whoever is called by the garbage collector may hold any lock."""
        self._gone.append(streams)


class ReadAhead:
    """*stored*, as StoredObject says, read ahead in *background*, as far as there is *room*."""

    def __init__(self, stored: StoredObject, background: Background, room: Room) -> None:
        self._stored, self._background, self._room = stored, background, room
        self.name, self.shown, self.size = stored.name, stored.shown, stored.size
        self._lock = room.lock
        self._streams: list[_Stream] = []
        # an object may be dropped while another thread still reads from it
        self._let_go = weakref.finalize(self, room.let_go, self._streams)

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        end = min(offset + size, self.size)
        with self._lock:
            stream, found = self._stream(offset, end)
            if stream is not None:
                stream.run, stream.next = stream.run + size, max(stream.next, end)
                self._room.is_used(stream)
                self._room.drop(stream, offset - PIECE)
                self._go_on(stream)
        if not found:
            return self._stored.read(offset, size)
        try:
            return b"".join(_cut(piece, offset, end) for piece in found)
        except (IbtfsError, CancelledError):
            self._room.drop_all(self._streams)
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
            self._room.drop(self._streams.pop(0))
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
        self._room.drop_all(self._streams)
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
