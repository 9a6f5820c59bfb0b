"""The keys of a sealed repository: each object has its own, by each of the masters."""

from __future__ import annotations

import re

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format.compression import Codec
from ibtfs.format.digests import SLAB, ZERO_SLAB, Digests
from ibtfs.format.frames import SMALL, Address, object_key
from ibtfs.sealing.frames import SealedFrames
from ibtfs.sealing.keys import SealedKeys
from ibtfs.sealing.primitives import Suite
from ibtfs.sealing.ring import Master, Secrets
from ibtfs.store.sealing import PLACES

REPOSITORY = bytes(range(16))
HERE = Address(SMALL, 0, 6)
OLD, NEW = b"o" * 8, b"n" * 8
ARCHIVE = "archives/20261120T101502Z_example_0123456789.0"


def keys_of(
    *, current: bytes = NEW, masters: tuple[bytes, ...] = (OLD, NEW), identity: bytes = b"i" * 32,
    repository: bytes = REPOSITORY, suite: Suite = Suite.AES_256_GCM,
) -> SealedKeys:  # fmt: skip
    known = {name: Master(name * 4, 1_790_000_000) for name in masters}
    secrets = Secrets(known, current, identity, b"w" * 32, {}, bytes(32))
    return SealedKeys(repository, secrets, suite, PLACES)


def sealed(frames: SealedFrames) -> bytes:
    return frames.encode(HERE, b"secret", Codec(1))


def is_read(keys: SealedKeys, name: str, envelope: bytes, data: bytes) -> bool:
    try:
        return keys.frames(name, envelope).decode(HERE, data, name).raw == b"secret"
    except FormatDamaged:
        return False


def test_the_envelope_says_what_seals() -> None:
    for suite in Suite:
        keys = keys_of(suite=suite)
        frames = keys.new_frames("points/one")
        assert frames.envelope == keys.envelope == bytes([1, suite]) + NEW
        assert frames.public == object_key(REPOSITORY, "points/one")
        # what a repository seals by now does not matter to what it has
        assert is_read(keys_of(), "points/one", frames.envelope, sealed(frames))


@pytest.mark.parametrize("name", ["points/two", f"{ARCHIVE}/data", f"{ARCHIVE}/index"])
def test_an_object_is_read_as_itself_alone(name: str) -> None:
    keys = keys_of()
    data = sealed(keys.new_frames(name))
    assert is_read(keys, name, keys.envelope, data)
    for other in ("points/one", f"{ARCHIVE}/sigs", f"{ARCHIVE[:-1]}1/data", "keys/1"):
        assert not is_read(keys, other, keys.envelope, data)


def test_other_keys_open_nothing() -> None:
    data = sealed(keys_of().new_frames("points/one"))
    envelope = keys_of().envelope
    assert is_read(keys_of(identity=b"x" * 32), "points/one", envelope, data)
    assert not is_read(keys_of(repository=bytes(16)), "points/one", envelope, data)
    assert not is_read(keys_of(), "points/one", bytes([1, 1]) + OLD, data)
    assert not is_read(keys_of(), "points/one", bytes([1, 2]) + NEW, data)


def test_what_a_former_master_sealed_is_read() -> None:
    before = keys_of(current=OLD, masters=(OLD,))
    data = sealed(before.new_frames("points/one"))
    assert is_read(keys_of(), "points/one", before.envelope, data)
    with pytest.raises(FormatDamaged, match="a key that this repository does not have"):
        before.frames("points/one", keys_of().envelope)


@pytest.mark.parametrize(
    ("envelope", "error", "message"),
    [
        (b"", FormatDamaged, "is not sealed, and the repository is"),
        (b"\2\1" + NEW, FormatDamaged, "in a way that is not known"),
        (b"\3\1" + NEW, FormatDamaged, "in a way that is not known"),
        (b"\4\1" + NEW, FormatDamaged, "in a way that is not known"),
        (b"\1\1" + NEW + b"\0", FormatDamaged, "in a way that is not known"),
        (b"\1\1" + NEW[:7], FormatDamaged, "in a way that is not known"),
        (b"\1\3" + NEW, FormatDamaged, "in a way that is not known"),
        (b"\1\1" + bytes(8), FormatDamaged, "a key that this repository does not have"),
    ],
)
def test_envelopes_that_are_refused(envelope: bytes, error: type, message: str) -> None:
    with pytest.raises(error, match=f"^points/one: .*{message}"):
        keys_of().frames("points/one", envelope)


def test_digests_are_the_identity_s_and_the_repository_s() -> None:
    keys = keys_of()
    assert keys.digests == keys_of(current=OLD, masters=(OLD,)).digests
    others = [Digests(), keys_of(identity=b"x" * 32).digests,
              keys_of(repository=bytes(16)).digests]  # fmt: skip
    for content in (b"", b"text", bytes(SLAB + 1), b"x" * 200_000):
        found = [each.content(content) for each in (keys.digests, *others)]
        assert len(set(found)) == 4
    assert keys.digests.content(bytes(SLAB)) == Digests().content(bytes(SLAB)) == ZERO_SLAB


def test_marks_are_each_name_s_and_each_master_s() -> None:
    keys, name = keys_of(), "forgotten/one"
    assert keys.mark(name) in keys.marks(name)
    assert keys.mark(name) != keys_of(current=OLD).mark(name)
    assert len(set(keys.marks(name)) | set(keys.marks("forgotten/two"))) == 4
    assert all(keys.is_mark(mark, name) for mark in keys.marks(name))
    assert not any(keys.is_mark(mark, "forgotten/two") for mark in keys.marks(name))
    for wrong in ("", "0" * 32, keys.mark(name).upper(), keys.mark(name)[:-1], "\udcff\udcfe"):
        assert not keys.is_mark(wrong, name)


def test_what_stands_for_a_host_says_nothing_of_it() -> None:
    keys = keys_of()
    found = keys.host("example-9f86d081")
    assert len(bytes.fromhex(found)) == 8
    assert found == keys_of(current=OLD).host("example-9f86d081") != keys.host("example-0")
    assert found != keys_of(identity=b"x" * 32).host("example-9f86d081")


def test_nobody_sees_what_was_copied() -> None:
    keys, point = keys_of(), "20261129T072334Z_example_44ee68a390"
    found = {keys.copied(other, one) for other in (bytes(16), b"o" * 16) for one in ("", point)}
    assert len(found) == 4
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in found)
    assert keys_of(current=OLD).copied(bytes(16), point) in found
    assert keys_of(identity=b"x" * 32).copied(bytes(16), point) not in found
