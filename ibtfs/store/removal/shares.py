"""Shares of stored frames: what records, and payloads, weigh on the disk.

Of a frame, each record that is left in it weighs by the bytes of its body, each payload by its
length.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from ibtfs.format.frames import CONTENTS, STREAMS
from ibtfs.format.packing import unpack_bodies
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.removal.marking import NEVER, ArchiveMarks

HEAD = 3
"""What msgpack puts before the body of a record, about; bytes."""


class Owners:
    """The spans of numbered records: rows of (first, end, span).

    Instead of a span there may be a column of spans from first on.  Used by one thread.
    """

    def __init__(self, rows: list[tuple[int, int, int | array[int]]]) -> None:
        self._rows, self._place = rows, 0

    def within(self, start: int, end: int) -> array[int]:
        """The spans of the records from *start* to *end*; to be asked in order."""
        spans = array("i", [NEVER]) * (end - start)
        while self._place < len(self._rows) and self._rows[self._place][1] <= start:
            self._place += 1
        place = self._place
        while place < len(self._rows) and self._rows[place][0] < end:
            first, last, owner = self._rows[place]
            place += 1
            low, high = max(first, start), min(last, end)
            if isinstance(owner, array):
                spans[low - start : high - start] = owner[low - first : high - first]
            else:
                spans[low - start : high - start] = array("i", [owner]) * (high - low)
        return spans


def frame_weights(
    file: FrameFileReader, stream: int, owners: Owners
) -> Iterator[tuple[int, float]]:
    """What the frames of a stream of records weigh, with the spans of those who need them."""
    table = file.table(stream)
    for row, (start, count) in enumerate(zip(table.starts, table.counts)):
        spans = owners.within(start, start + count)
        different = set(spans)
        if len(different) == 1:
            yield different.pop(), table.sizes[row]
            continue
        where = f"{file.name}: {STREAMS[stream]} from {start}"
        for number, _, weight in shares(file, stream, row, where):
            yield spans[number - start], weight


def shares(
    file: FrameFileReader, stream: int, row: int, where: str
) -> Iterable[tuple[int, bytes, float]]:
    """The records of a frame that are left: number, body, and share of the stored frame."""
    table = file.table(stream)
    start = table.starts[row]
    bodies = unpack_bodies(file.frame(stream, row).raw, table.counts[row], where)
    there = [(number, body) for number, body in enumerate(bodies, start) if body is not None]
    share = table.sizes[row] / max(sum(len(body) + HEAD for _, body in there), 1)
    return [(number, body, (len(body) + HEAD) * share) for number, body in there]


def content_bodies(marks: ArchiveMarks) -> Iterator[tuple[int, bytes, float]]:
    """All content records of an archive: number, body, weight.  Raises IntegrityError."""
    file = marks.reader.file(layout.INDEX)
    for row, start in enumerate(file.table(CONTENTS).starts):
        yield from shares(file, CONTENTS, row, f"{file.name}: {STREAMS[CONTENTS]} from {start}")


def data_file(marks: ArchiveMarks) -> DataFile:
    """The payloads of an archive.  Raises IntegrityError."""
    return DataFile(marks.reader.file(layout.DATA if marks.header.has_data else layout.INDEX))


class DataFile:
    """Tells what payloads weigh; used by one thread."""

    def __init__(self, file: FrameFileReader) -> None:
        self._file = file
        self._rates: dict[tuple[int, int], float] = {}

    def _rate(self, stream: int, row: int) -> float:
        """Stored bytes of a frame for each byte that is left in it."""
        rate = self._rates.get((stream, row))
        if rate is None:
            table = self._file.table(stream)
            there = table.runs[row] or table.counts[row]
            rate = self._rates[stream, row] = table.sizes[row] / max(there, 1)
        return rate

    def weight(self, stream: int, start: int, end: int) -> float:
        """What the bytes from *start* to *end* of a stream weigh; what is not there, nothing."""
        table = self._file.table(stream)
        row, weight = table.find(start), 0.0
        while start < end and 0 <= row < len(table.starts) and table.starts[row] <= start:
            stop = min(table.starts[row] + table.counts[row], end)
            weight += (stop - start) * self._rate(stream, row)
            start, row = stop, row + 1
        return weight
