"""The end of every archive file: a frame that is the table of its frames, then a trailer."""

from __future__ import annotations

import bisect
import itertools
import struct
from array import array
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from blake3 import blake3

from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format.compression import Codec
from ibtfs.format.frames import (
    FORMAT_VERSION,
    FRAME_LIMIT,
    HEAD_SIZE,
    STREAMS,
    TABLE,
    Address,
)
from ibtfs.format.keys import Frames
from ibtfs.format.packing import expect_ints, pack, unpack_map

MAGIC = b"ibtfs\r\n\x1a"
ADDRESS_LIMIT = 1 << 63
_TRAILER = struct.Struct("<8sHHIQ16s")  # magic, version, flags, table size, its offset, repository
TRAILER_SIZE = _TRAILER.size + 16
BEHIND_LIMIT = 64 << 10
"""So many bytes behind its end a file bears with: some tool appended them, and it is whole."""


def _column() -> MutableSequence[int]:
    return array("q")


@dataclass
class StreamTable:
    """Where the frames of one stream lie, in columns; sorted by start."""

    starts: MutableSequence[int] = field(default_factory=_column)
    counts: MutableSequence[int] = field(default_factory=_column)
    offsets: MutableSequence[int] = field(default_factory=_column)
    sizes: MutableSequence[int] = field(default_factory=_column)

    def add(self, start: int, count: int, offset: int, size: int) -> None:
        """Append a frame; *start* must not lie before the end of the last one."""
        self.starts.append(start)
        self.counts.append(count)
        self.offsets.append(offset)
        self.sizes.append(size)

    def find(self, position: int) -> int:
        """The row of the frame that holds *position*; -1 if none does."""
        row = bisect.bisect_right(self.starts, position) - 1
        if row >= 0 and position < self.starts[row] + self.counts[row]:
            return row
        return -1

    @property
    def end(self) -> int:
        """One more than the last address."""
        return self.starts[-1] + self.counts[-1] if self.starts else 0


def _gaps(firsts: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """How far each range begins behind the end of the one before it."""
    ends = itertools.chain((0,), map(sum, zip(firsts, lengths)))
    return [first - end for first, end in zip(firsts, ends)]


def _firsts(gaps: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """The inverse of :func:`_gaps`."""
    ends = itertools.accumulate(map(sum, zip(gaps, lengths)))
    return [end - length for end, length in zip(ends, lengths)]


def encode_table(tables: dict[int, StreamTable]) -> bytes:
    """The raw bytes of a frame table."""
    columns = {
        STREAMS[stream]: [
            _gaps(table.starts, table.counts),
            list(table.counts),
            _gaps(table.offsets, table.sizes),
            list(table.sizes),
        ]
        for stream, table in sorted(tables.items())
        if table.starts
    }
    return pack(columns)


def decode_table(raw: bytes, file_size: int, where: str) -> dict[int, StreamTable]:
    """The frame tables of a file of *file_size* bytes.  Raises FormatDamaged."""
    numbers = {name: stream for stream, name in STREAMS.items()}
    tables = {}
    for name, columns in unpack_map(raw, where).items():
        if name not in numbers:
            continue  # a later version's stream: nothing that this version refers to lies there
        if type(columns) is not tuple or len(columns) != 4:
            raise FormatDamaged(f"{where}: a stream is not four columns")
        gaps, counts, holes, sizes = (expect_ints(column, where) for column in columns)
        tables[numbers[name]] = _decode_columns(gaps, counts, holes, sizes, file_size, where)
    return tables


def _decode_columns(
    gaps: Sequence[int],
    counts: Sequence[int],
    holes: Sequence[int],
    sizes: Sequence[int],
    file_size: int,
    where: str,
) -> StreamTable:
    """One stream's table; refused if it points outside the file or goes backwards."""
    if not len(gaps) == len(counts) == len(holes) == len(sizes) > 0:
        raise FormatDamaged(f"{where}: columns of different lengths")
    starts, offsets = _firsts(gaps, counts), _firsts(holes, sizes)
    if min(gaps) < 0 or min(counts) < 1 or min(sizes) < HEAD_SIZE or min(offsets) < 0:
        raise FormatDamaged(f"{where}: a frame of no size")
    if max(map(sum, zip(offsets, sizes))) > file_size or max(sizes) > FRAME_LIMIT + (1 << 16):
        raise FormatDamaged(f"{where}: a frame beyond the end of the file")
    if starts[-1] + counts[-1] >= ADDRESS_LIMIT or max(counts) > FRAME_LIMIT:
        raise FormatDamaged(f"{where}: an address beyond the limits of the format")
    return StreamTable(
        array("q", starts), array("q", counts), array("q", offsets), array("q", sizes)
    )


def encode_end(
    frames: Frames, repository: bytes, tables: dict[int, StreamTable], offset: int, codec: Codec
) -> bytes:
    """The frame table and the trailer of a file whose frames end at *offset*.

    The trailer has the id of the *repository* in clear, so that it can be found again.
    """
    table = frames.encode(Address(TABLE, offset, 1), encode_table(tables), codec)
    return table + encode_trailer(frames.public, repository, Trailer(offset, len(table)))


class Trailer(NamedTuple):
    """Where the frame table of a file lies."""

    table_offset: int
    table_size: int


def encode_trailer(key: bytes, repository: bytes, trailer: Trailer) -> bytes:
    """The TRAILER_SIZE bytes of a trailer."""
    offset, size = trailer
    data = _TRAILER.pack(MAGIC, FORMAT_VERSION, 0, size, offset, repository)
    return data + blake3(data, key=key).digest(16)


def decode_trailer(
    key: bytes, repository: bytes, data: bytes, file_size: int, where: str
) -> Trailer:
    """The trailer, *data* being the last TRAILER_SIZE bytes of a file.  Raises FormatDamaged."""
    trailer = read_trailer(key, repository, data, file_size, where)
    expected = sum(trailer) + TRAILER_SIZE
    if expected != file_size:
        raise FormatDamaged(f"{where}: {file_size} bytes where {expected} were expected")
    return trailer


def read_trailer(key: bytes, repository: bytes, data: bytes, file_size: int, where: str) -> Trailer:
    """A trailer wherever it lies; what it says is not compared with *file_size*.

    Raises FormatDamaged.
    """
    if len(data) != TRAILER_SIZE:
        raise FormatDamaged(f"{where}: cut short, {file_size} bytes are left")
    magic, version, flags, size, offset, owner = _TRAILER.unpack_from(data)
    if magic != MAGIC:
        raise FormatDamaged(f"{where}: no trailer at the end; cut short or not an archive file")
    if owner != repository:
        raise FormatDamaged(
            f"{where}: belongs to the repository {owner.hex()}, but ibtfs.json says "
            f"{repository.hex()}: one of the two files is not the right one"
        )
    if blake3(data[: _TRAILER.size], key=key).digest(16) != data[_TRAILER.size :]:
        raise FormatDamaged(f"{where}: the trailer's checksum does not match")
    if version != FORMAT_VERSION or flags:
        raise UnsupportedFormat(f"{where}: format {version}, flags {flags}: upgrade ibtfs")
    return Trailer(offset, size)


class End(NamedTuple):
    """How a file ends: its trailer, and where that ends: there may be bytes behind it."""

    trailer: Trailer
    size: int


def find_end(key: bytes, repository: bytes, tail: bytes, file_size: int, where: str) -> End:
    """The end of a file, *tail* being its last bytes: the trailer is looked for from behind.

    Raises FormatDamaged, UnsupportedFormat.
    """
    try:
        trailer = decode_trailer(key, repository, tail[-TRAILER_SIZE:], file_size, where)
        return End(trailer, file_size)
    except FormatDamaged as error:
        refused = error
    place = tail.rfind(MAGIC)
    while place >= 0:
        data = tail[place : place + TRAILER_SIZE]
        size = file_size - len(tail) + place + TRAILER_SIZE
        try:
            return End(decode_trailer(key, repository, data, size, where), size)
        except FormatDamaged:
            place = tail.rfind(MAGIC, 0, place)
    raise refused
