"""The keys of a sealed repository: those of its objects, made of what its ring holds.

An *envelope* lies in each object and says which master key its own key comes from; so masters can
be renewed while old objects stay readable.  It does so in one of three modes: the key is made of
the master's; or of that of a run, which lies in it wrapped for the readers by that master, for who
made it can read nothing; or it lies in it sealed by the master, in later generations of such files.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from ibtfs.errors import FormatDamaged
from ibtfs.format.digests import Digests
from ibtfs.format.envelopes import (
    ENVELOPE_SIZE,
    LATER_MODE,
    PUBLIC_MODE,
    SECRET_MODE,
    is_known,
)
from ibtfs.format.frames import object_key
from ibtfs.format.keys import Author, Frames
from ibtfs.format.packing import pack
from ibtfs.sealing import tree
from ibtfs.sealing.authored import AuthoredFrames, Hand, signed_of
from ibtfs.sealing.frames import NONCE_SIZE, SealedFrames
from ibtfs.sealing.primitives import (
    KEY_SIZE,
    NotAuthentic,
    Suite,
    decrypt_once,
    encrypt_once,
)
from ibtfs.sealing.ring import ACCEPTED_SIZE, Master, Secrets, Writer
from ibtfs.sealing.runs import Run, key_of_owner, reader_seed, tag_of, unwrap_run

RUNS_KEPT = 4096
MARK_SIZE = 16
NAMES_KEY_SIZE = 64
_FRAMES: Final = b"frames"


class Places(NamedTuple):
    """What names of objects say: what its key belongs to, for an archive has one for its files;
    and the run that it is of, if it is of one."""

    owner_of: Callable[[str], str]
    run_of: Callable[[str], str]


class Newer(Protocol):
    """Keys that were made since those that are known; threads may share it.

    *is_lost*: there are some, and they cannot be opened any more.
    """

    is_lost: bool

    def seek(self, sought: bytes | str) -> Secrets:
        """The newest, of all if the known ones lack what is *sought*: the id of a master key, or
        the tag of a machine that only writes.  Raises StorageFailed."""
        ...


class _Opened(NamedTuple):
    """What an envelope says: the cipher, and the key of all that belongs to one owner."""

    suite: Suite
    base: bytes


class SealedKeys:
    """The keys of the repository with the id *repository*, by its *secrets*, as Keys says.

    *suite* seals what is written.  What is sealed by *newer* ones is read by these.  Threads may
    share them.
    """

    def __init__(
        self, repository: bytes, secrets: Secrets, suite: Suite, places: Places,
        newer: Newer | None = None,
    ) -> None:  # fmt: skip
        self._repository, self._secrets, self._suite = repository, secrets, suite
        self._places, self._newer = places, newer
        self._runs: dict[bytes, Run] = {}
        self.digests = Digests(tree.derive(tree.DIGESTS, secrets.identity, repository))
        self.names = tree.derive(tree.NAMES, secrets.identity, repository, size=NAMES_KEY_SIZE)

    @property
    def repository(self) -> bytes:
        """As Keys says."""
        return self._repository

    @property
    def is_sealed(self) -> bool:
        """As Keys says."""
        return True

    def author_of(self, name: str) -> Author | None:
        """As Keys says; one that the keys do not know may be of another repository, copied here."""
        tag = tag_of(self._places.run_of(name))
        writer = self._secrets.writers.get(tag)
        return None if writer is None else Author(tag, writer.host)

    @property
    def envelope(self) -> bytes:
        """That of objects that are written now."""
        return bytes((SECRET_MODE, self._suite)) + self._secrets.current

    def new_frames(self, name: str) -> SealedFrames:
        """As Keys says."""
        return self.frames(name, self.envelope)

    def frames(self, name: str, envelope: bytes, generation: int = 1) -> SealedFrames:
        """As Keys says."""
        suite, base = self._opened(name, envelope, generation)
        return self._made(name, suite, base, envelope)

    def _made(self, name: str, suite: Suite, base: bytes, envelope: bytes) -> SealedFrames:
        key = tree.derive(tree.OBJECT, base, _FRAMES, _bytes(name))
        public = object_key(self._repository, name)
        if envelope[0] == SECRET_MODE:
            return SealedFrames(suite, key, public, envelope)
        hand = self._hand(self._places.run_of(name), is_first=envelope[0] == PUBLIC_MODE)
        signed = signed_of(self._repository, name)
        return AuthoredFrames(suite, key, public, envelope, hand=hand, signed=signed)

    def _hand(self, run_id: str, *, is_first: bool) -> Hand:
        """Who made what the run *run_id* did, if the keys know of him."""
        tag = tag_of(run_id)
        writer = self._writer(tag)
        if writer is None:
            refusal = "was made by a machine that the owner did not let write here"
            return Hand(Author(tag, ""), refusal=refusal, is_first=is_first)
        known, author = writer.accepted, Author(tag, writer.host)
        if known is None:
            return Hand(author, writer.public, is_first=is_first)
        accepted = known

        def accepts(data: bytes) -> bool:
            return self.point_mark(run_id, data) in accepted

        return Hand(author, writer.public, is_first=is_first, accepts=accepts)

    def point_mark(self, point_id: str, data: bytes) -> bytes:
        """What stands for a point where the keys say which of a machine's are accepted: for all
        of its manifest that is signed, so that no other comes in its place."""
        return self.digests.plain(point_id.encode() + b"\0" + data)[:ACCEPTED_SIZE]

    @property
    def trust(self) -> bytes:
        """As Keys says."""
        rows = [
            (tag, *one[:4], None if one.accepted is None else tuple(sorted(one.accepted)))
            for tag, one in sorted(self._secrets.writers.items())
        ]
        return self.digests.plain(pack(rows))

    def _opened(self, name: str, envelope: bytes, generation: int) -> _Opened:
        if not envelope:
            raise FormatDamaged(f"{name}: is not sealed, and the repository is")
        if not is_known(envelope):
            # anybody can put it there: that it is of a later version, nobody with a key has said
            raise FormatDamaged(
                f"{name}: sealed in a way that is not known here: damaged, or for a newer ibtfs"
            )
        mode = envelope[0]
        master = self._master(name, envelope[2:ENVELOPE_SIZE])
        suite, rest = Suite(envelope[1]), envelope[ENVELOPE_SIZE:]
        owner = self._places.owner_of(name)
        if mode == SECRET_MODE:
            base = tree.derive(tree.ARCHIVE, master.secret, self._repository, _bytes(owner))
            return _Opened(suite, base)
        try:
            if mode == LATER_MODE:
                key, bound = self._later_key(master, name, generation, rest[:NONCE_SIZE])
                return _Opened(suite, decrypt_once(suite, key, rest[NONCE_SIZE:], bound))
            if generation != 1:
                raise NotAuthentic  # who made the first has no say in what follows it
            run = self._run(self._places.run_of(name), master, envelope)
        except NotAuthentic:
            raise FormatDamaged(f"{name}: is not what was sealed there") from None
        return _Opened(suite, key_of_owner(run, self._repository, owner))

    def _master(self, name: str, master_id: bytes) -> Master:
        """The master key with this id, which seals the object *name*."""
        found = self._secrets.masters.get(master_id)
        if found is None and self._newer is not None:
            self._secrets = self._newer.seek(master_id)
            found = self._secrets.masters.get(master_id)
        if found is not None:
            return found
        if self._newer is not None and self._newer.is_lost:
            raise FormatDamaged(
                f"{name}: the keys of the repository were changed while it was open, and what it "
                "was opened by was removed: open it anew, by a key that it has now"
            )
        raise FormatDamaged(f"{name}: is sealed by a key that this repository does not have")

    def _writer(self, tag: str) -> Writer | None:
        """The machine that only writes with this *tag*; it may have been let in since."""
        found = self._secrets.writers.get(tag)
        if found is None and tag and self._newer is not None:
            self._secrets = self._newer.seek(tag)
            found = self._secrets.writers.get(tag)
        return found

    def _run(self, run_id: str, master: Master, envelope: bytes) -> Run:
        """The run whose key lies in *envelope*; opened once for all that it made."""
        run = self._runs.get(envelope)
        if run is None or run.id != run_id:
            seed = reader_seed(master.secret, self._repository)
            run = unwrap_run(run_id, envelope[ENVELOPE_SIZE:], seed, self._repository)
            if len(self._runs) >= RUNS_KEPT:
                self._runs.clear()
            self._runs[envelope] = run
        return run

    def _later_key(
        self, master: Master, name: str, generation: int, nonce: bytes
    ) -> tuple[bytes, bytes]:
        """What seals the key that lies in the envelope of a later generation, and its bounds."""
        key = tree.derive(tree.LATER, master.secret, self._repository, _bytes(name), nonce)
        return key, generation.to_bytes(8, "little")

    def later_frames(self, name: str, frames: Frames | None, generation: int) -> Frames:
        """As Keys says.

        Of what a master sealed they are the same.  Else it seals a new key, for this generation
        alone: who made the first, or had the one before, can make no later one.
        """
        is_lost = frames is None and generation > 1 and tag_of(self._places.run_of(name)) != ""
        if not is_lost and not isinstance(frames, AuthoredFrames):
            return self.new_frames(name) if frames is None else frames
        suite, base, secrets = self._suite, os.urandom(KEY_SIZE), self._secrets
        current, nonce = secrets.current, os.urandom(NONCE_SIZE)
        key, bound = self._later_key(secrets.masters[current], name, generation, nonce)
        sealed = nonce + encrypt_once(suite, key, base, bound)
        return self._made(name, suite, base, bytes((LATER_MODE, suite)) + current + sealed)

    def mark(self, name: str) -> str:
        """What an empty object *name* gets behind its name, so that it says something."""
        secrets = self._secrets  # others may read newer ones meanwhile
        return self._mark(secrets.masters[secrets.current].secret, name)

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
