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
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import zstandard
from blake3 import blake3

from ibtfs.errors import FormatDamaged, ObjectMissing
from ibtfs.format.packing import expect_ints, pack, unpack_map

FORMAT_VERSION = 1
MAGIC = b"ibtfs\r\n\x1a"
FRAME_LIMIT = 4 << 20

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

_HEAD = struct.Struct("<16sBBHI")  # checksum, stream, codec, flags, raw size
_SEALED = struct.Struct("<BBHIQI")  # stream, codec, flags, raw size, start, count
_TRAILER = struct.Struct("<8sHHIQQ")  # magic, version, flags, table size, table offset, reserved
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
    """Compresses frames at one zstd level; one object serves many threads."""

    def __init__(self, level: int = 1) -> None:
        self._level = level
        self._local = threading.local()

    def compress(self, raw: bytes | memoryview) -> tuple[int, bytes | memoryview]:
        """The codec chosen for *raw*, and its stored bytes."""
        compressor = getattr(self._local, "compressor", None)
        if compressor is None:
            # no content size inside: the frame's head says it, and a reader trusts only that
            compressor = zstandard.ZstdCompressor(level=self._level, write_content_size=False)
            self._local.compressor = compressor
        packed: bytes = compressor.compress(raw)
        return (ZSTD, packed) if len(packed) < len(raw) else (RAW, raw)


def decompress(codec: int, stored: memoryview, raw_size: int, where: str) -> bytes:
    """The *raw_size* bytes that were *stored*.  Raises FormatDamaged."""
    if codec == RAW:
        raw = bytes(stored)
    elif codec == ZSTD:
        try:
            raw = zstandard.ZstdDecompressor().decompress(stored, max_output_size=raw_size)
        except zstandard.ZstdError as error:
            raise FormatDamaged(f"{where}: does not decompress ({error})") from error
    else:
        raise FormatDamaged(f"{where}: unknown codec {codec}")
    if len(raw) != raw_size:
        raise FormatDamaged(f"{where}: {len(raw)} bytes where {raw_size} were expected")
    return raw


class Address(NamedTuple):
    """Which logical addresses a frame holds."""

    stream: int
    start: int
    length: int


def encode_frame(
    key: bytes, address: Address, raw: bytes | memoryview, codec: Codec, *, flags: int = 0
) -> bytes:
    """One frame as it is stored.  Thread-safe."""
    used, stored = codec.compress(raw)
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
    if raw_size > FRAME_LIMIT or flags & ~FLAG_RUNS:
        raise FormatDamaged(f"{where}: beyond the limits of the format")
    return Frame(decompress(codec, stored, raw_size, where), flags)


@dataclass
class StreamTable:
    """Where the frames of one stream lie, in columns; sorted by start."""

    starts: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

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
        STREAMS[stream]: (
            _gaps(table.starts, table.counts), table.counts,
            _gaps(table.offsets, table.sizes), table.sizes,
        )
        for stream, table in sorted(tables.items())
        if table.starts
    }  # fmt: skip
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
        table = StreamTable(_firsts(gaps, counts), list(counts), _firsts(holes, sizes), list(sizes))
        _check_table(table, (gaps, counts, holes, sizes), file_size, where)
        tables[numbers[name]] = table
    return tables


def _check_table(
    table: StreamTable, columns: Sequence[Sequence[int]], file_size: int, where: str
) -> None:
    """Refuse a table that points outside the file or goes backwards."""
    gaps, counts, _, sizes = columns
    lengths = {len(column) for column in columns}
    if len(lengths) != 1 or lengths == {0}:
        raise FormatDamaged(f"{where}: columns of different lengths")
    ends = [offset + size for offset, size in zip(table.offsets, table.sizes)]
    if min(gaps) < 0 or min(counts) < 1 or min(sizes) < HEAD_SIZE or min(table.offsets) < 0:
        raise FormatDamaged(f"{where}: a frame of no size")
    if max(ends) > file_size or max(sizes) > FRAME_LIMIT + (1 << 16):
        raise FormatDamaged(f"{where}: a frame beyond the end of the file")


def encode_end(key: bytes, tables: dict[int, StreamTable], offset: int, codec: Codec) -> bytes:
    """The frame table and the trailer of a file whose frames end at *offset*."""
    table = encode_frame(key, Address(TABLE, offset, 1), encode_table(tables), codec)
    trailer = _TRAILER.pack(MAGIC, FORMAT_VERSION, 0, len(table), offset, 0)
    return table + trailer + blake3(trailer, key=key).digest(16)


class Trailer(NamedTuple):
    """Where the frame table of a file lies."""

    table_offset: int
    table_size: int


def decode_trailer(key: bytes, data: bytes, file_size: int, where: str) -> Trailer:
    """The trailer, *data* being the last TRAILER_SIZE bytes of a file.  Raises FormatDamaged."""
    if len(data) != TRAILER_SIZE:
        raise FormatDamaged(f"{where}: cut short, {file_size} bytes are left")
    magic, version, flags, size, offset, reserved = _TRAILER.unpack_from(data)
    if magic != MAGIC:
        raise FormatDamaged(f"{where}: no trailer at the end; cut short or not an archive file")
    if blake3(data[: _TRAILER.size], key=key).digest(16) != data[_TRAILER.size :]:
        raise FormatDamaged(f"{where}: the trailer's checksum does not match")
    if version != FORMAT_VERSION or flags or reserved:
        raise FormatDamaged(f"{where}: format version {version}, flags {flags} are not known")
    if offset + size + TRAILER_SIZE != file_size:
        raise FormatDamaged(f"{where}: {file_size} bytes where {offset + size} were expected")
    return Trailer(offset, size)


_RUN_COUNT = struct.Struct("<I")
_RUN = struct.Struct("<II")


def encode_runs(runs: Sequence[tuple[int, int]], raw: bytes) -> bytes:
    """The raw bytes of a frame of which only *runs*, (start, length) within it, survive."""
    head = _RUN_COUNT.pack(len(runs)) + b"".join(_RUN.pack(*run) for run in runs)
    return head + b"".join(raw[start : start + length] for start, length in runs)


def surviving(raw: bytes, start: int, end: int, where: str) -> memoryview:
    """Bytes *start* to *end* of a frame that lost some of its own.

    Raises ObjectMissing when they are not all left, FormatDamaged when the runs make no sense.
    """
    if len(raw) < _RUN_COUNT.size:
        raise FormatDamaged(f"{where}: no list of runs")
    (count,) = _RUN_COUNT.unpack_from(raw)
    position = _RUN_COUNT.size + count * _RUN.size
    if position > len(raw):
        raise FormatDamaged(f"{where}: the list of runs is cut short")
    for first, length in _RUN.iter_unpack(raw[_RUN_COUNT.size : position]):
        if first <= start and end <= first + length:
            found = memoryview(raw)[position + start - first : position + end - first]
            if len(found) != end - start:
                raise FormatDamaged(f"{where}: the runs hold fewer bytes than they say")
            return found
        position += length
    raise ObjectMissing(f"{where}: bytes {start} to {end} of a frame are gone")
