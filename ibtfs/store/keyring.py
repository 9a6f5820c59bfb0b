"""The keyring of a sealed repository: its rings, as they lie in ``keys/``; opened, and changed.

Each state of the keys is one ring, written twice under names of its own, so that one damaged object
loses nothing.  A ring with a higher number counts instead of all others; these go when it is there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from ibtfs.errors import (
    FormatDamaged,
    IbtfsError,
    IntegrityError,
    ObjectExists,
    ObjectMissing,
    StorageFailed,
    StorageFull,
    WrongKey,
)
from ibtfs.sealing.primitives import Suite
from ibtfs.sealing.ring import (
    RING_LIMIT,
    Sealed,
    Secrets,
    decode_ring,
    encode_ring,
    is_signed_by,
    open_ring,
    public_digest,
)
from ibtfs.sealing.slots import MEMORY_KIB, PASSES, Opened, Slot, WrongSecret, open_slot
from ibtfs.sealing.writers import revocation
from ibtfs.store import layout
from ibtfs.store.storage.base import Storage, whole

COPIES: Final = 2
LOOKS = 3
"""So often it is looked what there is if some of it goes meanwhile."""
OBJECTS_LIMIT = 64
NAMES_LIMIT = 4096
"""A storage may put many things there: the true ones are looked for among so many."""
MOST_WORK_KIB = 16 * PASSES * MEMORY_KIB
"""Passes times memory of all slots that a passphrase is tried on: 16 usual ones, each a second."""


class Secret(NamedTuple):
    """What opens a repository: its *kind*, as slots have it, and its bytes."""

    kind: str
    data: bytes


class Unlocked(NamedTuple):
    """The keys of a repository: their *secrets*, and the slot that was opened.

    *number* is that of the ring; *damaged* are the rings that cannot be read, and why.  *secret* is
    what opened the slot.
    """

    secrets: Secrets
    slots: tuple[Slot, ...]
    opened: Opened
    number: int
    suite: Suite
    damaged: dict[str, str]
    secret: Secret | None = None

    @property
    def refusal(self) -> str:
        """Why nothing may be written by these keys; empty if it may be."""
        newer = [name for name in self.damaged if _number(name) > self.number]
        if not newer:
            return ""
        return f"{newer[0]} has newer keys and is damaged: put it back from a copy"


class Keyring:
    """The rings of the repository with the id *repository* in *storage*; used by one thread."""

    def __init__(self, storage: Storage, repository: bytes) -> None:
        self._storage, self._repository = storage, repository

    def rings(self) -> tuple[dict[str, Sealed], dict[str, IbtfsError]]:
        """The rings that are there, by name, the newest first; and what cannot be read, and why."""
        for _ in range(LOOKS):
            found, damaged = self._rings()
            if not any(isinstance(error, ObjectMissing) for error in damaged.values()):
                break  # else somebody changes the keys at this moment
        return found, damaged

    def _rings(self) -> tuple[dict[str, Sealed], dict[str, IbtfsError]]:
        found: dict[str, Sealed] = {}
        damaged: dict[str, IbtfsError] = {}
        numbers = {name: layout.parse_numbered(name) for name in self._storage.list(layout.KEYS)}
        names = sorted(filter(numbers.__getitem__, numbers), key=lambda name: -numbers[name])
        for name in names[:NAMES_LIMIT]:
            where = f"{layout.KEYS}/{name}"
            if len(found) == OBJECTS_LIMIT:
                break
            try:
                ring = decode_ring(whole(self._storage, where, RING_LIMIT), where)
                if (ring.number, ring.repository) != (numbers[name], self._repository):
                    raise FormatDamaged(f"{where}: holds other keys than its name says")
                found[where] = ring
            except IbtfsError as error:
                damaged[where] = error
        return found, damaged

    def unlock(self, secrets: Iterable[Secret], known: bytes = b"") -> Unlocked:
        """The newest keys, by the first of *secrets* that opens them; they are asked for in turn.

        *known* is the digest of the slot that one of them opened the last time, if that is known.
        Raises WrongKey if none does, FormatDamaged if there are no keys that can be read.
        """
        found, damaged = self.rings()
        if not found:
            reasons = "; ".join(map(str, damaged.values())) or "there are none"
            raise FormatDamaged(
                f"{layout.KEYS}/: no keys of this repository can be read ({reasons}): put them "
                "back from a copy (`ibtfs help sealing`)"
            )
        trial = None
        for secret in secrets:
            trial = _Trial(found, secret, self._repository, known)
            unlocked = _unlocked_by(trial, damaged)
            if unlocked is not None:
                return unlocked._replace(secret=secret)
        if trial is None:
            raise WrongKey(
                "The repository is sealed: a passphrase or a key file is needed "
                "(`ibtfs help sealing`)"
            )
        told = "The repository is sealed, and this passphrase or key does not open it"
        if trial.untried:
            told += (
                f"; {len(trial.untried)} of its keys were not tried, which would take too long: "
                f"did somebody put them into {layout.KEYS}/?"
            )
        raise WrongKey(told)

    def reopen(self, opened: Opened) -> Unlocked:
        """The keys as they are now, by a slot that was opened before.

        Raises WrongKey if it was removed, FormatDamaged.
        """
        found, damaged = self.rings()
        told = {where: str(error) for where, error in damaged.items()}
        for where, ring in found.items():
            if any(slot == opened.slot for slot, _ in ring.slots):
                try:
                    secrets = open_ring(ring, opened, where)
                except IntegrityError as error:
                    told[where] = str(error)
                    continue
                return _unlocked(ring, secrets, opened, told)
            told[where] = f"{where}: does not have the key that was given"
        raise WrongKey("The keys were changed meanwhile: begin again")

    def write(self, secrets: Secrets, slots: Iterable[Slot], number: int, suite: Suite) -> None:
        """Write a ring of this *number* and have no others.  For who is alone in the repository.

        Raises StorageFull, StorageFailed, IntegrityError if it cannot be read back; then the
        others are still there.
        """
        before = [f"{layout.KEYS}/{name}" for name in self._storage.list(layout.KEYS)]
        self.put(secrets, slots, number, suite)
        for name in before:
            if _number(name):
                self._storage.delete(name)
        self._tell_revoked(secrets, before)

    def _tell_revoked(self, secrets: Secrets, there: Collection[str]) -> None:
        """Have machines that may write no more know it, unless it is *there* already.

        If that cannot be stored, the next change of the keys does it.
        """
        for tag, writer in secrets.writers.items():
            name = layout.revoked(revocation(secrets.owner, self._repository, tag))
            if writer.accepted is not None and name not in there:
                with suppress(StorageFailed, StorageFull, ObjectExists):
                    self._storage.put_new(name, b"")

    def put(self, secrets: Secrets, slots: Iterable[Slot], number: int, suite: Suite) -> None:
        """Write a ring beside what is there.  Raises as :meth:`write`."""
        data = encode_ring(
            secrets, tuple(slots), repository=self._repository, number=number, suite=suite
        )
        names = [layout.ring(number, os.urandom(8).hex()) for _ in range(COPIES)]
        try:
            for name in names:
                self._storage.put_new(name, data)
            for name in names:
                if whole(self._storage, name, RING_LIMIT) != data:
                    raise FormatDamaged(f"{name}: is not what was just written there")
        except BaseException:
            for name in names:  # else they would count, though it is told that nothing was changed
                self._storage.delete(name)
            raise


class _Trial:
    """One *secret* tried on the slots of *rings*, each once, within what work that may take.

    *untried* are those that it was not tried on.
    """

    def __init__(
        self, rings: dict[str, Sealed], secret: Secret, repository: bytes, known: bytes
    ) -> None:
        self.rings, self._secret, self._repository = rings, secret, repository
        heads = Counter(slot for ring in rings.values() for slot, _ in ring.slots)
        # a storage may put there what costs much, so that goes last
        self.slots = sorted(
            (slot for slot in heads if slot.kind == secret.kind),
            key=lambda slot: (public_digest(slot) != known, slot.work_kib, -heads[slot]),
        )
        self._found: dict[Slot, Opened | None] = {}
        self._left = MOST_WORK_KIB
        self.untried: set[Slot] = set()

    def opened(self, slot: Slot) -> Opened | None:
        """What the secret makes of *slot*; None if it is not of it, or was not tried."""
        if slot not in self._found:
            if slot.work_kib > self._left:
                self.untried.add(slot)
                return None
            self._left -= slot.work_kib
            try:
                self._found[slot] = open_slot(slot, self._secret.data, self._repository)
            except WrongSecret:
                self._found[slot] = None
        return self._found[slot]

    @property
    def owner(self) -> bytes:
        """Who signs, as the first slot tells that the secret opens; empty if it opens none."""
        for slot in self.slots:
            if self.opened(slot) is not None:
                for ring in self.rings.values():
                    if is_signed_by(ring, slot.owner):
                        return slot.owner
        return b""


def _unlocked_by(trial: _Trial, damaged: dict[str, IbtfsError]) -> Unlocked | None:
    """The newest keys that the owner has signed, and that the secret of *trial* opens.

    A storage can put anything beside them: what is newer, and does not open, is damaged.
    """
    told = {where: str(error) for where, error in damaged.items()}
    owner = trial.owner
    if not owner:
        return None
    for where, ring in trial.rings.items():
        if not is_signed_by(ring, owner):
            told[where] = f"{where}: is not what the owner of the repository wrote"
            continue
        mine = {slot for slot, _ in ring.slots}
        for slot in filter(mine.__contains__, trial.slots):
            found = trial.opened(slot)
            if found is None:
                continue
            try:
                return _unlocked(ring, open_ring(ring, found, where), found, told)
            except IntegrityError as error:
                told[where] = str(error)
        told.setdefault(where, f"{where}: does not have the key that was given")
    return None


def work_of(slots: Iterable[Slot]) -> int:
    """What trying a passphrase on all *slots* takes; more than MOST_WORK_KIB is not done."""
    return sum(slot.work_kib for slot in slots)


def _unlocked(
    ring: Sealed, secrets: Secrets, opened: Opened, damaged: dict[str, str]
) -> Unlocked:  # fmt: skip
    slots = tuple(slot for slot, _ in ring.slots)
    return Unlocked(secrets, slots, opened, ring.number, ring.suite, damaged)


def _number(where: str) -> int:
    return layout.parse_numbered(where.rpartition("/")[2])
