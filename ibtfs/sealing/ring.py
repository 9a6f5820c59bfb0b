"""The ring: all secrets of a repository in one object, which each of its slots opens.

Heads of slots lie in it in clear, and behind each the key of the ring, wrapped for that slot; then
the secrets, sealed by that key, the signature of the owner over all of it, and a checksum that
tells damage from a wrong passphrase.  Every ring has a key of its own and a higher number.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from blake3 import blake3

from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format.packing import pack, unpack_map
from ibtfs.sealing.primitives import (
    KEY_SIZE,
    SIGNATURE_SIZE,
    WRAP_OVERHEAD,
    NotAuthentic,
    Suite,
    decrypt_once,
    encrypt_once,
    sign,
    signer_public,
    unwrap,
    verify,
    wrap,
)
from ibtfs.sealing.slots import (
    CHECK_SIZE,
    KINDS,
    LABEL_LIMIT,
    SLOT_ID_SIZE,
    Opened,
    Slot,
    decode_slot,
    encode_head,
)

MAGIC: Final = b"ibtfsK\r\n"
VERSION = 1
RING_LIMIT = 1 << 20
SLOTS_LIMIT = 64
MASTER_ID_SIZE = 8
_HEAD = struct.Struct("<8sHHIIHH16s")  # magic, version, suite, number, body, slots, 0, repository
_SIZE = struct.Struct("<H")
_WRAP = KEY_SIZE + WRAP_OVERHEAD
_CHECKSUM = 16
_PADDING = 256
_SIGNED: Final = b"ibtfs 2026 signature of a ring\0"
_INFO: Final = b"ibtfs 2026 ring\0"


class Master(NamedTuple):
    """A master key, and since when it has been there: seconds since 1970."""

    secret: bytes
    since: int


class Label(NamedTuple):
    """What a ring knows of one of its slots: what the storage says of others does not count."""

    kind: str
    text: str
    public_digest: bytes


@dataclass(frozen=True)
class Secrets:
    """What a ring holds.

    *masters* by their ids, of which *current* seals what is written; *identity* makes digests and
    names, *owner* is the seed of who signs; both stay for the life of the repository.  *slots* are
    those that may open it, by their ids.  *config* is the digest of its configuration.
    """

    masters: Mapping[bytes, Master]
    current: bytes
    identity: bytes
    owner: bytes
    slots: Mapping[bytes, Label]
    config: bytes


class Sealed(NamedTuple):
    """A ring as it is stored, of which nothing was opened yet."""

    repository: bytes
    number: int
    suite: Suite
    slots: Sequence[tuple[Slot, bytes]]
    before: bytes
    body: bytes
    signature: bytes


def public_digest(slot: Slot) -> bytes:
    """What tells whether a slot is the one that a ring knows."""
    found: bytes = blake3(encode_head(slot) + slot.check).digest()
    return found


def encode_ring(
    secrets: Secrets, slots: Sequence[Slot], *, repository: bytes, number: int, suite: Suite
) -> bytes:
    """A ring for *slots*, all of which *secrets* know; with a key of its own each time."""
    key = os.urandom(KEY_SIZE)
    plain = _padded(pack(_values(secrets)))
    heads = []
    for slot in slots:
        if secrets.slots[slot.id].public_digest != public_digest(slot):
            raise ValueError("A slot that the ring does not know")
        head = encode_head(slot)
        wrapped = wrap(slot.public, key, _info(repository, number, slot.id))
        heads.append(_SIZE.pack(len(head)) + head + slot.check + wrapped)
    size = len(plain) + 16
    fixed = _HEAD.pack(MAGIC, VERSION, suite, number, size, len(slots), 0, repository)
    before = fixed + b"".join(heads)
    signed = before + encrypt_once(suite, key, plain, before)
    data = signed + sign(secrets.owner, _SIGNED + signed)
    return data + blake3(data).digest(_CHECKSUM)


def _info(repository: bytes, number: int, slot_id: bytes) -> bytes:
    return _INFO + repository + struct.pack("<I", number) + slot_id


def _padded(data: bytes) -> bytes:
    """*data* behind its length, and zeros up to a multiple of _PADDING."""
    data = struct.pack("<I", len(data)) + data
    return data + bytes(-len(data) % _PADDING)


def decode_ring(data: bytes, where: str) -> Sealed:
    """A ring as it is stored; nothing of it is authentic yet.

    Raises FormatDamaged, UnsupportedFormat.
    """
    least = _HEAD.size + SIGNATURE_SIZE + _CHECKSUM
    if not least <= len(data) <= RING_LIMIT or not data.startswith(MAGIC):
        raise FormatDamaged(f"{where}: holds no keys")
    if blake3(data[:-_CHECKSUM]).digest(_CHECKSUM) != data[-_CHECKSUM:]:
        raise FormatDamaged(f"{where}: its checksum does not match")
    _, version, suite, number, size, count, _, repository = _HEAD.unpack_from(data)
    if version != VERSION or suite not in list(Suite):
        raise UnsupportedFormat(f"{where}: keys of version {version}, suite {suite}: upgrade ibtfs")
    place, slots = _HEAD.size, []
    for _ in range(count if count <= SLOTS_LIMIT else 0):
        (length,) = _SIZE.unpack_from(data, place) if place + 2 <= len(data) else (0,)
        check = place + 2 + length
        head, end = data[place + 2 : check], check + CHECK_SIZE + _WRAP
        slot = decode_slot(head, data[check : check + CHECK_SIZE], where)
        slots.append((slot, data[check + CHECK_SIZE : end]))
        place = end
    if not slots or place + size + SIGNATURE_SIZE + _CHECKSUM != len(data):
        raise FormatDamaged(f"{where}: is not as long as it says")
    body, signature = data[place : place + size], data[place + size : -_CHECKSUM]
    return Sealed(repository, number, Suite(suite), slots, data[:place], body, signature)


def is_signed_by(ring: Sealed, owner: bytes) -> bool:
    """Whether *owner*, a public key, has signed *ring*: takes no secret, and little time."""
    try:
        verify(owner, ring.signature, _SIGNED + ring.before + ring.body)
    except NotAuthentic:
        return False
    return True


def open_ring(ring: Sealed, opened: Opened, where: str) -> Secrets:
    """The secrets of *ring*, by a slot that was opened.

    Raises FormatDamaged if it was not made for that slot by the owner that the slot names.
    """
    wrapped = {slot.id: wrapped for slot, wrapped in ring.slots}.get(opened.slot.id)
    try:
        verify(opened.slot.owner, ring.signature, _SIGNED + ring.before + ring.body)
        if wrapped is None:
            raise NotAuthentic
        key = unwrap(opened.seed, wrapped, _info(ring.repository, ring.number, opened.slot.id))
        plain = decrypt_once(ring.suite, key, ring.body, ring.before)
    except NotAuthentic:
        raise FormatDamaged(f"{where}: is not what the owner of the repository wrote") from None
    (size,) = struct.unpack_from("<I", plain)
    secrets = _decode(unpack_map(plain[4 : 4 + size], where), where)
    if signer_public(secrets.owner) != opened.slot.owner:
        raise FormatDamaged(f"{where}: the owner of the repository is another one")
    return secrets


def _values(secrets: Secrets) -> dict[str, Any]:
    return {
        "masters": {name: tuple(master) for name, master in secrets.masters.items()},
        "current": secrets.current,
        "identity": secrets.identity,
        "owner": secrets.owner,
        "slots": {name: tuple(label) for name, label in secrets.slots.items()},
        "config": secrets.config,
    }


def _decode(values: Mapping[str, Any], where: str) -> Secrets:
    masters, slots = values.get("masters"), values.get("slots")
    single = [values.get(name) for name in ("identity", "owner", "config")]
    right = (
        isinstance(masters, Mapping)
        and isinstance(slots, Mapping)
        and all(_is_bytes(value, KEY_SIZE) for value in single)
        and _is_bytes(values.get("current"), MASTER_ID_SIZE)
        and values["current"] in masters
        and all(_is_master(name, value) for name, value in masters.items())
        and all(_is_label(name, value) for name, value in slots.items())
    )
    if not right:
        raise FormatDamaged(f"{where}: secrets that are not what they may be")
    return Secrets(
        {name: Master(*value) for name, value in values["masters"].items()},
        values["current"], values["identity"], values["owner"],
        {name: Label(*value) for name, value in values["slots"].items()}, values["config"],
    )  # fmt: skip


def _is_bytes(value: Any, size: int) -> bool:
    return type(value) is bytes and len(value) == size


def _is_master(name: Any, value: Any) -> bool:
    return (
        _is_bytes(name, MASTER_ID_SIZE)
        and type(value) is tuple
        and len(value) == 2
        and _is_bytes(value[0], KEY_SIZE)
        and type(value[1]) is int
    )


def _is_label(name: Any, value: Any) -> bool:
    return (
        _is_bytes(name, SLOT_ID_SIZE)
        and type(value) is tuple
        and len(value) == 3
        and value[0] in KINDS
        and type(value[1]) is str
        and len(value[1]) <= LABEL_LIMIT
        and _is_bytes(value[2], KEY_SIZE)
    )
