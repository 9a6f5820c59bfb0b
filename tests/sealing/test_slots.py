"""Slots, sheets and rings: who has the secret gets in, and what a storage makes of them does not
count."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged, IbtfsError, UsageError
from ibtfs.format.packing import pack
from ibtfs.sealing import primitives, ring, slots
from ibtfs.sealing.primitives import Suite, signer_public
from ibtfs.sealing.ring import Label, Master, Secrets, decode_ring, encode_ring, open_ring
from ibtfs.sealing.sheet import decode_sheet, encode_sheet
from ibtfs.sealing.slots import (
    FILE,
    PASSPHRASE,
    Slot,
    Stretching,
    WrongSecret,
    decode_slot,
    encode_head,
    new_slot,
    open_slot,
    passphrase_bytes,
)

REPOSITORY = bytes(range(16))
OWNER = b"o" * 32
QUICK = Stretching(1, 1, 8 << 10)


def slot_of(secret: bytes, kind: str = FILE, *, owner: bytes = OWNER, number: int = 1) -> Slot:
    return new_slot(
        kind, secret, slot_id=bytes([number]) * 8, salt=bytes(32), owner=signer_public(owner),
        repository=REPOSITORY, stretching=QUICK,
    )  # fmt: skip


def secrets_of(*known: Slot, owner: bytes = OWNER) -> Secrets:
    return Secrets(
        {b"m" * 8: Master(b"1" * 32, 1_790_000_000), b"n" * 8: Master(b"2" * 32, 1_800_000_000)},
        b"n" * 8, b"i" * 32, owner,
        {slot.id: Label(slot.kind, "", ring.public_digest(slot)) for slot in known}, b"c" * 32,
    )  # fmt: skip


def ring_of(secrets: Secrets, *known: Slot, number: int = 7) -> bytes:
    return encode_ring(
        secrets, known, repository=REPOSITORY, number=number, suite=Suite.AES_256_GCM
    )


# Slots


@pytest.mark.parametrize("kind", slots.KINDS)
def test_a_slot_opens_by_its_secret_alone(kind: str) -> None:
    slot = slot_of(b"secret", kind)
    opened = open_slot(slot, b"secret", REPOSITORY)
    assert primitives.reader_public(opened.seed) == slot.public
    assert opened.slot == decode_slot(encode_head(slot), slot.check, "slot") == slot
    for secret, repository in ((b"other", REPOSITORY), (b"secret", bytes(16)), (b"", REPOSITORY)):
        with pytest.raises(WrongSecret):
            open_slot(slot, secret, repository)


def test_a_head_that_was_changed_does_not_open() -> None:
    slot = slot_of(b"secret", PASSPHRASE)
    other = slot_of(b"other", PASSPHRASE, owner=b"x" * 32, number=2)
    for changed in (
        slot._replace(id=other.id), slot._replace(kind=FILE), slot._replace(public=other.public),
        slot._replace(owner=other.owner), slot._replace(salt=b"1" * 32),
        slot._replace(stretching=Stretching(2, 1, 8 << 10)), slot._replace(check=other.check),
    ):  # fmt: skip
        with pytest.raises(WrongSecret):
            open_slot(changed, b"secret", REPOSITORY)


@pytest.mark.parametrize("stretching", [
    Stretching(17, 1, 8 << 10), Stretching(1, 17, 8 << 10), Stretching(1, 1, (4 << 20) + 1),
    Stretching(1, 1, 1024), Stretching(0, 1, 8 << 10), Stretching(1, 0, 8 << 10),
    Stretching(3, 1, 4 << 20), Stretching(1, 1, 1 << 40), Stretching(True, 1, 8 << 10),
])  # fmt: skip
def test_a_storage_cannot_keep_a_machine_busy(stretching: Stretching) -> None:
    slot = slot_of(b"secret", PASSPHRASE)._replace(stretching=stretching)
    with pytest.raises(FormatDamaged, match="a slot that is not what it may be"):
        decode_slot(encode_head(slot), slot.check, "keys")


def test_a_head_takes_no_memory_before_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused as it is read; nothing is stretched for it."""
    monkeypatch.setattr(slots, "stretch", None)
    slot = Slot(b"1" * 8, PASSPHRASE, bytes(1216), bytes(32), bytes(32),
                Stretching(1, 1, 1 << 30), bytes(32))  # fmt: skip
    with pytest.raises(FormatDamaged, match="a slot that is not what it may be"):
        decode_slot(encode_head(slot), slot.check, "keys")


def test_no_slot_opens_by_two_passphrases() -> None:
    """Or a storage could try many in one go: the check commits to the key, whole."""
    made = [slot_of(b"guess %d" % number, PASSPHRASE) for number in range(8)]
    assert {len(slot.check) for slot in made} == {32}
    head = made[0]._replace(check=b"")
    checks = [head._replace(check=slot.check) for slot in made]
    opening = []
    for number, slot in enumerate(checks):
        for guess in range(8):
            with suppress(WrongSecret):
                open_slot(slot, b"guess %d" % guess, REPOSITORY)
                opening.append((number, guess))
    assert opening == [(0, 0)]


def test_a_passphrase_is_what_a_person_sees() -> None:
    assert passphrase_bytes("caf\u00e9\n") == passphrase_bytes("cafe\u0301")
    assert passphrase_bytes(" two words ") == b" two words "
    assert passphrase_bytes("\n\n") == b"\n"


def test_the_usual_stretching_is_bearable() -> None:
    assert Stretching().is_bearable
    assert Stretching() == (3, 4, 262144)


# Sheets


@given(st.binary(min_size=32, max_size=32))
def test_a_sheet_is_read_back_however_it_is_typed(secret: bytes) -> None:
    text = encode_sheet(secret)
    assert decode_sheet(text) == secret
    assert decode_sheet(text.lower().replace(" ", "-")) == secret
    assert decode_sheet(text.replace("O", "0").replace("I", "1").replace("B", "8")) == secret
    assert len(text.splitlines()) == 2


@given(st.binary(min_size=32, max_size=32), st.integers(0, 55), st.sampled_from("ABCXYZ234567"))
def test_a_letter_that_is_wrong_is_told(secret: bytes, place: int, letter: str) -> None:
    letters = "".join(encode_sheet(secret).split())
    wrong = letters[:place] + letter + letters[place + 1 :]
    if wrong != letters:
        with pytest.raises(UsageError, match="recovery sheet"):
            decode_sheet(wrong)


@pytest.mark.parametrize("text", ["", "A", "!" * 56, "A" * 55, "A" * 57, "A" * 64, "\u00e9" * 56])
def test_what_is_no_sheet_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="recovery sheet"):
        decode_sheet(text)


# Rings


def test_each_slot_opens_the_ring() -> None:
    one, other = slot_of(b"one", PASSPHRASE), slot_of(b"other", number=2)
    secrets = secrets_of(one, other)
    data = ring_of(secrets, one, other)
    sealed = decode_ring(data, "keys/7")
    assert (sealed.number, sealed.repository) == (7, REPOSITORY)
    for (slot, _), secret in zip(sealed.slots, (b"one", b"other")):
        assert open_ring(sealed, open_slot(slot, secret, REPOSITORY), "keys/7") == secrets
    assert ring_of(secrets, one, other) != data
    for secret in (b"1" * 32, b"2" * 32, b"i" * 32, OWNER):
        assert secret not in data


def test_no_byte_of_a_ring_can_be_changed() -> None:
    slot = slot_of(b"secret")
    data = ring_of(secrets_of(slot), slot)
    for place in range(len(data)):
        wrong = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(IbtfsError):
            decode_ring(wrong, "keys/7")
        if place < len(data) - 16:  # and whoever changes it makes the checksum right
            with pytest.raises((IbtfsError, WrongSecret)):
                _open(_summed(wrong), b"secret")


def _summed(data: bytes) -> bytes:
    checksum = ring.blake3(data[:-16]).digest(16)
    return data[:-16] + bytes(checksum)


def _open(data: bytes, secret: bytes) -> Secrets:
    sealed = decode_ring(data, "keys/7")
    return open_ring(sealed, open_slot(sealed.slots[0][0], secret, REPOSITORY), "keys/7")


@pytest.mark.parametrize("size", [0, 7, 40, 200, 1500, -1])
def test_a_ring_that_is_cut_short_is_told(size: int) -> None:
    slot = slot_of(b"secret")
    with pytest.raises(FormatDamaged, match=r"^keys/7: "):
        decode_ring(ring_of(secrets_of(slot), slot)[:size], "keys/7")


def test_who_knows_all_that_is_public_makes_no_ring() -> None:
    """A storage has the public key of the slot, and may wrap whatever it likes for it."""
    slot, mallory = slot_of(b"secret"), b"m" * 32
    forged = ring_of(secrets_of(slot, owner=mallory), slot, number=8)
    with pytest.raises(FormatDamaged, match="is not what the owner of the repository wrote"):
        _open(forged, b"secret")
    planted = slot._replace(owner=signer_public(mallory))
    with pytest.raises(WrongSecret):
        _open(ring_of(secrets_of(planted, owner=mallory), planted), b"secret")


def test_a_slot_of_another_ring_opens_nothing() -> None:
    one, other = slot_of(b"one"), slot_of(b"other", number=2)
    sealed = decode_ring(ring_of(secrets_of(one), one), "keys/7")
    with pytest.raises(FormatDamaged, match="is not what the owner"):
        open_ring(sealed, open_slot(other, b"other", REPOSITORY), "keys/7")


def test_a_slot_that_was_planted_is_not_wrapped_for() -> None:
    one, planted = slot_of(b"one"), slot_of(b"mallory")
    with pytest.raises(ValueError, match="does not know"):
        ring_of(secrets_of(one), planted)


def test_wraps_are_bound_to_repository_and_number() -> None:
    slot = slot_of(b"secret")
    secrets = secrets_of(slot)
    data = ring_of(secrets, slot, number=7)
    later = decode_ring(data, "keys/7")._replace(number=8)
    with pytest.raises(FormatDamaged, match="is not what the owner"):
        open_ring(later, open_slot(slot, b"secret", REPOSITORY), "keys/8")


Change = Callable[[dict[str, object]], object]


@pytest.mark.parametrize("change", [
    lambda it: it.pop("masters"), lambda it: it.update(current=b"z" * 8),
    lambda it: it.update(current=[1]), lambda it: it.update(identity=b"short"),
    lambda it: it.update(owner=5), lambda it: it.update(masters={b"n" * 8: (b"1", 2)}),
    lambda it: it.update(masters=[]), lambda it: it.update(slots={b"n" * 8: ("odd", "", b"")}),
    lambda it: it.update(slots={5: ("file", "", b"1" * 32)}),
    lambda it: it.update(masters={b"n" * 8: (b"1" * 32, "x")}), lambda it: it.update(config=None),
])  # fmt: skip
def test_an_owner_who_writes_nonsense_is_told(
    change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = slot_of(b"secret")
    real = ring._values

    def values(secrets: Secrets) -> dict[str, object]:
        found = real(secrets)
        change(found)
        return found

    monkeypatch.setattr(ring, "_values", values)
    data = ring_of(secrets_of(slot), slot)
    with pytest.raises(FormatDamaged, match="secrets that are not what they may be"):
        _open(data, b"secret")


def test_the_owner_in_the_ring_is_the_one_who_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    slot = slot_of(b"secret")
    secrets = secrets_of(slot)
    real = ring._values
    monkeypatch.setattr(ring, "_values", lambda it: real(dataclasses.replace(it, owner=b"x" * 32)))
    with pytest.raises(FormatDamaged, match="the owner of the repository is another one"):
        _open(ring_of(secrets, slot), b"secret")


@given(st.binary(max_size=300))
def test_noise_is_no_ring(noise: bytes) -> None:
    for data in (noise, ring.MAGIC + noise, _summed(ring.MAGIC + noise + bytes(160))):
        with pytest.raises(IbtfsError):
            decode_ring(data, "keys/7")


def test_a_head_is_spelt_in_one_way() -> None:
    slot = slot_of(b"secret")
    head = encode_head(slot)
    values = {"z": 1, "id": slot.id, "kind": slot.kind, "public": slot.public}
    values |= {"owner": slot.owner, "salt": slot.salt, "stretching": tuple(slot.stretching)}
    with pytest.raises(FormatDamaged, match="not spelt"):
        decode_slot(pack(values), slot.check, "keys")
    assert decode_slot(head, slot.check, "keys") == slot
