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
ENVELOPE_SIZE = 2 + MASTER_ID_SIZE
MARK_SIZE = 16
NAMES_KEY_SIZE = 64
_FRAMES: Final = b"frames"


class SealedKeys:
    """The keys of the repository with the id *repository*, by its *secrets*, as Keys says.

    *suite* seals what is written.  *owner_of* gives of an object's name what its key belongs to:
    an archive has one for its files.  Threads may share them.
    """

    def __init__(
        self, repository: bytes, secrets: Secrets, suite: Suite, owner_of: Callable[[str], str]
    ) -> None:
        self._repository, self._secrets, self._suite = repository, secrets, suite
        self._owner_of = owner_of
        self.digests = Digests(tree.derive(tree.DIGESTS, secrets.identity, repository))
        self.names = tree.derive(tree.NAMES, secrets.identity, repository, size=NAMES_KEY_SIZE)

    @property
    def repository(self) -> bytes:
        """As Keys says."""
        return self._repository

    @property
    def envelope(self) -> bytes:
        """That of objects that are written now."""
        return bytes((SECRET_MODE, self._suite)) + self._secrets.current

    def new_frames(self, name: str) -> SealedFrames:
        """As Keys says."""
        return self.frames(name, self.envelope)

    def frames(self, name: str, envelope: bytes) -> SealedFrames:
        """As Keys says."""
        suite, base = self._base(name, envelope)
        key = tree.derive(tree.OBJECT, base, _FRAMES, _bytes(name))
        return SealedFrames(suite, key, object_key(self._repository, name), envelope)

    def _base(self, name: str, envelope: bytes) -> tuple[Suite, bytes]:
        """The cipher of the object *name*, and the key of all that belongs together with it."""
        if not envelope:
            raise FormatDamaged(f"{name}: is not sealed, and the repository is")
        if len(envelope) != ENVELOPE_SIZE or envelope[0] != SECRET_MODE:
            raise UnsupportedFormat(
                f"{name}: sealed in a way that is not known here: upgrade ibtfs"
            )
        if envelope[1] not in list(Suite):
            raise UnsupportedFormat(f"{name}: sealed by an unknown cipher: upgrade ibtfs")
        master = self._secrets.masters.get(envelope[2:])
        if master is None:
            raise FormatDamaged(f"{name}: is sealed by a key that this repository does not have")
        owner = _bytes(self._owner_of(name))
        base = tree.derive(tree.ARCHIVE, master.secret, self._repository, owner)
        return Suite(envelope[1]), base

    def mark(self, name: str) -> str:
        """What an empty object *name* gets behind its name, so that it says something."""
        master = self._secrets.masters[self._secrets.current]
        return self._mark(master.secret, name)

    def marks(self, name: str) -> list[str]:
        """All that may stand there: one by each key that the repository ever had."""
        return [self._mark(one.secret, name) for one in self._secrets.masters.values()]

    def is_mark(self, mark: str, name: str) -> bool:
        """Whether *mark* was made for *name* by who has a key of this repository."""
        return any(hmac.compare_digest(_bytes(mark), one.encode()) for one in self.marks(name))

    def _mark(self, secret: bytes, name: str) -> str:
        return tree.derive(
            tree.MARK, secret, self._repository, _bytes(name), size=MARK_SIZE
        ).hex()  # fmt: skip

    def host(self, host: str) -> str:
        """What stands for the name of a machine where all can see it."""
        return tree.keyed(self.names[:32], tree.HOST.encode(), _bytes(host), size=8).hex()

    def copied(self, repository: bytes, point_id: str = "") -> str:
        """As Keys says: 32 hexadecimal digits."""
        parts = (tree.COPIED.encode(), repository, _bytes(point_id))
        return tree.keyed(self.names[:32], *parts, size=16).hex()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
