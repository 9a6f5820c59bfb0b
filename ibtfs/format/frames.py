"""The container that every archive file is: frames, a frame table, a trailer.

A frame is the unit of compression, of verification and of random access.  It lies in a *stream*:
a logical address space of its own.  In a data stream addresses are bytes; in a record stream they
are record numbers.  A frame holds the addresses from *start* to *start + count*; only the table
knows at which offset of the file.

The checksum of a frame is keyed with the name of the object it belongs to, and covers its stream,
its addresses and its stored bytes: a frame that was swapped, moved, or taken from another
repository does not verify.  FORMAT.rst has the byte tables.
"""

from __future__ import annotations

import bisect
import itertools
import struct
import threading
from array import array
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import zstandard
from blake3 import blake3

from ibtfs.errors import FormatDamaged, LimitExceeded, ObjectMissing, UnsupportedFormat
from ibtfs.format.packing import expect_ints, pack, unpack_map

FORMAT_VERSION = 1
MAGIC = b"ibtfs\r\n\x1a"
FRAME_LIMIT = 4 << 20
LARGE_LEVEL = 3
RECORD_LEVEL = 6
"""Records take a seventh less than at level 1, for 0.05 s of another thread in 100,000 files; more
gives nothing, and columns of differences instead of rows a tenth at best."""
TABLE_LIMIT = 64 << 20
ADDRESS_LIMIT = 1 << 63

RAW, ZSTD = 0, 1
"""Codecs."""

TABLE = 0
SMALL, LARGE, LITERALS = 1, 2, 3
HEADER, CONTENTS, STATES, MAPS = 16, 17, 18, 19
SLABS, SIGNATURES = 32, 33
MANIFEST = 48
STREAMS = {
    TABLE: "table", SMALL: "small", LARGE: "large", LITERALS: "literals", HEADER: "header",
    CONTENTS: "contents", STATES: "states", MAPS: "maps", SLABS: "slabs",
    SIGNATURES: "signatures", MANIFEST: "manifest",
}  # fmt: skip
DATA_STREAMS = (SMALL, LARGE, LITERALS)
RECORD_STREAMS = (CONTENTS, STATES, MAPS)

_HEAD = struct.Struct("<16sBBHI")  # checksum, stream, codec, flags, raw size
_SEALED = struct.Struct("<BBHIQI")  # stream, codec, flags, raw size, start, count
_TRAILER = struct.Struct("<8sHHIQ16s")  # magic, version, flags, table size, its offset, repository
TRAILER_SIZE = _TRAILER.size + 16
HEAD_SIZE = _HEAD.size
FLAG_RUNS = 1


def digest(data: bytes | memoryview) -> bytes:
    """The 32 bytes of BLAKE3 that identify a content."""
    return blake3(data).digest()


def object_key(repository: bytes, name: str) -> bytes:
    """The 32-byte key of the checksums of the object *name* (without its generation)."""
    return blake3(repository + name.encode(), derive_key_context="ibtfs 2026 object key").digest()


class Codec:
    """Compresses frames at zstd's level *level*; one object serves many threads.

    What belongs to large contents is compressed at LARGE_LEVEL at least, records at RECORD_LEVEL.
    """

    def __init__(self, level: int = 1) -> None:
        self._level = level
        self._local = threading.local()

    def compress(self, stream: int, raw: bytes | memoryview) -> tuple[int, bytes | memoryview]:
        """The codec chosen for *raw*, some bytes of *stream*, and its stored bytes."""
        name, least = "small", self._level
        if stream in (LARGE, LITERALS):
            name, least = "large", LARGE_LEVEL
        elif stream in RECORD_STREAMS:
            name, least = "records", RECORD_LEVEL
        compressor = getattr(self._local, name, None)
        if compressor is None:
            level = max(self._level, least)
            # no content size inside: the frame's head says it, and a reader trusts only that
            compressor = zstandard.ZstdCompressor(level=level, write_content_size=False)
            setattr(self._local, name, compressor)
        packed: bytes = compressor.compress(raw)
        return (ZSTD, packed) if len(packed) < len(raw) else (RAW, raw)


SMALL_FRAME = 128 << 10


class _Decompressors(threading.local):
    """A decompressor for each thread: making one takes longer than a small frame does."""

    def __init__(self) -> None:
        self.small = zstandard.ZstdDecompressor().decompress


_DECOMPRESSORS = _Decompressors()


def decompress(codec: int, stored: memoryview, raw_size: int, where: str) -> bytes:
    """The *raw_size* bytes that were *stored*.  Raises FormatDamaged."""
    if codec == RAW:
        raw = bytes(stored)
    elif codec == ZSTD:
        try:
            told = zstandard.frame_content_size(stored)
            if told not in (-1, raw_size):
                raise FormatDamaged(f"{where}: would be {told} bytes, not {raw_size}")
            # one keeps a buffer as large as its largest frame: too much for each of many threads
            small = raw_size <= SMALL_FRAME
            decompress = _DECOMPRESSORS.small if small else zstandard.ZstdDecompressor().decompress
            raw = decompress(stored, max_output_size=raw_size)
        except (zstandard.ZstdError, ValueError) as error:
            raise FormatDamaged(f"{where}: does not decompress ({error})") from error
    else:
        raise UnsupportedFormat(f"{where}: codec {codec} is not known here: upgrade ibtfs")
    if len(raw) != raw_size:
        raise FormatDamaged(f"{where}: {len(raw)} bytes where {raw_size} were expected")
    return raw


def raw_limit(stream: int) -> int:
    """How many bytes a frame of *stream* may have before compression."""
    return TABLE_LIMIT if stream == TABLE else FRAME_LIMIT


class Address(NamedTuple):
    """Which logical addresses a frame holds."""

    stream: int
    start: int
    length: int


def encode_frame(
    key: bytes, address: Address, raw: bytes | memoryview, codec: Codec, *, flags: int = 0
) -> bytes:
    """One frame as it is stored.  Thread-safe.  Raises LimitExceeded."""
    if len(raw) > raw_limit(address.stream):
        raise LimitExceeded(f"A frame of the {STREAMS[address.stream]} would be {len(raw)} bytes")
    used, stored = codec.compress(address.stream, raw)
    sealed = _SEALED.pack(address.stream, used, flags, len(raw), address.start, address.length)
    hasher = blake3(sealed, key=key)
    hasher.update(stored)
    head = _HEAD.pack(hasher.digest(16), address.stream, used, flags, len(raw))
    return head + stored


class Frame(NamedTuple):
    """A verified frame: its raw bytes, and whether these begin with a list of runs."""

    raw: bytes
    flags: int


def decode_frame(key: bytes, address: Address, data: bytes, where: str) -> Frame:
    """The frame stored as *data* at *address*.  Raises FormatDamaged, naming *where*."""
    if len(data) < HEAD_SIZE:
        raise FormatDamaged(f"{where}: cut short")
    checksum, stream, codec, flags, raw_size = _HEAD.unpack_from(data)
    stored = memoryview(data)[HEAD_SIZE:]
    sealed = _SEALED.pack(stream, codec, flags, raw_size, address.start, address.length)
    hasher = blake3(sealed, key=key)
    hasher.update(stored)
    if stream != address.stream or hasher.digest(16) != checksum:
        raise FormatDamaged(f"{where}: the checksum does not match")
    if raw_size > raw_limit(stream):
        raise FormatDamaged(f"{where}: beyond the limits of the format")
    if flags & ~FLAG_RUNS:
        raise UnsupportedFormat(f"{where}: flags {flags} are not known here: upgrade ibtfs")
    return Frame(decompress(codec, stored, raw_size, where), flags)


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
    key: bytes, repository: bytes, tables: dict[int, StreamTable], offset: int, codec: Codec
) -> bytes:
    """The frame table and the trailer of a file whose frames end at *offset*.

    The trailer has the id of the *repository* in clear, so that it can be found again.
    """
    table = encode_frame(key, Address(TABLE, offset, 1), encode_table(tables), codec)
    trailer = _TRAILER.pack(MAGIC, FORMAT_VERSION, 0, len(table), offset, repository)
    return table + trailer + blake3(trailer, key=key).digest(16)


class Trailer(NamedTuple):
    """Where the frame table of a file lies."""

    table_offset: int
    table_size: int


def decode_trailer(
    key: bytes, repository: bytes, data: bytes, file_size: int, where: str
) -> Trailer:
    """The trailer, *data* being the last TRAILER_SIZE bytes of a file.  Raises FormatDamaged."""
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
    if offset + size + TRAILER_SIZE != file_size:
        raise FormatDamaged(f"{where}: {file_size} bytes where {offset + size} were expected")
    return Trailer(offset, size)


_RUN_COUNT = struct.Struct("<I")
_RUN = struct.Struct("<II")


def encode_runs(runs: Sequence[tuple[int, int]], raw: bytes) -> bytes:
    """The raw bytes of a frame of which only *runs*, (start, length) within it, survive.

    *runs* are sorted and do not overlap; those that touch are made one.
    """
    joined: list[tuple[int, int]] = []
    for start, length in runs:
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((start, length))
    head = _RUN_COUNT.pack(len(joined)) + b"".join(_RUN.pack(*run) for run in joined)
    return head + b"".join(raw[start : start + length] for start, length in joined)


def decode_runs(raw: bytes, length: int, where: str) -> list[tuple[int, int, int]]:
    """The runs of a frame that held *length* bytes: (start, length, place in *raw*).

    Raises FormatDamaged.
    """
    if len(raw) < _RUN_COUNT.size:
        raise FormatDamaged(f"{where}: no list of runs")
    (count,) = _RUN_COUNT.unpack_from(raw)
    place = _RUN_COUNT.size + count * _RUN.size
    if place > len(raw):
        raise FormatDamaged(f"{where}: the list of runs is cut short")
    runs, end = [], -1
    for first, size in _RUN.iter_unpack(raw[_RUN_COUNT.size : place]):
        if first <= end or not size or first + size > length:
            raise FormatDamaged(f"{where}: runs that overlap, or beyond the frame")
        runs.append((first, size, place))
        place, end = place + size, first + size
    if place != len(raw):
        raise FormatDamaged(f"{where}: the runs do not hold the bytes that they say")
    return runs


def surviving(raw: bytes, length: int, start: int, end: int, where: str) -> memoryview:
    """Bytes *start* to *end* of a frame of *length* bytes that lost some of its own.

    Raises ObjectMissing when they are not all left, FormatDamaged when the runs make no sense.
    """
    runs = decode_runs(raw, length, where)
    row = bisect.bisect_right(runs, (start, length + 1, 0)) - 1
    if row >= 0:
        first, size, place = runs[row]
        if first <= start and end <= first + size:
            return memoryview(raw)[place + start - first : place + end - first]
    raise ObjectMissing(f"{where}: bytes {start} to {end} of a frame are gone")
