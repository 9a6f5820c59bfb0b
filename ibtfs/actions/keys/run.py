"""The slots of a sealed repository: added, removed, exchanged; its master key renewed; and the
machines that only write: let in, and revoked.

Each change writes a new ring, under an exclusive lock.  Whoever opened the repository before goes
on with the keys that he has.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from blake3 import blake3

from ibtfs.errors import (
    LimitExceeded,
    RepositoryError,
    UsageError,
)
from ibtfs.sealing.primitives import KEY_SIZE, signer_public
from ibtfs.sealing.ring import MASTER_ID_SIZE, SLOTS_LIMIT, Label, Master, Secrets, public_digest
from ibtfs.sealing.slots import LABEL_LIMIT, Slot, Stretching
from ibtfs.sealing.writers import encode_writer
from ibtfs.store.accepted import accepted_marks, came_since
from ibtfs.store.keyring import MOST_WORK_KIB, Secret, Unlocked, work_of
from ibtfs.store.lock import EXCLUSIVE
from ibtfs.store.repository import Repository
from ibtfs.store.sealing import keyring_of, new_writer, slot_for

MASTERS_LIMIT = 1024
WRITERS_LIMIT = 1024
ACCEPTED_LIMIT = 20_000
"""Of one machine: the keys have a mark of 16 bytes for each, and are 1 MiB at most."""


class KeySlot(NamedTuple):
    """What is told of a slot: its *id* in hexadecimal digits, and whether it was opened now."""

    id: str
    kind: str
    label: str
    is_in_use: bool


class WriterRow(NamedTuple):
    """What is told of a machine that only writes: its *id*, in which host's points it makes, and
    since when, in seconds since 1970; and whether it may make none any more."""

    id: str
    name: str
    host: str
    since: int
    is_revoked: bool


class Identity(NamedTuple):
    """What a person compares to know that a repository is the one that it was."""

    repository: str
    owner: str
    number: int
    masters: int


class KeyChanges:
    """Changes to the keys of *repository*, which *found* has opened; used by one thread."""

    def __init__(self, repository: Repository, found: Unlocked) -> None:
        self._repository, self._found = repository, found
        self.late: list[str] = []
        """Points that the last revocation accepted, by their own times, and that came later."""
        self._keyring = keyring_of(repository)

    def slots(self) -> list[KeySlot]:
        """All slots, as the keys themselves know them."""
        in_use = self._found.opened.slot.id
        return [
            KeySlot(slot_id.hex(), label.kind, label.text, slot_id == in_use)
            for slot_id, label in self._found.secrets.slots.items()
        ]

    def writers(self) -> list[WriterRow]:
        """All machines that only write."""
        return [
            WriterRow(tag, one.name, one.host, one.since, one.accepted is not None)
            for tag, one in self._found.secrets.writers.items()
        ]

    def identity(self) -> Identity:
        """Whose repository it is."""
        found = self._found
        owner = blake3(signer_public(found.secrets.owner)).hexdigest(16)
        return Identity(self._repository.id.hex(), owner, found.number, len(found.secrets.masters))

    def add(self, secret: Secret, label: str, stretching: Stretching | None = None) -> KeySlot:
        """Let *secret* open the repository, too.  Raises UsageError, RepositoryLocked."""
        checked_label(label)
        slot = self._slot(secret, stretching)

        def change(secrets: Secrets, slots: Sequence[Slot]) -> tuple[Secrets, list[Slot]]:
            if len(slots) >= SLOTS_LIMIT:
                raise UsageError(f"There are {SLOTS_LIMIT} keys already: remove one")
            _require_bearable([*slots, slot])
            return _labelled(secrets, slot, label), [*slots, slot]

        self._change(change)
        return KeySlot(slot.id.hex(), slot.kind, label, False)

    def exchange(self, secret: Secret, stretching: Stretching | None = None) -> KeySlot:
        """Have *secret* instead of the one by which the repository was opened now."""
        slot, old = self._slot(secret, stretching), self._found.opened.slot.id
        label = self._found.secrets.slots[old].text

        def change(secrets: Secrets, slots: Sequence[Slot]) -> tuple[Secrets, list[Slot]]:
            rest = [one for one in slots if one.id != old]
            _require_bearable([*rest, slot])
            return _labelled(_without(secrets, old), slot, label), [*rest, slot]

        self._change(change)
        return KeySlot(slot.id.hex(), slot.kind, label, True)

    def remove(self, slot_id: str) -> KeySlot:
        """Have the slot with this id, or the one id that begins so, open nothing any more.

        Raises UsageError if there is none, or no other.
        """
        found = [slot for slot in self.slots() if slot_id and slot.id.startswith(slot_id.lower())]
        if len(found) != 1:
            raise UsageError(f"There is no one key {slot_id!r}: see `ibtfs key list`")
        if self.is_writer(slot_id):
            raise UsageError(f"{slot_id!r} also means a machine that only writes: name more of it")
        gone = bytes.fromhex(found[0].id)

        def change(secrets: Secrets, slots: Sequence[Slot]) -> tuple[Secrets, list[Slot]]:
            rest = [one for one in slots if one.id != gone]
            if not rest:
                raise UsageError("It is the only key: without it nothing could be read any more")
            return _without(secrets, gone), rest

        self._change(change)
        return found[0]

    def add_writer(self, name: str, host: str) -> tuple[WriterRow, bytes]:
        """Let a new machine make points of *host*, and read nothing; what it is to hold.

        Raises UsageError, RepositoryLocked.
        """
        checked_label(name)
        checked_host(host)
        found = self._found
        held, writer = new_writer(self._repository.id, found.secrets, found.suite, host, name)

        def change(secrets: Secrets, slots: Sequence[Slot]) -> tuple[Secrets, list[Slot]]:
            known = secrets.writers
            if len(known) >= WRITERS_LIMIT:
                raise UsageError(f"There are {WRITERS_LIMIT} machines that only write already")
            for one in known.values():
                if one.accepted is None and (one.host == host or one.name == name):
                    raise UsageError(f"There is such a machine already: {one.name} of {one.host}")
            return dataclasses.replace(secrets, writers={**known, held.tag: writer}), [*slots]

        self._change(change)
        return WriterRow(held.tag, name, host, writer.since, False), encode_writer(held)

    def has_points_of(self, host: str) -> bool:
        """Whether there are points of *host* that no machine made which only writes."""
        points = self._repository.points.all().points
        return any(point.source.host == host and not point.writer for point in points)

    def is_writer(self, words: str) -> bool:
        """Whether *words* mean a machine that only writes: its name, or the beginning of its id."""
        return bool(self._writers_called(words))

    def _writers_called(self, words: str) -> list[WriterRow]:
        rows = [one for one in self.writers() if not one.is_revoked]
        named = [one for one in rows if one.name == words]
        return named or [one for one in rows if words and one.id.startswith(words.lower())]

    def revoke(self, words: str, until: int | None = None) -> WriterRow:
        """Have points count no more that a machine makes from now on: those that are there do.

        If it is told, only those made before *until*, in ns since 1970: it can always be revoked,
        whatever it has put there.  Raises UsageError if *words* are not of one, RepositoryError if
        some of its points cannot be read, LimitExceeded.
        """
        found = self._writers_called(words)
        is_slot = any(slot.id.startswith(words.lower()) for slot in self.slots())
        if len(found) != 1 or (is_slot and found[0].name != words):
            raise UsageError(f"There is no one key {words!r}: see `ibtfs key list`")
        tag = found[0].id

        def change(secrets: Secrets, slots: Sequence[Slot]) -> tuple[Secrets, list[Slot]]:
            made: dict[str, bytes] = {}
            if until is None or until > 0:
                made = accepted_marks(
                    self._repository, tag, lambda point: until is None or point.time_ns < until
                )
            self.late = list(made)
            if len(made) > ACCEPTED_LIMIT:
                raise LimitExceeded(
                    f"It made {len(made)} points: `forget` some of them first, or say until when "
                    "they are to count (--until)"
                )
            gone = secrets.writers[tag]._replace(accepted=frozenset(made.values()))
            return dataclasses.replace(secrets, writers={**secrets.writers, tag: gone}), [*slots]

        self._change(change)
        self.late = came_since(self._repository, self.late, until) if until else []
        return found[0]._replace(is_revoked=True)

    def rotate(self) -> int:
        """Seal by a new master key what is written from now on; how many there are then."""
        new = os.urandom(MASTER_ID_SIZE)

        def change(secrets: Secrets, slots: Sequence[Slot]) -> tuple[Secrets, list[Slot]]:
            if len(secrets.masters) >= MASTERS_LIMIT:
                raise RepositoryError("There are too many master keys: copy the repository")
            masters = {**secrets.masters, new: Master(os.urandom(KEY_SIZE), int(time.time()))}
            return dataclasses.replace(secrets, masters=masters, current=new), list(slots)

        self._change(change)
        return len(self._found.secrets.masters)

    def _slot(self, secret: Secret, stretching: Stretching | None) -> Slot:
        owner = self._found.secrets.owner
        return slot_for(secret, owner, self._repository.id, stretching or Stretching())

    def _change(
        self, change: Callable[[Secrets, Sequence[Slot]], tuple[Secrets, list[Slot]]]
    ) -> None:
        self._repository.require_writable()
        with self._repository.lock(EXCLUSIVE, changes_keys=True) as lock:
            now = self._keyring.reopen(self._found.opened)
            if now.refusal != self._found.refusal:  # else it was accepted
                raise RepositoryError(now.refusal)
            secrets, slots = change(now.secrets, now.slots)
            lock.verify()
            self._keyring.write(secrets, slots, now.number + 1, now.suite)
        self._found = now._replace(secrets=secrets, slots=tuple(slots), number=now.number + 1)


def _require_bearable(slots: Sequence[Slot]) -> None:
    """Raise UsageError if a passphrase could not be tried on all of *slots*."""
    if work_of(slots) > MOST_WORK_KIB:
        raise UsageError(
            "There are so many passphrases that trying one on all would take too long: remove one, "
            "or add a key file"
        )


def checked_label(text: str) -> None:
    """Raise UsageError if *text* cannot be what a slot is called."""
    if len(text) > LABEL_LIMIT or not text.isprintable():
        raise UsageError(f"{text!r} is no label: at most {LABEL_LIMIT} printable characters")


def checked_host(text: str) -> None:
    """Raise UsageError if *text* cannot be the host of a machine that only writes."""
    if "@" in text or "/" in text:
        raise UsageError(f"{text!r} is no host: it may have neither @ nor /")


def _labelled(secrets: Secrets, slot: Slot, text: str) -> Secrets:
    labels: Mapping[bytes, Label] = {
        **secrets.slots, slot.id: Label(slot.kind, text, public_digest(slot))
    }  # fmt: skip
    return dataclasses.replace(secrets, slots=labels)


def _without(secrets: Secrets, slot_id: bytes) -> Secrets:
    labels = {name: label for name, label in secrets.slots.items() if name != slot_id}
    return dataclasses.replace(secrets, slots=labels)
