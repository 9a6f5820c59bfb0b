"""Sealed frames: nobody without the key of their object can read, make or move one.

A sealed frame is a nonce of 24 random bytes and a ciphertext with its tag.  Its key is made of the
object's and of the nonce, and used once; the cipher's own nonce is zero.  So there is no number of
frames after which a key is worn, and a frame may be taken over unchanged by a later generation of
its file: what it is bound to, its stream and addresses, stays.
"""

from __future__ import annotations

import os
import struct

from blake3 import blake3

from ibtfs.errors import FormatDamaged, LimitExceeded, UnsupportedFormat
from ibtfs.format.compression import Codec, decompress
from ibtfs.format.frames import (
    FLAG_RUNS,
    LEAST_LEVELS,
    STREAMS,
    Address,
    Frame,
    raw_limit,
)
from ibtfs.sealing.primitives import (
    TAG_SIZE,
    NotAuthentic,
    Suite,
    decrypt_once,
    encrypt_once,
)

NONCE_SIZE = 24
_HEAD = struct.Struct("<BBHI")  # stream, codec, flags, raw size
_BOUND = struct.Struct("<HBQI")  # suite, stream, start, count
OVERHEAD = NONCE_SIZE + _HEAD.size + TAG_SIZE
"""So many bytes a sealed frame has beyond those that are stored."""


class SealedFrames:
    """The frames of one object, sealed by its 32-byte *key*, as Frames says.

    *public* is the key of its trailer, which hides nothing.  Threads may share it.
    """

    __slots__ = ("_key", "_public", "_suite")

    def __init__(self, suite: Suite, key: bytes, public: bytes) -> None:
        self._suite, self._key, self._public = suite, key, public

    @property
    def public(self) -> bytes:
        """As Frames says."""
        return self._public

    def encode(
        self, address: Address, raw: bytes | memoryview, codec: Codec, *, flags: int = 0
    ) -> bytes:
        """As Frames says."""
        return self.encode_by(os.urandom(NONCE_SIZE), address, raw, codec, flags=flags)

    def encode_by(
        self, nonce: bytes, address: Address, raw: bytes | memoryview, codec: Codec, *, flags: int
    ) -> bytes:
        """One frame with a *nonce* that is never used again.  Raises LimitExceeded."""
        if len(raw) > raw_limit(address.stream):
            raise LimitExceeded(
                f"A frame of the {STREAMS[address.stream]} would be {len(raw)} bytes"
            )
        used, stored = codec.compress(raw, LEAST_LEVELS.get(address.stream, 0))
        plain = b"".join((_HEAD.pack(address.stream, used, flags, len(raw)), stored))
        key, bound = self._frame_key(nonce), self._bound(address)
        return b"".join((nonce, encrypt_once(self._suite, key, plain, bound)))

    def _frame_key(self, nonce: bytes) -> bytes:
        found: bytes = blake3(nonce, key=self._key).digest()
        return found

    def _bound(self, address: Address) -> bytes:
        return _BOUND.pack(self._suite, address.stream, address.start, address.length)

    def decode(self, address: Address, data: bytes, where: str) -> Frame:
        """As Frames says."""
        if len(data) < OVERHEAD:
            raise FormatDamaged(f"{where}: cut short")
        nonce, sealed = data[:NONCE_SIZE], data[NONCE_SIZE:]
        try:
            plain = decrypt_once(self._suite, self._frame_key(nonce), sealed, self._bound(address))
        except NotAuthentic:
            raise FormatDamaged(f"{where}: is not what was sealed there") from None
        stream, codec, flags, raw_size = _HEAD.unpack_from(plain)
        # who has the key may still write what no reader bears
        if stream != address.stream or raw_size > raw_limit(stream):
            raise FormatDamaged(f"{where}: beyond the limits of the format")
        if flags & ~FLAG_RUNS:
            raise UnsupportedFormat(f"{where}: flags {flags} are not known here: upgrade ibtfs")
        return Frame(decompress(codec, memoryview(plain)[_HEAD.size :], raw_size, where), flags)
