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
from ibtfs.format.keys import Author
from ibtfs.sealing.primitives import (
    TAG_SIZE,
    NotAuthentic,
    Suite,
    decrypt_once,
    encrypt_once,
)

NONCE_SIZE = 24
MARK_BYTES = 8
LEAST_SIZE = 256
"""Of an object in bytes: smaller ones all look the same."""
_HEAD = struct.Struct("<BBHI")  # stream, codec, flags, raw size
_BOUND = struct.Struct("<HBQI")  # suite, stream, start, count
OVERHEAD = NONCE_SIZE + _HEAD.size + TAG_SIZE
"""So many bytes a sealed frame has beyond those that are stored."""


def padded_size(size: int) -> int:
    """What *size* is brought to: a number of few significant bits.

    At most a sixteenth is added to 1 KiB, and a thirty-second to 64 MiB.  Source: Padmé, in Nikitin
    et al., Reducing Metadata Leakage from Encrypted Files, 2019.
    """
    size = max(size, LEAST_SIZE)
    exponent = size.bit_length() - 1
    zeros = exponent - exponent.bit_length()
    return -(-size >> zeros) << zeros


class SealedFrames:
    """The frames of one object, sealed by its 32-byte *key*, as Frames says.

    *public* is the key of its trailer, which hides nothing; *envelope* says in clear who can make
    the key.  Threads may share it.
    """

    __slots__ = ("_envelope", "_key", "_public", "_suite")

    def __init__(self, suite: Suite, key: bytes, public: bytes, envelope: bytes) -> None:
        self._suite, self._key, self._public = suite, key, public
        self._envelope = envelope

    @property
    def author(self) -> Author | None:
        """As Frames says."""
        return None

    @property
    def signature_size(self) -> int:
        """As Frames says."""
        return 0

    def sign(self, data: bytes) -> bytes:
        """As Frames says: who has all keys seals, and need not sign."""
        return b""

    def verify(self, data: bytes, signature: bytes, where: str) -> None:
        """As Frames says."""

    def may_refer(self, archive_id: str) -> bool:
        """As Frames says."""
        return True

    @property
    def public(self) -> bytes:
        """As Frames says."""
        return self._public

    @property
    def envelope(self) -> bytes:
        """As Frames says."""
        return self._envelope

    def padded(self, size: int) -> int:
        """As Frames says."""
        return padded_size(size)

    def padding(self, size: int) -> bytes:
        """As Frames says; random, so that nobody sees where it begins."""
        return os.urandom(padded_size(size) - size)

    def mark(self, data: bytes) -> int:
        """As Frames says: half of the nonce, but for one bit."""
        return int.from_bytes(data[:MARK_BYTES], "little") >> 1

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
            raise FormatDamaged(f"{where}: flags {flags} are not known here: upgrade ibtfs")
        try:
            raw = decompress(codec, memoryview(plain)[_HEAD.size :], raw_size, where)
        except UnsupportedFormat as error:  # a machine that only writes can say so of its own
            raise FormatDamaged(str(error)) from error
        return Frame(raw, flags)
