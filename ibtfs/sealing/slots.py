"""Slots: each opens the keys of a repository by one secret, a passphrase, a key file or a sheet.

The head of a slot says how its secret becomes a key pair, and which one.  Its check is made with
the secret, and covers all of the head, the owner's public key with it: so a passphrase alone tells
who may sign for the repository, and whether a head was changed.  Wrapping keys for a slot takes its
public key and no secret, so that keys can be changed while a printed sheet lies in a safe.
"""

from __future__ import annotations

import hmac
import unicodedata
from typing import Any, Final, NamedTuple

from ibtfs.errors import FormatDamaged
from ibtfs.format.packing import pack, unpack_map
from ibtfs.sealing.primitives import (
    READER_PUBLIC_SIZE,
    READER_SEED_SIZE,
    SIGNER_PUBLIC_SIZE,
    reader_public,
    stretch,
)
from ibtfs.sealing.tree import SLOT, derive, keyed

PASSPHRASE: Final = "passphrase"
FILE: Final = "file"
SHEET: Final = "sheet"
KINDS: Final = (PASSPHRASE, FILE, SHEET)
SLOT_ID_SIZE = 8
SALT_SIZE = CHECK_SIZE = 32
PASSES, LANES, MEMORY_KIB = 3, 4, 256 << 10
MOST_PASSES, MOST_LANES, LEAST_MEMORY_KIB, MOST_MEMORY_KIB = 16, 16, 8 << 10, 4 << 20
MOST_WORK_KIB = 8 << 20
"""Passes times memory: what a storage makes of them must not keep a machine busy for long."""
LABEL_LIMIT = 200


class Stretching(NamedTuple):
    """How long it takes to find out a passphrase: Argon2id's parameters."""

    passes: int = PASSES
    lanes: int = LANES
    memory_kib: int = MEMORY_KIB

    @property
    def is_bearable(self) -> bool:
        """Whether a machine may be asked for it by somebody it does not know."""
        return (
            0 < self.passes <= MOST_PASSES
            and 0 < self.lanes <= MOST_LANES
            and LEAST_MEMORY_KIB <= self.memory_kib <= MOST_MEMORY_KIB
            and self.passes * self.memory_kib <= MOST_WORK_KIB
        )


class Slot(NamedTuple):
    """The head of a slot, as it is stored in clear; *stretching* and *salt* are of passphrases."""

    id: bytes
    kind: str
    public: bytes
    owner: bytes
    salt: bytes
    stretching: Stretching
    check: bytes

    @property
    def work_kib(self) -> int:
        """What trying a secret on it takes: passes times memory; 0 of what is no passphrase."""
        passes, _, memory_kib = self.stretching
        return passes * memory_kib if self.kind == PASSPHRASE else 0


class WrongSecret(Exception):
    """The secret is not that of the slot, or its head was changed."""


class Opened(NamedTuple):
    """What a secret makes of a slot: the *seed* of the key pair."""

    slot: Slot
    seed: bytes


def passphrase_bytes(text: str) -> bytes:
    """The secret that a passphrase is, as it was typed: composed, without a last newline."""
    return unicodedata.normalize("NFC", text.removesuffix("\n")).encode()


def new_slot(
    kind: str, secret: bytes, *, slot_id: bytes, salt: bytes, owner: bytes, repository: bytes,
    stretching: Stretching,
) -> Slot:  # fmt: skip
    """The head of a slot that *secret* opens; *slot_id* and *salt* are random."""
    slot = Slot(slot_id, kind, b"", owner, salt, stretching, b"")
    seed, check_key = _keys(slot, secret, repository)
    slot = slot._replace(public=reader_public(seed))
    return slot._replace(check=keyed(check_key, encode_head(slot)))


def open_slot(slot: Slot, secret: bytes, repository: bytes) -> Opened:
    """The key pair of *slot*.  Raises WrongSecret."""
    seed, check_key = _keys(slot, secret, repository)
    if not hmac.compare_digest(keyed(check_key, encode_head(slot)), slot.check):
        raise WrongSecret
    return Opened(slot, seed)


def _keys(slot: Slot, secret: bytes, repository: bytes) -> tuple[bytes, bytes]:
    """The seed of a slot's key pair, and the key of its check."""
    if slot.kind == PASSPHRASE:
        passes, lanes, memory_kib = slot.stretching
        secret = stretch(secret, slot.salt, passes=passes, lanes=lanes, memory_kib=memory_kib)
    size = READER_SEED_SIZE + CHECK_SIZE
    kind = slot.kind.encode()
    found = derive(SLOT, secret, kind, repository, slot.id, slot.salt, size=size)
    return found[:READER_SEED_SIZE], found[READER_SEED_SIZE:]


def encode_head(slot: Slot) -> bytes:
    """All of a slot's head but its check."""
    return pack(
        {
            "id": slot.id,
            "kind": slot.kind,
            "public": slot.public,
            "owner": slot.owner,
            "salt": slot.salt,
            "stretching": tuple(slot.stretching),
        }
    )


def decode_slot(head: bytes, check: bytes, where: str) -> Slot:
    """The slot of a *head* and its *check*; nothing of it is authentic yet.  Raises FormatDamaged.

    What follows from it is bounded: a storage may say whatever it likes.
    """
    values = unpack_map(head, where)
    stretching = values.get("stretching")
    right = (
        _is_bytes(values.get("id"), SLOT_ID_SIZE)
        and values.get("kind") in KINDS
        and _is_bytes(values.get("public"), READER_PUBLIC_SIZE)
        and _is_bytes(values.get("owner"), SIGNER_PUBLIC_SIZE)
        and _is_bytes(values.get("salt"), SALT_SIZE)
        and type(stretching) is tuple
        and len(stretching) == len(Stretching._fields)
        and all(type(number) is int for number in stretching)
        and Stretching(*stretching).is_bearable
        and _is_bytes(check, CHECK_SIZE)
    )
    if not right:
        raise FormatDamaged(f"{where}: a slot that is not what it may be")
    slot = Slot(
        values["id"], values["kind"], values["public"], values["owner"], values["salt"],
        Stretching(*values["stretching"]), check,
    )  # fmt: skip
    if encode_head(slot) != head:
        raise FormatDamaged(f"{where}: a slot that is not spelt as slots are")
    return slot


def _is_bytes(value: Any, size: int) -> bool:
    return type(value) is bytes and len(value) == size
