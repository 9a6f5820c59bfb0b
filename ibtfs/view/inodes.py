"""Inode numbers of the mounted tree: keyed hashes of what they number, told apart where it matters.

A number depends on nothing but what it is for: it is the same in every mount, and for the same
unchanged file or directory in every point.  60 bits leave collisions possible, so those nodes by
whose numbers programs tell things apart, directories and files with several links, *claim* theirs:
two such that are in use at once never share one.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque

from blake3 import blake3

from ibtfs.format.packing import pack

BITS = 60
"""The kernel has 64; overlayfs needs up to four of them to tell apart what it lies over."""
KEPT = 50_000
"""Claims that are kept though nobody holds them: programs remember numbers longer than nodes."""
FIRST = 2  # 0 is no number, and 1 is the root's


class Claim:
    """A number that is taken for as long as someone holds this object."""

    __slots__ = ("__weakref__", "digest", "number")

    def __init__(self, number: int, digest: bytes) -> None:
        self.number, self.digest = number, digest


class Inodes:
    """The numbers of one repository.  Thread-safe."""

    def __init__(self, repository_id: bytes) -> None:
        self._key = blake3(repository_id, derive_key_context="ibtfs 2026 inode").digest()
        self._lock = threading.Lock()
        self._claims: weakref.WeakValueDictionary[int, Claim] = weakref.WeakValueDictionary()
        self._kept: deque[Claim] = deque(maxlen=KEPT)

    def number(self, *parts: bytes) -> int:
        """A number for what *parts* describe; never 0 or 1."""
        return _number(self._digest(parts))

    def claim(self, *parts: bytes) -> Claim:
        """As :meth:`number`, or the next that is free where something else holds that one."""
        digest = self._digest(parts)
        number = _number(digest)
        with self._lock:
            while True:
                claim = self._claims.get(number)
                if claim is None:
                    claim = self._claims[number] = Claim(number, digest)
                    self._kept.append(claim)
                if claim.digest == digest:
                    return claim
                number = _following(number)

    def _digest(self, parts: tuple[bytes, ...]) -> bytes:
        # one call for what is done for each entry of every listing
        return blake3(pack(parts), key=self._key).digest(16)


def _number(digest: bytes) -> int:
    return (int.from_bytes(digest[:8], "little") & (1 << BITS) - 1) | FIRST


def _following(number: int) -> int:
    return (number + 1 & (1 << BITS) - 1) | FIRST
