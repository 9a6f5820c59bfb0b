"""The keyring of a sealed repository: its rings, as they lie in ``keys/``; opened, and changed.

Each state of the keys is one ring, written twice under names of its own, so that one damaged object
loses nothing.  A ring with a higher number counts instead of all others; these go when it is there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ibtfs.errors import FormatDamaged, IbtfsError, IntegrityError, WrongKey
from ibtfs.sealing.primitives import Suite
from ibtfs.sealing.ring import RING_LIMIT, Sealed, Secrets, decode_ring, encode_ring, open_ring
from ibtfs.sealing.slots import PASSPHRASE, Opened, Slot, WrongSecret, encode_head, open_slot
from ibtfs.store import layout
from ibtfs.store.storage.base import Storage, whole

COPIES: Final = 2
OBJECTS_LIMIT = 64
NAMES_LIMIT = 4096
"""A storage may put many things there: the true ones are looked for among so many."""
PASSPHRASES_TRIED = 16
"""Each takes a second and much memory."""


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

    def unlock(self, secrets: Iterable[Secret]) -> Unlocked:
        """The newest keys, by the first of *secrets* that opens them; they are asked for in turn.

        Raises WrongKey if none does, FormatDamaged if there are no keys that can be read.
        """
        found, damaged = self.rings()
        if not found:
            reasons = "; ".join(map(str, damaged.values())) or "there are none"
            raise FormatDamaged(
                f"{layout.KEYS}/: no keys of this repository can be read ({reasons}): put them "
                "back from a copy (`ibtfs help sealing`)"
            )
        tried = False
        for secret in secrets:
            tried = True
            unlocked = self._unlocked_by(found, secret, damaged)
            if unlocked is not None:
                return unlocked._replace(secret=secret)
        raise WrongKey(
            "The repository is sealed, and this passphrase or key does not open it"
            if tried
            else "The repository is sealed: a passphrase or a key file is needed "
            "(`ibtfs help sealing`)"
        )

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

    def _unlocked_by(
        self, rings: dict[str, Sealed], secret: Secret, damaged: dict[str, IbtfsError]
    ) -> Unlocked | None:
        """The newest keys that *secret* opens, and that the owner of its slot has signed.

        A storage can put anything beside them: what is newer, and does not open, is damaged.
        """
        told = {where: str(error) for where, error in damaged.items()}
        opened: dict[bytes, Opened | None] = {}
        for where, ring in rings.items():
            for slot in self._slots_tried(rings, ring, secret, opened):
                key = encode_head(slot) + slot.check
                if key not in opened:
                    opened[key] = self._opened(slot, secret)
                found = opened[key]
                if found is None:
                    continue
                try:
                    return _unlocked(ring, open_ring(ring, found, where), found, told)
                except IntegrityError as error:
                    told[where] = str(error)
            told.setdefault(where, f"{where}: does not have the key that was given")
        return None

    def _slots_tried(
        self, rings: dict[str, Sealed], ring: Sealed, secret: Secret,
        opened: dict[bytes, Opened | None],
    ) -> Iterator[Slot]:  # fmt: skip
        """The slots of *ring* that *secret* may open, those that most rings have first."""
        heads = Counter(slot for other in rings.values() for slot, _ in other.slots)
        slots = [slot for slot, _ in ring.slots if slot.kind == secret.kind]
        for slot in sorted(slots, key=lambda slot: -heads[slot]):
            is_free = secret.kind != PASSPHRASE or len(opened) < PASSPHRASES_TRIED
            if is_free or encode_head(slot) + slot.check in opened:
                yield slot

    def _opened(self, slot: Slot, secret: Secret) -> Opened | None:
        try:
            return open_slot(slot, secret.data, self._repository)
        except WrongSecret:
            return None

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


def _unlocked(
    ring: Sealed, secrets: Secrets, opened: Opened, damaged: dict[str, str]
) -> Unlocked:  # fmt: skip
    slots = tuple(slot for slot, _ in ring.slots)
    return Unlocked(secrets, slots, opened, ring.number, ring.suite, damaged)


def _number(where: str) -> int:
    return layout.parse_numbered(where.rpartition("/")[2])
