"""What the frames of a repository's objects depend on: its id alone, or secrets as well."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ibtfs.errors import FormatDamaged
from ibtfs.format.compression import Codec
from ibtfs.format.digests import Digests
from ibtfs.format.frames import Address, Frame, decode_frame, encode_frame, object_key


class Author(NamedTuple):
    """A machine that only writes: what its runs are told by, and the host whose points it makes."""

    tag: str
    host: str


class Frames(Protocol):
    """How the frames of one object are stored; threads may share it."""

    @property
    def author(self) -> Author | None:
        """Who made the object, if it was a machine that only writes: it is trusted with its own."""
        ...

    @property
    def signature_size(self) -> int:
        """How long the signature of the object is, if it is a small one."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature of *data*, which is all of a small object before it."""
        ...

    def verify(self, data: bytes, signature: bytes, where: str) -> None:
        """Raise FormatDamaged, naming *where*, unless the author signed *data*."""
        ...

    def may_refer(self, archive_id: str) -> bool:
        """Whether what the object says may lead to this archive."""
        ...

    @property
    def public(self) -> bytes:
        """The 32-byte key of what is no frame, and secret to nobody: of trailers."""
        ...

    @property
    def envelope(self) -> bytes:
        """What the object has in clear for who is to find their key; empty: nothing is sealed."""
        ...

    def padded(self, size: int) -> int:
        """What an object of *size* bytes is brought to, so that its size tells little."""
        ...

    def padding(self, size: int) -> bytes:
        """What such an object gets in addition."""
        ...

    def mark(self, data: bytes) -> int:
        """What tells a frame, stored as *data*, from all others; at most 63 bits."""
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
    def is_sealed(self) -> bool:
        """Whether objects are: then what no key has verified is damage, whatever it says it is."""
        ...

    @property
    def digests(self) -> Digests:
        """How contents and directory states are told apart."""
        ...

    @property
    def trust(self) -> bytes:
        """What changes with the machines that are believed."""
        ...

    def author_of(self, name: str) -> Author | None:
        """The machine that only writes by whose name for its runs the object *name* is called.

        Whatever lies there can lead to nothing but what the same one has made.
        """
        ...

    def host(self, host: str) -> str:
        """What stands for the name of a machine where all can see it."""
        ...

    def copied(self, repository: bytes, point_id: str = "") -> str:
        """What stands where all can see it for a repository that was copied from, or its point."""
        ...

    def new_frames(self, name: str) -> Frames:
        """Those of the object *name*, without its generation, which is to be written."""
        ...

    def frames(self, name: str, envelope: bytes, generation: int = 1) -> Frames:
        """Those of the object *name*, without its *generation*, which has this *envelope*.

        Raises FormatDamaged.
        """
        ...

    def later_frames(self, name: str, frames: Frames | None, generation: int) -> Frames:
        """Those of a *generation* of *name*, of which an earlier one has *frames*.

        If they are the same, its frames can be taken over as they are.  None: nothing is left.
        """
        ...


class PlainFrames:
    """Frames with checksums by a *key* that whoever knows the repository's id can make."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    @property
    def author(self) -> None:
        """As Frames says."""
        return None

    @property
    def signature_size(self) -> int:
        """As Frames says."""
        return 0

    def sign(self, data: bytes) -> bytes:
        """As Frames says."""
        return b""

    def verify(self, data: bytes, signature: bytes, where: str) -> None:
        """As Frames says: nothing is signed."""

    def may_refer(self, archive_id: str) -> bool:
        """As Frames says."""
        return True

    @property
    def public(self) -> bytes:
        """As Frames says."""
        return self._key

    @property
    def envelope(self) -> bytes:
        """As Frames says."""
        return b""

    def padded(self, size: int) -> int:
        """As Frames says."""
        return size

    def padding(self, size: int) -> bytes:
        """As Frames says."""
        return b""

    def mark(self, data: bytes) -> int:
        """As Frames says."""
        return 0

    def encode(
        self, address: Address, raw: bytes | memoryview, codec: Codec, *, flags: int = 0
    ) -> bytes:
        """As Frames says."""
        return encode_frame(self._key, address, raw, codec, flags=flags)

    def decode(self, address: Address, data: bytes, where: str) -> Frame:
        """As Frames says."""
        return decode_frame(self._key, address, data, where)


class PlainKeys:
    """The keys of a repository that is not sealed: its id is all that they are made of.

    So are those of copies that a machine keeps for itself, but for their *digests*.
    """

    __slots__ = ("_repository", "digests")

    def __init__(self, repository: bytes, digests: Digests | None = None) -> None:
        self._repository = repository
        self.digests = digests or Digests()

    @property
    def repository(self) -> bytes:
        """As Keys says."""
        return self._repository

    @property
    def is_sealed(self) -> bool:
        """As Keys says."""
        return False

    @property
    def trust(self) -> bytes:
        """As Keys says."""
        return b""

    def author_of(self, name: str) -> Author | None:
        """As Keys says."""
        return None

    def host(self, host: str) -> str:
        """As Keys says."""
        return host

    def copied(self, repository: bytes, point_id: str = "") -> str:
        """As Keys says."""
        return point_id or repository.hex()

    def new_frames(self, name: str) -> PlainFrames:
        """As Keys says."""
        return PlainFrames(object_key(self._repository, name))

    def frames(self, name: str, envelope: bytes, generation: int = 1) -> PlainFrames:
        """As Keys says."""
        if envelope:
            raise FormatDamaged(f"{name}: is sealed, and the repository is not")
        return self.new_frames(name)

    def later_frames(self, name: str, frames: Frames | None, generation: int) -> Frames:
        """As Keys says."""
        return self.new_frames(name) if frames is None else frames
