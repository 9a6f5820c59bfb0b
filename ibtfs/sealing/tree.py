"""The tree of keys: from a master key, or that of a run, down to the frames of one object.

Each key is BLAKE3's key derivation of all that it depends on, in a context of its own, each part
behind its length; so no two of them can mean the same.
"""

from __future__ import annotations

import struct
from typing import Final

from blake3 import blake3

DIGESTS: Final = "ibtfs 2026 sealed digests"
NAMES: Final = "ibtfs 2026 sealed names"
READER: Final = "ibtfs 2026 sealed reader"
ARCHIVE: Final = "ibtfs 2026 sealed archive"
RUN: Final = "ibtfs 2026 sealed archive of a public run"
COMMITMENT: Final = "ibtfs 2026 sealed commitment to a run"
TOKEN: Final = "ibtfs 2026 sealed token of an archive"
OBJECT: Final = "ibtfs 2026 sealed object"
SLOT: Final = "ibtfs 2026 sealed slot"
MARK: Final = "ibtfs 2026 sealed mark"
HOST: Final = "ibtfs 2026 sealed host"
COPIED: Final = "ibtfs 2026 sealed copy"
TOKEN_SIZE = 16


def derive(context: str, secret: bytes, *parts: bytes, size: int = 32) -> bytes:
    """*size* bytes that only who knows *secret* can make, for these *parts* in this *context*."""
    material = b"".join(struct.pack("<I", len(part)) + part for part in (secret, *parts))
    found: bytes = blake3(material, derive_key_context=context).digest(size)
    return found


def keyed(key: bytes, *parts: bytes, size: int = 32) -> bytes:
    """*size* bytes of the keyed hash of *parts*, each behind its length."""
    material = b"".join(struct.pack("<I", len(part)) + part for part in parts)
    found: bytes = blake3(material, key=key).digest(size)
    return found


def token_of(archive_key: bytes) -> bytes:
    """What a reference to an archive carries, so that no other one can take its place."""
    return derive(TOKEN, archive_key, size=TOKEN_SIZE)
