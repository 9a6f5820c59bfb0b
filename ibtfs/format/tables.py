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
COLUMNS = 6
_TRAILER = struct.Struct("<8sHHIQ16sHHI")
"""Magic, version, flags, table size, its offset, repository, envelope size, and 6 reserved."""
TRAILER_SIZE = _TRAILER.size + 16
FLAG_SEALED = 1
GENERATION = "generation"
"""In a frame table, beside the names of streams."""
BEHIND_LIMIT = 64 << 10
"""So many bytes behind its end a file bears with: some tool appended them, and it is whole."""


def _column() -> MutableSequence[int]:
    return array("q")


@dataclass
class StreamTable:
    """Where the frames of one stream lie, in columns; sorted by start.

    *runs* is the raw size of a frame that lost some of its bytes, else 0; *marks* tell a frame from
    others that were ever stored for the same addresses, 0 where nothing is sealed.
    """

    starts: MutableSequence[int] = field(default_factory=_column)
    counts: MutableSequence[int] = field(default_factory=_column)
    offsets: MutableSequence[int] = field(default_factory=_column)
    sizes: MutableSequence[int] = field(default_factory=_column)
    runs: MutableSequence[int] = field(default_factory=_column)
    marks: MutableSequence[int] = field(default_factory=_column)

    def add(
        self, start: int, count: int, offset: int, size: int, *, runs: int = 0, mark: int = 0
    ) -> None:
        """Append a frame; *start* must not lie before the end of the last one."""
        self.starts.append(start)
        self.counts.append(count)
        self.offsets.append(offset)
        self.sizes.append(size)
        self.runs.append(runs)
        self.marks.append(mark)

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


def encode_table(tables: dict[int, StreamTable], generation: int) -> bytes:
    """The raw bytes of the frame table of a file of this *generation*."""
    columns: dict[str, object] = {
        STREAMS[stream]: [
            _gaps(table.starts, table.counts),
            list(table.counts),
            _gaps(table.offsets, table.sizes),
            list(table.sizes),
            list(table.runs),
            list(table.marks),
        ]
        for stream, table in sorted(tables.items())
        if table.starts
    }
    return pack(columns | {GENERATION: generation})


def decode_table(raw: bytes, file_size: int, generation: int, where: str) -> dict[int, StreamTable]:
    """The frame tables of a file of *file_size* bytes.  Raises FormatDamaged."""
    numbers = {name: stream for stream, name in STREAMS.items()}
    tables = {}
    values = unpack_map(raw, where)
    if values.pop(GENERATION, 0) != generation:
        raise FormatDamaged(f"{where}: is that of another generation")
    for name, columns in values.items():
        if name not in numbers:
            continue  # a later version's stream: nothing that this version refers to lies there
        if type(columns) is not tuple or len(columns) != COLUMNS:
            raise FormatDamaged(f"{where}: a stream is not six columns")
        rows = [expect_ints(column, where) for column in columns]
        tables[numbers[name]] = _decode_columns(rows, file_size, where)
    return tables


def _decode_columns(columns: Sequence[Sequence[int]], file_size: int, where: str) -> StreamTable:
    """One stream's table; refused if it points outside the file or goes backwards."""
    gaps, counts, holes, sizes, runs, marks = columns
    if len(set(map(len, columns))) != 1 or not gaps:
        raise FormatDamaged(f"{where}: columns of different lengths")
    if min(runs) < 0 or max(runs) > FRAME_LIMIT or min(marks) < 0 or max(marks) >= ADDRESS_LIMIT:
        raise FormatDamaged(f"{where}: a number beyond the limits of the format")
    starts, offsets = _firsts(gaps, counts), _firsts(holes, sizes)
    if min(gaps) < 0 or min(counts) < 1 or min(sizes) < HEAD_SIZE or min(offsets) < 0:
        raise FormatDamaged(f"{where}: a frame of no size")
    if max(map(sum, zip(offsets, sizes))) > file_size or max(sizes) > FRAME_LIMIT + (1 << 16):
        raise FormatDamaged(f"{where}: a frame beyond the end of the file")
    if starts[-1] + counts[-1] >= ADDRESS_LIMIT or max(counts) > FRAME_LIMIT:
        raise FormatDamaged(f"{where}: an address beyond the limits of the format")
    columns = (starts, counts, offsets, sizes, runs, marks)
    return StreamTable(*(array("q", column) for column in columns))


def encode_end(
    frames: Frames, repository: bytes, tables: dict[int, StreamTable], offset: int, codec: Codec,
    *, generation: int = 1,
) -> bytes:  # fmt: skip
    """What follows the frames of a file, which end at *offset*: its frame table and its trailer.

    The trailer has the id of the *repository* in clear, so that it can be found again.  Before the
    table lies the envelope, and before that what brings the file to the size that it is to have.
    """
    raw, envelope = encode_table(tables, generation), frames.envelope
    size = len(frames.encode(Address(TABLE, 0, 1), raw, codec)) if envelope else 0
    padding = frames.padding(offset + len(envelope) + size + TRAILER_SIZE)
    begin = offset + len(padding) + len(envelope)
    table = frames.encode(Address(TABLE, begin, 1), raw, codec)
    trailer = Trailer(begin, len(table), len(envelope))
    return padding + envelope + table + encode_trailer(frames.public, repository, trailer)


class Trailer(NamedTuple):
    """Where the frame table of a file lies, and how long the envelope before it is."""

    table_offset: int
    table_size: int
    envelope_size: int = 0

    @property
    def end(self) -> int:
        """Where the table ends."""
        return self.table_offset + self.table_size


def encode_trailer(key: bytes, repository: bytes, trailer: Trailer) -> bytes:
    """The TRAILER_SIZE bytes of a trailer."""
    offset, size, envelope = trailer
    flags = FLAG_SEALED if envelope else 0
    data = _TRAILER.pack(MAGIC, FORMAT_VERSION, flags, size, offset, repository, envelope, 0, 0)
    return data + blake3(data, key=key).digest(16)


def decode_trailer(
    key: bytes, repository: bytes, data: bytes, file_size: int, where: str
) -> Trailer:
    """The trailer, *data* being the last TRAILER_SIZE bytes of a file.  Raises FormatDamaged."""
    trailer = read_trailer(key, repository, data, file_size, where)
    expected = trailer.end + TRAILER_SIZE
    if expected != file_size:
        raise FormatDamaged(f"{where}: {file_size} bytes where {expected} were expected")
    return trailer


def read_trailer(key: bytes, repository: bytes, data: bytes, file_size: int, where: str) -> Trailer:
    """A trailer wherever it lies; what it says is not compared with *file_size*.

    Raises FormatDamaged.
    """
    if len(data) != TRAILER_SIZE:
        raise FormatDamaged(f"{where}: cut short, {file_size} bytes are left")
    magic, version, flags, size, offset, owner, envelope, *_ = _TRAILER.unpack_from(data)
    if magic != MAGIC:
        raise FormatDamaged(f"{where}: no trailer at the end; cut short or not an archive file")
    if owner != repository:
        raise FormatDamaged(
            f"{where}: belongs to the repository {owner.hex()}, but ibtfs.json says "
            f"{repository.hex()}: one of the two files is not the right one"
        )
    if blake3(data[: _TRAILER.size], key=key).digest(16) != data[_TRAILER.size :]:
        raise FormatDamaged(f"{where}: the trailer's checksum does not match")
    if version != FORMAT_VERSION or flags & ~FLAG_SEALED:
        raise UnsupportedFormat(f"{where}: format {version}, flags {flags}: upgrade ibtfs")
    if bool(flags) != bool(envelope) or envelope > offset:
        raise FormatDamaged(f"{where}: no envelope where it should be")
    return Trailer(offset, size, envelope)


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
