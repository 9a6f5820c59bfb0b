"""Bytes of the data streams of one open file, by address."""

from __future__ import annotations

from ibtfs.errors import ObjectMissing
from ibtfs.format.frames import STREAMS, Runs
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.cache import ByteCache

RUN_BYTES = 170
"""About what one run weighs in memory, a tuple of three numbers."""


class Payloads:
    """The data streams of a file of the archive *archive_id*; threads may share it."""

    def __init__(self, archive_id: str, opened: FrameFileReader, cache: ByteCache) -> None:
        self._id, self._opened, self._cache = archive_id, opened, cache

    def read(self, stream: int, start: int, length: int) -> list[memoryview]:
        """The *length* bytes from *start*, in pieces.  Raises ObjectMissing, FormatDamaged."""
        table = self._opened.table(stream)
        pieces, row, end = [], table.find(start), start + length
        while start < end:
            if not 0 <= row < len(table.starts) or table.starts[row] > start:
                raise self._gone(stream, start)
            first = table.starts[row]
            stop = min(end, first + table.counts[row])
            raw = self._frame(stream, row)
            piece = (
                raw.cut(start - first, stop - first)
                if isinstance(raw, Runs)
                else memoryview(raw)[start - first : stop - first]
            )
            if piece is None:
                raise self._gone(stream, start)
            pieces.append(piece)
            start, row = stop, row + 1
        return pieces

    def frame_at(self, stream: int, address: int) -> tuple[int, memoryview] | None:
        """The frame that holds *address*: where it begins, and its bytes; None if some are gone.

        Raises ObjectMissing, FormatDamaged.
        """
        table = self._opened.table(stream)
        row = table.find(address)
        if row < 0:
            raise self._gone(stream, address)
        raw = self._frame(stream, row)
        return None if isinstance(raw, Runs) else (table.starts[row], memoryview(raw))

    def covers(self, stream: int, start: int, length: int) -> bool:
        """Whether there are frames that hold all of these bytes.  Raises FormatDamaged."""
        table = self._opened.table(stream)
        row, end = table.find(start), start + length
        while start < end:
            if not 0 <= row < len(table.starts) or table.starts[row] > start:
                return False
            first = table.starts[row]
            stop = first + table.counts[row]
            if self._opened.has_runs(stream, row):
                raw = self._frame(stream, row)
                if isinstance(raw, Runs) and not raw.find(start - first, min(stop, end) - first):
                    return False
            start, row = stop, row + 1
        return True

    def _gone(self, stream: int, address: int) -> ObjectMissing:
        name = STREAMS[stream]
        return ObjectMissing(f"{self._opened.name}: the {name} bytes from {address} are gone")

    def _frame(self, stream: int, row: int) -> bytes | Runs:
        """The bytes of a frame, or what is left of them."""

        def weigh(raw: bytes | Runs) -> int:
            return len(raw.raw) + RUN_BYTES * len(raw.runs) if isinstance(raw, Runs) else len(raw)

        opened = self._opened
        key = (self._id, stream, opened.table(stream).starts[row], opened.generation)
        return self._cache.get(key, lambda: opened.payload_frame(stream, row), weigh)
