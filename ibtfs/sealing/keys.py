"""The keys of a sealed repository: those of its objects, made of what its ring holds.

An *envelope* lies in each object and says which master key its own key comes from; so masters can
be renewed while old objects stay readable.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format.digests import Digests
from ibtfs.format.frames import object_key
from ibtfs.sealing import tree
from ibtfs.sealing.frames import SealedFrames
from ibtfs.sealing.primitives import Suite
from ibtfs.sealing.ring import MASTER_ID_SIZE, Secrets

SECRET_MODE = 1
ENVELOPE_SIZE = 1 + MASTER_ID_SIZE
MARK_SIZE = 16
_FRAMES: Final = b"frames"


class SealedKeys:
    """The keys of the repository with the id *repository*, by its *secrets*, as Keys says.

    *owner_of* gives of an object's name what its key belongs to: an archive has one for its files.
    Threads may share them.
    """

    def __init__(
        self, repository: bytes, secrets: Secrets, suite: Suite, owner_of: Callable[[str], str]
    ) -> None:
        self._repository, self._secrets, self._suite = repository, secrets, suite
        self._owner_of = owner_of
        self.digests = Digests(tree.derive(tree.DIGESTS, secrets.identity, repository))
        self._names = tree.derive(tree.NAMES, secrets.identity, repository)

    @property
    def repository(self) -> bytes:
        """As Keys says."""
        return self._repository

    def envelope(self) -> bytes:
        """That of objects that are written now."""
        return bytes([SECRET_MODE]) + self._secrets.current

    def frames(self, name: str, envelope: bytes) -> SealedFrames:
        """Those of the object *name*, without its generation, by what lies in it.

        Raises FormatDamaged, UnsupportedFormat.
        """
        base = self._base(name, envelope)
        key = tree.derive(tree.OBJECT, base, _FRAMES, name.encode("utf-8", "surrogateescape"))
        return SealedFrames(self._suite, key, object_key(self._repository, name))

    def token(self, name: str, envelope: bytes) -> bytes:
        """What a reference to the archive, of which *name* is a file, has to carry."""
        return tree.token_of(self._base(name, envelope))

    def _base(self, name: str, envelope: bytes) -> bytes:
        """The key of all that belongs together with the object *name*."""
        if envelope[:1] != bytes([SECRET_MODE]):
            raise UnsupportedFormat(
                f"{name}: sealed in a way that is not known here: upgrade ibtfs"
            )
        master = self._secrets.masters.get(envelope[1:])
        if master is None:
            raise FormatDamaged(f"{name}: is sealed by a key that this repository does not have")
        owner = self._owner_of(name).encode("utf-8", "surrogateescape")
        return tree.derive(tree.ARCHIVE, master.secret, self._repository, owner)

    def mark(self, kind: str, subject: str) -> str:
        """What the name of an empty object has in it that says *kind* of *subject*."""
        master = self._secrets.masters[self._secrets.current]
        return self._mark(master.secret, kind, subject)

    def is_mark(self, mark: str, kind: str, subject: str) -> bool:
        """Whether *mark* was made by who has a key of this repository."""
        known = (self._mark(one.secret, kind, subject) for one in self._secrets.masters.values())
        return max(hmac.compare_digest(mark.encode(), one.encode()) for one in known)

    def _mark(self, secret: bytes, kind: str, subject: str) -> str:
        parts = (part.encode("utf-8", "surrogateescape") for part in (kind, subject))
        return tree.derive(tree.MARK, secret, self._repository, *parts, size=MARK_SIZE).hex()

    def name_of(self, kind: str, text: str) -> str:
        """A name that stands for *text*, and tells nobody else what it is."""
        parts = (part.encode("utf-8", "surrogateescape") for part in (kind, text))
        return tree.keyed(self._names, *parts, size=MARK_SIZE).hex()
