"""Frames, of which every archive file is made.

A frame is the unit of compression, of verification and of random access.  It lies in a *stream*:
a logical address space of its own.  In a data stream addresses are bytes; in a record stream they
are record numbers.  A frame holds the addresses from *start* to *start + count*; only the table
(:mod:`.tables`) knows at which offset of the file.

The checksum of a frame is keyed with the name of the object it belongs to, and covers its stream,
its addresses and its stored bytes: a frame that was swapped, moved, or taken from another
repository does not verify.  FORMAT.rst has the byte tables.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Sequence
from typing import NamedTuple

from blake3 import blake3

from ibtfs.errors import FormatDamaged, LimitExceeded, UnsupportedFormat
from ibtfs.format.compression import Codec, decompress

FORMAT_VERSION = 1
FRAME_LIMIT = 4 << 20
TABLE_LIMIT = FRAME_LIMIT

TABLE = 0
SMALL, LARGE, LITERALS = 1, 2, 3
HEADER, CONTENTS, STATES, MAPS = 16, 17, 18, 19
SLABS, SIGNATURES = 32, 33
MANIFEST = 48
BUNDLE = 49
NOTE = 50
LIST = 51
STREAMS = {
    TABLE: "table", SMALL: "small", LARGE: "large", LITERALS: "literals", HEADER: "header",
    CONTENTS: "contents", STATES: "states", MAPS: "maps", SLABS: "slabs",
    SIGNATURES: "signatures", MANIFEST: "manifest", BUNDLE: "bundle",
    NOTE: "note", LIST: "list",
}  # fmt: skip
DATA_STREAMS = (SMALL, LARGE, LITERALS)
RECORD_STREAMS = (CONTENTS, STATES, MAPS)
LEAST_LEVELS = {LARGE: 3, LITERALS: 3, **dict.fromkeys(RECORD_STREAMS, 6)}
"""Of compression, by stream.  Records take a seventh less than at level 1, for 0.05 s of another
thread in 100,000 files; more gives nothing, and columns of differences instead of rows a tenth at
best."""

_HEAD = struct.Struct("<16sBBHI")  # checksum, stream, codec, flags, raw size
_SEALED = struct.Struct("<BBHIQI")  # stream, codec, flags, raw size, start, count
HEAD_SIZE = _HEAD.size
FLAG_RUNS = 1


def object_key(repository: bytes, name: str) -> bytes:
    """The 32-byte key of the checksums of the object *name* (without its generation)."""
    return blake3(repository + name.encode(), derive_key_context="ibtfs 2026 object key").digest()


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
    used, stored = codec.compress(raw, LEAST_LEVELS.get(address.stream, 0))
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
    return pack_runs([(start, raw[start : start + length]) for start, length in joined])


def pack_runs(pieces: Sequence[tuple[int, bytes | memoryview]]) -> bytes:
    """The raw bytes of a frame of which only *pieces* survive: where each begins, and its bytes.

    They are sorted, and there is a byte at least between any two.
    """
    head = b"".join(_RUN.pack(start, len(piece)) for start, piece in pieces)
    return _RUN_COUNT.pack(len(pieces)) + head + b"".join(piece for _, piece in pieces)


class Runs:
    """What is left of a frame that held *length* bytes; *raw* are its raw bytes.

    *runs* are (start, length, place in *raw*), in order.  Raises FormatDamaged, naming *where*.
    """

    def __init__(self, raw: bytes, length: int, where: str) -> None:
        self.raw, self.runs = raw, decode_runs(raw, length, where)
        self._beyond = length + 1

    def find(self, start: int, end: int) -> tuple[int, int, int] | None:
        """The run that holds bytes *start* to *end* of the frame; None: they are not all left."""
        row = bisect.bisect_right(self.runs, (start, self._beyond, 0)) - 1
        if row < 0 or end > self.runs[row][0] + self.runs[row][1]:
            return None
        return self.runs[row]

    def cut(self, start: int, end: int) -> memoryview | None:
        """Bytes *start* to *end* of the frame; None if they are not all left."""
        run = self.find(start, end)
        if run is None:
            return None
        first, _, place = run
        return memoryview(self.raw)[place + start - first : place + end - first]


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
