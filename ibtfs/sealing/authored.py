"""Frames of what a machine made that only writes: it is trusted with its own, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ibtfs.errors import FormatDamaged, NotBelieved
from ibtfs.format.keys import Author
from ibtfs.sealing import tree
from ibtfs.sealing.frames import SealedFrames
from ibtfs.sealing.primitives import SIGNATURE_SIZE, NotAuthentic, Suite, sign, verify
from ibtfs.sealing.runs import tag_of

_SIGNED: Final = b"ibtfs 2026 signature of a point\0"


class Hand(NamedTuple):
    """Who made an object, and how that is told.

    *public* is the key of its signature, or *refusal* why none counts; *seed* is for the machine
    itself.  *accepts* says which of its small objects count, if not all.  *is_first*: it is as it
    was made; later generations are written by who has all keys.
    """

    author: Author
    public: bytes = b""
    refusal: str = ""
    seed: bytes = b""
    is_first: bool = True
    accepts: Callable[[bytes], bool] | None = None


def signed_of(repository: bytes, name: str) -> bytes:
    """What a signature of the object *name* begins with, beside what it has."""
    return _SIGNED + tree.parts(repository, name.encode())


class AuthoredFrames(SealedFrames):
    """The frames of an object that *hand* made; as Frames says.

    *signed* is :func:`signed_of` its name.
    """

    __slots__ = ("_hand", "_signed")

    def __init__(
        self, suite: Suite, key: bytes, public: bytes, envelope: bytes, *,
        hand: Hand, signed: bytes,
    ) -> None:  # fmt: skip
        super().__init__(suite, key, public, envelope)
        self._hand, self._signed = hand, signed

    @property
    def author(self) -> Author:
        """As Frames says."""
        return self._hand.author

    @property
    def signature_size(self) -> int:
        """As Frames says."""
        return SIGNATURE_SIZE

    def sign(self, data: bytes) -> bytes:
        """As Frames says."""
        return sign(self._hand.seed, self._signed + data)

    def verify(self, data: bytes, signature: bytes, where: str) -> None:
        """As Frames says."""
        if self._hand.refusal:
            raise FormatDamaged(f"{where}: {self._hand.refusal}")
        try:
            verify(self._hand.public, signature, self._signed + data)
        except NotAuthentic:
            raise FormatDamaged(f"{where}: its machine did not sign it") from None
        if self._hand.accepts is not None and not self._hand.accepts(data):
            raise NotBelieved(f"{where}: was made by a machine that may write here no more")

    def may_refer(self, archive_id: str) -> bool:
        """As Frames says: else who restores its points would be led to what others stored."""
        is_own = tag_of(archive_id.rpartition(".")[0]) == self._hand.author.tag
        return is_own or not self._hand.is_first
