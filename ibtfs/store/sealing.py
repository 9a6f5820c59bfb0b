"""Repositories that are sealed: their keys made, and unlocked."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from blake3 import blake3

from ibtfs.errors import FormatDamaged, WrongKey
from ibtfs.format.config import Config
from ibtfs.sealing.keys import SealedKeys
from ibtfs.sealing.names import SealedNames, Speaking
from ibtfs.sealing.primitives import KEY_SIZE, Suite, signer_public
from ibtfs.sealing.ring import MASTER_ID_SIZE, Label, Master, Secrets, public_digest
from ibtfs.sealing.slots import SALT_SIZE, SLOT_ID_SIZE, Slot, Stretching, new_slot
from ibtfs.store import layout
from ibtfs.store.keyring import Keyring, Secret, Unlocked
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.unlocking import UnlockedKeys

SUITE = Suite.AES_256_GCM
SPEAKING = Speaking((layout.COPIED, layout.FORGOTTEN), layout.ARCHIVES, layout.REMOVED, layout.TAGS)


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
        made = unlocked_by(config.id, found.secrets, found.suite)
        slot = public_digest(found.opened.slot)
        return made._replace(
            refusal=found.refusal, number=found.number, damaged=found.damaged, slot=slot
        )


class SecretSealer:
    """Makes the keys of a new repository, which *secret* opens, as Sealer says."""

    def __init__(
        self,
        secret: Secret,
        label: str,
        stretching: Stretching | None = None,
        suite: Suite = SUITE,
    ) -> None:
        self._secret, self._label = secret, label
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
        Keyring(place, repository).put(secrets, [slot], 1, self._suite)
        return unlocked_by(repository, secrets, self._suite)._replace(number=1)


def keyring_of(repository: Repository) -> Keyring:
    """The keyring of *repository*, which is sealed."""
    return Keyring(repository.storage, repository.id)


def slot_for(secret: Secret, owner: bytes, repository: bytes, stretching: Stretching) -> Slot:
    """A new slot that *secret* opens; *owner* is the seed of who signs."""
    return new_slot(
        secret.kind, secret.data, slot_id=os.urandom(SLOT_ID_SIZE), salt=os.urandom(SALT_SIZE),
        owner=signer_public(owner), repository=repository, stretching=stretching,
    )  # fmt: skip


def unlocked_by(repository: bytes, secrets: Secrets, suite: Suite) -> UnlockedKeys:
    """The keys and names that *secrets* make."""
    keys = SealedKeys(repository, secrets, suite, layout.key_owner)
    return UnlockedKeys(keys, SealedNames(keys, SPEAKING))
