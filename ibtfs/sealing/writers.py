"""What a machine holds that only writes, and the keys that it seals with: it opens nothing.

It has the key of digests, so that what it stores looks as everybody's; the public key of readers,
for which it wraps the key of each of its runs; and its own, to sign its manifests.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

from blake3 import blake3

from ibtfs.errors import FormatDamaged, RepositoryError
from ibtfs.format.digests import Digests
from ibtfs.format.envelopes import PUBLIC_MODE
from ibtfs.format.frames import object_key
from ibtfs.format.keys import Author, Frames
from ibtfs.format.packing import pack, unpack_map
from ibtfs.sealing import tree
from ibtfs.sealing.authored import AuthoredFrames, Hand, signed_of
from ibtfs.sealing.keys import Places
from ibtfs.sealing.names import Speaking
from ibtfs.sealing.primitives import KEY_SIZE, READER_PUBLIC_SIZE, Suite
from ibtfs.sealing.ring import MASTER_ID_SIZE, TAG
from ibtfs.sealing.runs import Run, begin_run, key_of_owner, wrap_run

TITLE: Final = b"ibtfs: a machine that only writes, 1\n"
_CHECK_SIZE = 8
_REVOCATION_SIZE = 16
_REVOKED_SIZE = 32
_ROW = 76
_SIZES: Final = {
    "repository": 16, "config": 32, "seed": KEY_SIZE, "digests": KEY_SIZE,
    "master": MASTER_ID_SIZE, "public": READER_PUBLIC_SIZE,
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class WriterSecrets:
    """All that such a machine has.

    *repository* is the id and *config* the digest of the configuration of the one repository that
    it is for.  *tag* tells its runs, *host* is whose points it makes, *seed* that of signatures,
    *digests* the key of those, *public* the key of the readers by the *master* key with this id.
    *revoked* is what its revocation will be known by; empty in files that did not have it.
    """

    repository: bytes
    config: bytes
    suite: Suite
    tag: str
    host: str
    seed: bytes
    digests: bytes
    master: bytes
    public: bytes
    revoked: bytes = b""


def revocation(owner: bytes, repository: bytes, tag: str) -> str:
    """What tells the machine with this *tag* that it was revoked, 32 digits.

    Who has all keys makes it of the seed of the *owner*; nobody else can.
    """
    return tree.derive(
        tree.REVOKED, owner, repository, tag.encode(), size=_REVOCATION_SIZE
    ).hex()  # fmt: skip


def known_by(revocation: str) -> bytes:
    """What a machine holds to know its *revocation* by, though it cannot make it."""
    return blake3(revocation.encode()).digest(_REVOKED_SIZE)


def encode_writer(secrets: WriterSecrets) -> bytes:
    """The text of the file that the machine is given."""
    values = {**vars(secrets), "suite": int(secrets.suite)}
    if not secrets.revoked:
        del values["revoked"]
    data = pack(values)
    text = base64.b64encode(data + blake3(data).digest(_CHECK_SIZE))
    rows = [text[first : first + _ROW] for first in range(0, len(text), _ROW)]
    return TITLE + b"\n".join(rows) + b"\n"


def is_writer(data: bytes) -> bool:
    """Whether a file has in it what such a machine holds."""
    return data.startswith(TITLE)


def decode_writer(data: bytes, where: str) -> WriterSecrets:
    """The inverse of :func:`encode_writer`.  Raises FormatDamaged."""
    try:
        found = base64.b64decode(b"".join(data[len(TITLE) :].split()), validate=True)
    except (binascii.Error, ValueError):
        raise FormatDamaged(f"{where}: is not as it was written") from None
    body, check = found[:-_CHECK_SIZE], found[-_CHECK_SIZE:]
    if blake3(body).digest(_CHECK_SIZE) != check:
        raise FormatDamaged(f"{where}: is not as it was written")
    values: Any = unpack_map(body, where)
    right = (
        all(type(values.get(key)) is bytes for key in _SIZES)
        and all(len(values[key]) == size for key, size in _SIZES.items())
        and type(values.get("tag")) is str
        and TAG.match(values["tag"]) is not None
        and type(values.get("host")) is str
        and values.get("suite") in list(Suite)
        and type(values.setdefault("revoked", b"")) is bytes
        and len(values["revoked"]) in (0, _REVOKED_SIZE)
    )
    if not right:
        raise FormatDamaged(f"{where}: is not as it was written")
    known = {name: values[name] for name in (*_SIZES, "tag", "host", "revoked")}
    return WriterSecrets(suite=Suite(values["suite"]), **known)


class WriterKeys:
    """The keys of a machine that only writes, as Keys says: those of the run that it makes now.

    Threads may share them.
    """

    def __init__(self, secrets: WriterSecrets, places: Places) -> None:
        self._secrets, self._places = secrets, places
        self._run: Run | None = None
        self._envelope = b""
        self.digests = Digests(secrets.digests)

    @property
    def repository(self) -> bytes:
        """As Keys says."""
        return self._secrets.repository

    @property
    def is_sealed(self) -> bool:
        """As Keys says."""
        return True

    @property
    def trust(self) -> bytes:
        """As Keys says."""
        return b""

    def author_of(self, name: str) -> Author | None:
        """As Keys says; it knows of itself, and reads nothing."""
        return None

    def host(self, host: str) -> str:
        """As Keys says; others with the same name of a machine are told from this one."""
        key = tree.derive(tree.HOST, self._secrets.seed, self.repository)
        return tree.keyed(key, host.encode("utf-8", "surrogateescape"), size=8).hex()

    def copied(self, repository: bytes, point_id: str = "") -> str:
        """As Keys says.  Raises RepositoryError: it copies nothing."""
        raise RepositoryError("This machine makes backups, and nothing else")

    def begin_run(self, second: str) -> str:
        """Begin a run; its id.  The key of the one before is forgotten."""
        made = self._secrets
        self._run = run = begin_run(made.repository, second, made.tag)
        wrapped = wrap_run(run, made.public, made.repository)
        self._envelope = bytes((PUBLIC_MODE, made.suite)) + made.master + wrapped
        return run.id

    def new_frames(self, name: str) -> Frames:
        """As Keys says.  Raises RepositoryError of what is not of its run."""
        run, made = self._run, self._secrets
        if run is None or self._places.run_of(name) != run.id:
            raise RepositoryError(f"{name}: this machine makes backups, and nothing else")
        base = key_of_owner(run, made.repository, self._places.owner_of(name))
        key = tree.derive(tree.OBJECT, base, b"frames", name.encode())
        return AuthoredFrames(
            made.suite, key, object_key(made.repository, name), self._envelope,
            hand=Hand(Author(made.tag, made.host), seed=made.seed),
            signed=signed_of(made.repository, name),
        )  # fmt: skip

    def frames(self, name: str, envelope: bytes, generation: int = 1) -> Frames:
        """As Keys says: there are none."""
        raise FormatDamaged(f"{name}: this machine only writes, and cannot read it")

    def later_frames(self, name: str, frames: Frames | None, generation: int) -> Frames:
        """As Keys says."""
        raise RepositoryError(f"{name}: this machine makes backups, and nothing else")


class WriterNames:
    """How names that are *speaking* are stored, as Names says, for who can make none of them.

    What says that an archive was removed is believed: it could not be told from what somebody else
    put there, and what is built upon that archive might be lost.
    """

    def __init__(self, speaking: Speaking) -> None:
        self._speaking = speaking

    def stored(self, name: str) -> str:
        """As Names says.  Raises RepositoryError."""
        folder, _, base = name.rpartition("/")
        if self._speaking.is_marked(folder, base) or self._speaking.has_tags(folder):
            raise RepositoryError(f"{name}: this machine makes backups, and nothing else")
        return name

    def all_stored(self, name: str) -> list[str]:
        """As Names says.  Raises RepositoryError."""
        return [self.stored(name)]

    def told(self, folder: str, stored: str) -> None:
        """As Names says: nothing that this machine can read."""

    def meant(self, folder: str, stored: str) -> str:
        """As Names says."""
        speaking = self._speaking
        if folder in speaking.folders or speaking.has_tags(folder):
            return ""
        is_mark = folder.startswith(f"{speaking.above}/") and stored.startswith(f"{speaking.file}.")
        return speaking.file if is_mark else stored
