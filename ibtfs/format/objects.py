"""Small objects: manifests and notes of damage, of one frame each, and lists.

A head says how long what follows is: the envelope of a sealed object, its frame, a signature, and
what brings it to the size that it is to have.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from blake3 import blake3

from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format.compression import Codec
from ibtfs.format.frames import FORMAT_VERSION, FRAME_LIMIT, Address
from ibtfs.format.keys import Author, Keys

MAGIC = b"ibtfs\r\n\x1b"
FLAG_SEALED = 1
OBJECT_LIMIT = 2 * FRAME_LIMIT
"""So many bytes a frame of an object has at most."""
_HEAD = struct.Struct("<8sHHHHI")
"""Magic, version, flags, sizes of envelope and signature, size of the frame; a checksum follows."""
_CHECKSUM = 4
HEAD_SIZE = _HEAD.size + _CHECKSUM


class Parts(NamedTuple):
    """What an object is made of; nothing of it is verified."""

    envelope: bytes
    frame: bytes
    signature: bytes


def encode_object(keys: Keys, name: str, stream: int, raw: bytes, codec: Codec) -> bytes:
    """The object *name*, in which *raw* is one frame of *stream*.  Raises LimitExceeded."""
    return encode_frames(keys, name, stream, (), lambda _: raw, codec)


def encode_frames(
    keys: Keys, name: str, stream: int, more: Sequence[bytes], first: Callable[[list[int]], bytes],
    codec: Codec,
) -> bytes:  # fmt: skip
    """The object *name* of several frames of *stream*.

    The first holds what *first* makes of the sizes of the others, as they are stored, which hold
    *more*.  Raises LimitExceeded.
    """
    frames = keys.new_frames(name)
    envelope = frames.envelope
    behind = [frames.encode(Address(stream, n, 1), raw, codec) for n, raw in enumerate(more, 1)]
    frame = frames.encode(Address(stream, 0, 1), first(list(map(len, behind))), codec)
    flags = FLAG_SEALED if envelope else 0
    head = _HEAD.pack(
        MAGIC, FORMAT_VERSION, flags, len(envelope), frames.signature_size, len(frame)
    )
    data = head + _checksum(head) + envelope + frame
    data = b"".join((data, frames.sign(data), *behind))
    return data + frames.padding(len(data))


def _checksum(head: bytes) -> bytes:
    """Of a head, which no key protects: damage to it is told from a later version."""
    return blake3(head).digest(_CHECKSUM)


class Said(NamedTuple):
    """What a small object holds, and who made it; *may_refer* as of Frames."""

    raw: bytes
    author: Author | None
    may_refer: Callable[[str], bool]


class FramesOf:
    """The frames of an object that only who has all keys makes; the *first* is verified."""

    def __init__(self, keys: Keys, name: str, stream: int, data: bytes) -> None:
        self._name, self._stream, self._data = name, stream, data
        parts = _split(keys, data, name)
        self._frames = keys.frames(name, parts.envelope)
        self._end = HEAD_SIZE + sum(map(len, parts))
        self.first = self._frames.decode(Address(stream, 0, 1), parts.frame, name).raw
        if self._frames.author is not None:
            raise FormatDamaged(f"{name}: was made by a machine that may make backups only")

    def require_end(self, sizes: Sequence[int]) -> None:
        """Raise FormatDamaged unless the object ends behind frames of these *sizes*."""
        if self._frames.padded(self._end + sum(sizes)) != len(self._data):
            raise FormatDamaged(f"{self._name}: is not as long as it was written")

    def more(self, sizes: Sequence[int]) -> Iterator[bytes]:
        """What frames of these *sizes* behind the first hold.  Raises FormatDamaged."""
        start = self._end
        for number, size in enumerate(sizes, 1):
            address, frame = Address(self._stream, number, 1), self._data[start : start + size]
            yield self._frames.decode(address, frame, self._name).raw
            start += size


def read_frames(keys: Keys, name: str, stream: int, data: bytes) -> FramesOf:
    """The inverse; nobody signs such an object.  Raises FormatDamaged, UnsupportedFormat."""
    return FramesOf(keys, name, stream, data)


def _split(keys: Keys, data: bytes, where: str) -> Parts:
    """The parts of an object.  Raises FormatDamaged, UnsupportedFormat.

    The latter not of what is sealed: anybody could have put it there.
    """
    try:
        return split_object(data, where)
    except UnsupportedFormat as error:
        if keys.is_sealed:
            raise FormatDamaged(f"{error}, or it is damaged") from error
        raise


def read_object(keys: Keys, name: str, stream: int, data: bytes, where: str) -> Said:
    """What an object of one frame holds; messages name it *where*.

    Raises FormatDamaged, UnsupportedFormat.
    """
    parts = _split(keys, data, where)
    frames = keys.frames(name, parts.envelope)
    raw = frames.decode(Address(stream, 0, 1), parts.frame, where).raw
    size = HEAD_SIZE + sum(map(len, parts))
    if frames.padded(size) != len(data):
        raise FormatDamaged(f"{where}: is not as long as it was written")
    if len(parts.signature) != frames.signature_size:
        raise FormatDamaged(f"{where}: is not signed as it should be")
    frames.verify(data[: size - len(parts.signature)], parts.signature, where)
    return Said(raw, frames.author, frames.may_refer)


def signed_part(data: bytes, where: str) -> bytes:
    """All of the object *data* before its signature.  Raises FormatDamaged, UnsupportedFormat."""
    parts = split_object(data, where)
    return data[: HEAD_SIZE + len(parts.envelope) + len(parts.frame)]


def decode_object(keys: Keys, name: str, stream: int, data: bytes, where: str) -> bytes:
    """What an object holds that only who has all keys makes.

    Raises FormatDamaged, UnsupportedFormat.
    """
    found = read_object(keys, name, stream, data, where)
    if found.author is not None:
        raise FormatDamaged(f"{where}: was made by a machine that may make backups only")
    return found.raw


def split_object(data: bytes, where: str) -> Parts:
    """The parts of the object *data*.  Raises FormatDamaged, UnsupportedFormat."""
    if len(data) < HEAD_SIZE or not data.startswith(MAGIC):
        raise FormatDamaged(f"{where}: is not what should lie there, or was cut short")
    if _checksum(data[: _HEAD.size]) != data[_HEAD.size : HEAD_SIZE]:
        raise FormatDamaged(f"{where}: the checksum of its head does not match")
    _, version, flags, envelope, signature, frame = _HEAD.unpack_from(data)
    if version != FORMAT_VERSION or flags & ~FLAG_SEALED:
        raise UnsupportedFormat(f"{where}: format {version}, flags {flags}: upgrade ibtfs")
    ends = (HEAD_SIZE, HEAD_SIZE + envelope, HEAD_SIZE + envelope + frame)
    if bool(flags) != bool(envelope) or frame > OBJECT_LIMIT or ends[2] + signature > len(data):
        raise FormatDamaged(f"{where}: is not as long as it says")
    return Parts(data[ends[0] : ends[1]], data[ends[1] : ends[2]], data[ends[2] :][:signature])
