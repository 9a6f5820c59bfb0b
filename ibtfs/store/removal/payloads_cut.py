"""What is freed of a file of payloads if only some of its bytes stay.

A frame that goes counts whole.  Of one that loses some of its bytes the rest is compressed again,
to see what it comes to: bytes of one frame differ too much.  Where there are many of those, some
stand for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ibtfs.errors import FormatDamaged
from ibtfs.format.compression import Codec
from ibtfs.format.frames import DATA_STREAMS, FLAG_RUNS, Address, Runs
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.rewriter import rest_of, within
from ibtfs.store.removal.needed import Ranges

MEASURED = 32
"""Frames of a file that are compressed to see what they come to; up to 32 MiB."""
"""For frames that are not stored."""


class _Frame(NamedTuple):
    """A frame that loses *lost* of its bytes: its ranges that stay begin at number *place*."""

    address: Address
    row: int
    place: int
    size: int
    lost: int
    there: int

    @property
    def share(self) -> float:
        return self.size * self.lost / self.there


class Loss(NamedTuple):
    """What a file loses: *lost* bytes of payloads, by which *freed* bytes of it are freed.

    That may be less than nothing, where bytes were stored as repetitions of some that go.
    """

    freed: int
    lost: int


def payloads_freed(
    file: FrameFileReader, needed: Mapping[int, Ranges], codec: Codec, *, exact: bool = False
) -> Loss:
    """What a file loses if only *needed* ranges stay, (start, end) each, by stream.

    Lists of runs count as bytes that are lost, unless it is to be *exact*: then frames that have
    one are read.  Raises FormatDamaged, if they cannot be.
    """
    freed, lost, parts = 0.0, 0, []
    for frame in _losing(file, needed, exact=exact):
        lost += frame.lost
        if frame.lost == frame.there:
            freed += frame.size
        else:
            parts.append(frame)
    chosen = parts[:: -(-len(parts) // MEASURED) or 1]
    measured = sum(
        frame.size - _rest_size(file, frame, needed[frame.address.stream], codec)
        for frame in chosen
    )
    share = sum(frame.share for frame in chosen)
    if parts:
        freed += measured * sum(frame.share for frame in parts) / share
    return Loss(round(freed), lost)


def _losing(
    file: FrameFileReader, needed: Mapping[int, Ranges], *, exact: bool
) -> Iterator[_Frame]:
    """The frames that lose something."""
    for stream in DATA_STREAMS:
        table, ranges, place = file.table(stream), needed.get(stream, []), 0
        for row, (start, count) in enumerate(zip(table.starts, table.counts)):
            end = start + count
            while place < len(ranges) and ranges[place][1] <= start:
                place += 1
            kept = sum(last - first for first, last in within(ranges, place, start, end))
            if kept < count:
                there = count
                if file.has_runs(stream, row):
                    left = file.payload_frame(stream, row) if exact else None
                    runs = left.runs if isinstance(left, Runs) else None
                    there = table.runs[row] if runs is None else sum(size for _, size, _ in runs)
                if there > kept:
                    address = Address(stream, start, count)
                    yield _Frame(address, row, place, table.sizes[row], there - kept, there)


def _rest_size(file: FrameFileReader, frame: _Frame, ranges: Ranges, codec: Codec) -> int:
    """Bytes of a frame without what it loses; damaged, it stays as it is."""
    start, end = frame.address.start, frame.address.start + frame.address.length
    kept = within(ranges, frame.place, start, end)
    try:
        raw = rest_of(file, frame.address, frame.row, kept)
    except FormatDamaged:
        return frame.size
    if raw is None:
        return frame.size
    return file.encoded_size(frame.address, raw, codec, flags=FLAG_RUNS) if raw else 0
