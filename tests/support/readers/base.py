"""What a reader is, and what it puts around bytes so that they get past checksums."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgpack

from ibtfs.errors import IbtfsError
from ibtfs.format.compression import Codec
from ibtfs.format.frames import FRAME_LIMIT, STREAMS, TABLE, Address, encode_frame, object_key
from ibtfs.format.keys import PlainFrames
from ibtfs.format.tables import ADDRESS_LIMIT, StreamTable, encode_end

REPOSITORY = b"i" * 16
ARCHIVE = "20261120T101112Z_host_0a.0"
OTHER_ARCHIVE = "20261120T101112Z_host_0b.0"
POINT_ID = "20261120T101112Z_host_0a"
WHERE = "here"
CODEC = Codec(1)


class Shape(enum.Enum):
    """What the bytes of a reader mostly are, so that they can be changed without breaking that."""

    BYTES = "bytes"
    VALUE = "value"
    """A value of msgpack."""
    JSON = "json"
    TEXT = "text"

    @property
    def is_plain(self) -> bool:
        """Whether bytes are changed as bytes."""
        return self in (Shape.BYTES, Shape.TEXT)


class Reader(NamedTuple):
    """How bytes are read, and what they mostly are."""

    read: Callable[[bytes], object]
    shape: Shape = Shape.VALUE


Frames = list[tuple[int, int, int, bytes]]
"""Stream, start, count and raw bytes of the frames of a file."""


def value_of(data: bytes) -> Any:
    """The value that *data* packs, which a reader puts into something; IbtfsError if it is none."""
    try:
        return msgpack.unpackb(
            data, strict_map_key=False, unicode_errors="surrogateescape", use_list=False
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise IbtfsError("no value") from error


def packed(value: Any) -> bytes:
    """The inverse of :func:`value_of`; IbtfsError of what it may give and cannot be packed."""
    try:
        data: bytes = msgpack.packb(value, unicode_errors="surrogateescape")
    except (ValueError, TypeError, OverflowError) as error:
        raise IbtfsError("cannot be packed") from error
    return data


def frames_of(value: Any) -> Frames:
    """*value* if it lists frames as they can be written; IbtfsError otherwise."""
    kinds = (int, int, int, bytes)
    if not isinstance(value, Sequence) or not all(
        isinstance(row, tuple)
        and tuple(map(type, row)) == kinds
        and row[0] in STREAMS
        and row[0] != TABLE
        and row[1] >= 0
        and 0 < row[2] <= FRAME_LIMIT
        and row[1] + row[2] < ADDRESS_LIMIT
        for row in value
    ):
        raise IbtfsError("no frames")
    return list(value)


def framed_file(repository: bytes, name: str, frames: Frames) -> bytes:
    """A file of *frames*, with a table and a trailer that fit."""
    key, data, tables = object_key(repository, name), bytearray(), dict[int, StreamTable]()
    for stream, start, count, raw in sorted(frames, key=lambda row: row[:2]):
        table = tables.setdefault(stream, StreamTable())
        if start < table.end:
            raise IbtfsError("frames that overlap")
        stored = encode_frame(key, Address(stream, start, count), raw, CODEC)
        table.add(start, count, len(data), len(stored))
        data += stored
    return bytes(data) + encode_end(PlainFrames(key), repository, tables, len(data), CODEC)
