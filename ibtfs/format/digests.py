"""The digest of a content: of a large one a tree over those of its slabs.

So each byte is hashed once, a hole not at all, and slabs in any order and thread.  In a sealed
repository all digests are keyed, but for that of a slab of zeros, which has none to give away.
"""

from __future__ import annotations

import functools
import hmac
import struct
from collections.abc import Callable

from blake3 import blake3

SLAB = 64 << 10
"""Bytes of a slab: it lies at a multiple of this, and the last one is cut short."""
DIGEST_SIZE = 32
ZERO_SLAB = bytes.fromhex("3bdeaf8f8e98780b318106aafdc3ca257f73df123d97b69112b26044c91a7d56")
"""The digest of a whole slab of zeros."""
GROUP = 4096
"""So many digests of a level become one of the next."""

_ZEROS = bytes(SLAB)


class Digests:
    """How the contents and the directory states of a repository are told apart.

    All of it depends on a *key* of 32 bytes, if there is one.  Threads may share it.
    """

    __slots__ = ("_hash", "_key")

    def __init__(self, key: bytes = b"") -> None:
        self._key = key
        self._hash = functools.partial(blake3, key=key) if key else blake3

    def __eq__(self, other: object) -> bool:
        """Whether both give equal things equal digests."""
        return isinstance(other, Digests) and hmac.compare_digest(self._key, other._key)

    def __hash__(self) -> int:
        return hash(self.plain(b""))

    def plain(self, data: bytes | memoryview) -> bytes:
        """The 32 bytes of *data*, whatever it is."""
        found: bytes = self._hash(data).digest()
        return found

    def derived(self, context: str, material: bytes) -> bytes:
        """The 32 bytes of *material* in a *context* of its own."""
        found: bytes = blake3(self._key + material, derive_key_context=context).digest()
        return found

    def slab(self, data: bytes | memoryview) -> bytes:
        """The 32 bytes of one slab, which may be cut short by the end of its content."""
        # a memoryview would be compared byte by byte
        if len(data) == SLAB and not data[0] and not data[-1] and bytes(data) == _ZEROS:
            return ZERO_SLAB
        return self.plain(data)

    def content(self, data: bytes | memoryview) -> bytes:
        """The 32 bytes that identify a content: *data*, all of it."""
        if len(data) <= SLAB:
            return self.slab(data)
        hasher = self.hasher()
        hasher.update(data)
        return hasher.finish()

    def hasher(self, take: Callable[[bytes], object] | None = None) -> ContentHasher:
        """What finds the digest of a content, and gives *take* that of each slab."""
        return ContentHasher(self, take)


class _Level:
    """Digests of a level that are in no group yet, and the level above, if there is one.

    A full group stays open until there is more.
    """

    def __init__(self, digests: Digests) -> None:
        self._of = digests
        self._digests = bytearray()
        self._above: _Level | None = None

    def append(self, digest: bytes) -> None:
        """Add one digest."""
        if len(self._digests) == GROUP * DIGEST_SIZE:
            self._close()
        self._digests += digest

    def repeat(self, digest: bytes, count: int) -> None:
        """Add *digest* so many times; what that takes hardly grows with *count*."""
        fits = min(count, GROUP - len(self._digests) // DIGEST_SIZE)
        self._digests += digest * fits
        count -= fits
        if not count:
            return
        self._close()
        groups = (count - 1) // GROUP
        if groups:
            self._parent().repeat(self._group(digest * GROUP), groups)
        self._digests += digest * (count - groups * GROUP)

    def _close(self) -> None:
        """Make one digest of the next level of what is here."""
        self._parent().append(self._group(bytes(self._digests)))
        self._digests.clear()

    def _parent(self) -> _Level:
        if self._above is None:
            self._above = _Level(self._of)
        return self._above

    def _group(self, digests: bytes) -> bytes:
        return self._of.derived("ibtfs 2026 slabs", digests)

    def top(self) -> bytes:
        """The digests of the last level; nothing may be added afterwards."""
        if self._above is None:
            return bytes(self._digests)
        self._close()
        return self._above.top()


class ContentHasher:
    """The digest of a content whose bytes are given in order; used by one thread at a time.

    By the way of *digests*.  *take* is given the digest of each slab that comes by :meth:`update`.
    *size* is how many bytes were given.
    """

    def __init__(self, digests: Digests, take: Callable[[bytes], object] | None = None) -> None:
        self.size = 0
        self._of, self._take = digests, take
        self._slabs = _Level(digests)
        self._begun = bytearray()
        self._found: bytes | None = None

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes."""
        if self._found is not None or self.size % SLAB != len(self._begun):
            raise ValueError("The content has ended")
        view = memoryview(data)
        self.size += len(view)
        if self._begun:
            missing = SLAB - len(self._begun)
            self._begun += view[:missing]
            view = view[missing:]
            if len(self._begun) < SLAB:
                return
            self._slab(bytes(self._begun))
            self._begun.clear()
        whole = len(view) // SLAB * SLAB
        for first in range(0, whole, SLAB):
            self._slab(view[first : first + SLAB])
        self._begun += view[whole:]

    def _slab(self, data: bytes | memoryview) -> None:
        digest = self._of.slab(data)
        self._slabs.append(digest)
        if self._take is not None:
            self._take(digest)

    def add_slab(self, digest: bytes, length: int) -> None:
        """Add a slab of *length* bytes that has this *digest*, behind others of their whole length.

        One that is shorter is the last one: nothing may be added afterwards.
        """
        if self.size % SLAB or not 0 < length <= SLAB or self._found is not None:
            raise ValueError("Not a slab at its place")
        self.size += length
        self._slabs.append(digest)

    def add_zeros(self, length: int) -> None:
        """Add *length* bytes of zeros; what that takes hardly grows with *length*."""
        first = min(length, -self.size % SLAB)
        self.update(_ZEROS[:first])
        slabs, rest = divmod(length - first, SLAB)
        self._slabs.repeat(ZERO_SLAB, slabs)
        self.size += slabs * SLAB
        self.update(_ZEROS[:rest])

    def finish(self) -> bytes:
        """The digest of what was added; nothing may be added afterwards."""
        if self._found is None:
            if self._begun:
                self._slab(bytes(self._begun))
            self._found = self._of_levels(self._slabs.top())
        return self._found

    def _of_levels(self, digests: bytes) -> bytes:
        if self.size <= SLAB:
            return digests or self._of.plain(b"")
        return self._of.derived("ibtfs 2026 content", struct.pack("<Q", self.size) + digests)
