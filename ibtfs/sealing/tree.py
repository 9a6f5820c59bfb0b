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
LATER: Final = "ibtfs 2026 sealed later generation"
REVOKED: Final = "ibtfs 2026 sealed revocation"
OBJECT: Final = "ibtfs 2026 sealed object"
SLOT: Final = "ibtfs 2026 sealed slot"
MARK: Final = "ibtfs 2026 sealed mark"
HOST: Final = "ibtfs 2026 sealed host"
COPIED: Final = "ibtfs 2026 sealed copy"


def parts(*found: bytes) -> bytes:
    """All of *found*, each behind its length."""
    return b"".join(struct.pack("<I", len(part)) + part for part in found)


def derive(context: str, secret: bytes, *on: bytes, size: int = 32) -> bytes:
    """*size* bytes that only who knows *secret* can make, depending *on* these, in a *context*."""
    found: bytes = blake3(parts(secret, *on), derive_key_context=context).digest(size)
    return found


def keyed(key: bytes, *of: bytes, size: int = 32) -> bytes:
    """*size* bytes of the keyed hash *of* these, each behind its length."""
    found: bytes = blake3(parts(*of), key=key).digest(size)
    return found
