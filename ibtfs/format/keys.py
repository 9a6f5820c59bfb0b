"""What the frames of a repository's objects depend on: its id alone, or secrets as well."""

from __future__ import annotations

from typing import Protocol

from ibtfs.format.compression import Codec
from ibtfs.format.digests import Digests
from ibtfs.format.frames import Address, Frame, decode_frame, encode_frame, object_key


class Frames(Protocol):
    """How the frames of one object are stored; threads may share it."""

    @property
    def public(self) -> bytes:
        """The 32-byte key of what is no frame, and secret to nobody: of trailers."""
        ...

    def encode(
        self, address: Address, raw: bytes | memoryview, codec: Codec, *, flags: int = 0
    ) -> bytes:
        """One frame as it is stored.  Raises LimitExceeded."""
        ...

    def decode(self, address: Address, data: bytes, where: str) -> Frame:
        """The frame stored as *data* at *address*.  Raises FormatDamaged, naming *where*."""
        ...


class Keys(Protocol):
    """The keys of a repository with the 16 bytes *repository* as its id; threads may share them."""

    @property
    def repository(self) -> bytes:
        """The id."""
        ...

    @property
    def digests(self) -> Digests:
        """How contents and directory states are told apart."""
        ...

    def frames(self, name: str) -> Frames:
        """Those of the object *name*, without its generation."""
        ...


class PlainFrames:
    """Frames with checksums by a *key* that whoever knows the repository's id can make."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    @property
    def public(self) -> bytes:
        """As Frames says."""
        return self._key

    def encode(
        self, address: Address, raw: bytes | memoryview, codec: Codec, *, flags: int = 0
    ) -> bytes:
        """As Frames says."""
        return encode_frame(self._key, address, raw, codec, flags=flags)

    def decode(self, address: Address, data: bytes, where: str) -> Frame:
        """As Frames says."""
        return decode_frame(self._key, address, data, where)


class PlainKeys:
    """The keys of a repository that is not sealed: its id is all that they are made of."""

    __slots__ = ("_repository", "digests")

    def __init__(self, repository: bytes) -> None:
        self._repository = repository
        self.digests = Digests()

    @property
    def repository(self) -> bytes:
        """As Keys says."""
        return self._repository

    def frames(self, name: str) -> PlainFrames:
        """As Keys says."""
        return PlainFrames(object_key(self._repository, name))
