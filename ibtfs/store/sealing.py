"""Repositories that are sealed: their keys made, and unlocked."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from blake3 import blake3

from ibtfs.errors import FormatDamaged, UsageError, WrongKey
from ibtfs.format.config import Config
from ibtfs.format.keys import PlainKeys
from ibtfs.sealing import tree
from ibtfs.sealing.keys import Places, SealedKeys
from ibtfs.sealing.names import SealedNames, Speaking
from ibtfs.sealing.primitives import KEY_SIZE, Suite, signer_public
from ibtfs.sealing.ring import (
    MASTER_ID_SIZE,
    TAG_BYTES,
    Label,
    Master,
    Secrets,
    Writer,
    public_digest,
)
from ibtfs.sealing.runs import public_of
from ibtfs.sealing.slots import SALT_SIZE, SLOT_ID_SIZE, Slot, Stretching, new_slot
from ibtfs.sealing.writers import (
    WriterKeys,
    WriterNames,
    WriterSecrets,
    decode_writer,
    encode_writer,
    known_by,
    revocation,
)
from ibtfs.store import layout
from ibtfs.store.cache_file import private_folder
from ibtfs.store.keyring import Keyring, Secret, Unlocked
from ibtfs.store.listed import Lists
from ibtfs.store.newer_keys import NewerKeys
from ibtfs.store.own_runs import OwnRuns
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.unlocking import UnlockedKeys

SUITE = Suite.AES_256_GCM
PLACES = Places(layout.key_owner, layout.run_of_object)
SPEAKING = Speaking(
    (layout.COPIED, layout.FORGOTTEN), layout.ARCHIVES, layout.REMOVED, layout.TAGS,
    layout.FORGOTTEN,
)  # fmt: skip


class SecretUnlock:
    """Unlocks by the first of *secrets* that fits, as Unlock says; they are asked for in turn.

    *is_expected*: a key was named, so a repository that is not sealed is not the one that is meant.
    *found* is what was unlocked last.  *known* is the digest of the slot that was opened before.
    """

    def __init__(self, secrets: Iterable[Secret], *, is_expected: bool, known: bytes = b"") -> None:
        self._secrets, self._is_expected, self._known = secrets, is_expected, known
        self.found: Unlocked | None = None

    def __call__(self, place: FolderStorage, config: Config, text: bytes) -> UnlockedKeys | None:
        """As Unlock says."""
        if not config.is_sealed:
            if self._is_expected:
                raise WrongKey(
                    f"{os.fsdecode(place.root)!r} is not sealed, though a key for it was given: "
                    "nothing was stored there; is it the right repository?"
                )
            return None
        found = Keyring(place, config.id).unlock(self._secrets, self._known)
        if found.secrets.config != blake3(text).digest():
            raise FormatDamaged(
                f"{layout.CONFIG}: is not the configuration that the repository was made with"
            )
        self.found = found
        newer = NewerKeys(place, config.id, found)
        made = unlocked_by(place, config.id, found.secrets, found.suite, newer)
        slot = public_digest(found.opened.slot)
        return made._replace(
            refusal=found.refusal, number=found.number, damaged=found.damaged, slot=slot
        )


class SecretSealer:
    """Makes the keys of a new repository, which *secret* opens, as Sealer says.

    *let_in* are the hosts of machines that may write to it and read nothing, and what is called
    with what each is to hold, before the repository is there.
    """

    def __init__(
        self,
        secret: Secret,
        label: str,
        stretching: Stretching | None = None,
        suite: Suite = SUITE,
        let_in: Mapping[str, Callable[[bytes], None]] | None = None,
    ) -> None:
        self._secret, self._label, self._let_in = secret, label, let_in or {}
        self._stretching, self._suite = stretching or Stretching(), suite

    def __call__(self, place: FolderStorage, repository: bytes, text: bytes) -> UnlockedKeys:
        """As Sealer says."""
        owner, master = os.urandom(KEY_SIZE), os.urandom(MASTER_ID_SIZE)
        slot = slot_for(self._secret, owner, repository, self._stretching)
        secrets = Secrets(
            {master: Master(os.urandom(KEY_SIZE), int(time.time()))}, master,
            os.urandom(KEY_SIZE), owner,
            {slot.id: Label(slot.kind, self._label, public_digest(slot))}, blake3(text).digest(),
        )  # fmt: skip
        for host, give in self._let_in.items():
            held, writer = new_writer(repository, secrets, self._suite, host, host)
            secrets = replace(secrets, writers={**secrets.writers, held.tag: writer})
            give(encode_writer(held))
        Keyring(place, repository).put(secrets, [slot], 1, self._suite)
        return unlocked_by(place, repository, secrets, self._suite)._replace(number=1)


def keyring_of(repository: Repository) -> Keyring:
    """The keyring of *repository*, which is sealed."""
    return Keyring(repository.storage, repository.id)


def slot_for(secret: Secret, owner: bytes, repository: bytes, stretching: Stretching) -> Slot:
    """A new slot that *secret* opens; *owner* is the seed of who signs."""
    return new_slot(
        secret.kind, secret.data, slot_id=os.urandom(SLOT_ID_SIZE), salt=os.urandom(SALT_SIZE),
        owner=signer_public(owner), repository=repository, stretching=stretching,
    )  # fmt: skip


def unlocked_by(
    place: FolderStorage, repository: bytes, secrets: Secrets, suite: Suite,
    newer: NewerKeys | None = None,
) -> UnlockedKeys:  # fmt: skip
    """The keys and names that *secrets* make, of the repository at *place*."""
    keys = SealedKeys(repository, secrets, suite, PLACES, newer)
    lists = Lists(place, keys)
    return UnlockedKeys(keys, SealedNames(keys, SPEAKING, lists), lists=lists)


class WriterUnlock:
    """Unlocks for a machine that only writes, by the files that it holds, as Unlock says.

    *files* are what they have in them, *folder* that in which it keeps what it knows of its runs.
    """

    def __init__(self, files: Iterable[bytes], folder: bytes) -> None:
        self._files, self._folder = files, folder

    def __call__(self, place: FolderStorage, config: Config, text: bytes) -> UnlockedKeys:
        """As Unlock says."""
        shown, digest = os.fsdecode(place.root), blake3(text).digest()
        held = [decode_writer(data, "The key file of this machine") for data in self._files]
        mine = [one for one in held if (one.repository, one.config) == (config.id, digest)]
        if not mine or not config.is_sealed:
            raise WrongKey(
                f"{shown!r} is not the repository that the key file of this machine is for: "
                "nothing was stored there"
            )
        found = filter(None, map(layout.parse_revoked, place.list(layout.KEYS)))
        told = set(map(known_by, found))
        for secrets in mine:
            if secrets.revoked not in told:
                return self._unlocked(secrets)
        raise WrongKey(
            f"This machine was revoked: backups that it makes from now on do not count in {shown!r}"
            ", and nothing was stored there. Who has the keys can let it in again "
            "(`ibtfs key add-writer`)"
        )

    def _unlocked(self, secrets: WriterSecrets) -> UnlockedKeys:
        if not self._folder:
            raise UsageError(
                "A machine that only writes needs a folder for what it knows of its backups, and "
                "there is none: set XDG_STATE_HOME"
            )
        keys = WriterKeys(secrets, PLACES)
        name = f"writer-{secrets.repository.hex()}-{secrets.tag}"
        folder = private_folder(self._folder, name)
        kept = PlainKeys(secrets.repository, keys.digests)
        own = OwnRuns(folder, kept, secrets.tag, secrets.host, keys.begin_run)
        return UnlockedKeys(keys, WriterNames(SPEAKING), own=own)


def new_writer(
    repository: bytes, secrets: Secrets, suite: Suite, host: str, name: str
) -> tuple[WriterSecrets, Writer]:
    """What a new machine that only writes holds, and what *secrets* are to know of it."""
    seed = os.urandom(KEY_SIZE)
    tags = (os.urandom(TAG_BYTES).hex() for _ in itertools.count())
    tag = next(tag for tag in tags if tag not in secrets.writers)
    master = secrets.masters[secrets.current].secret
    told = revocation(secrets.owner, repository, tag)
    held = WriterSecrets(
        repository, secrets.config, suite, tag, host, seed,
        tree.derive(tree.DIGESTS, secrets.identity, repository), secrets.current,
        public_of(master, repository), known_by(told),
    )  # fmt: skip
    return held, Writer(name, host, signer_public(seed), int(time.time()))
