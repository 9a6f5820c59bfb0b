"""Values as msgpack: bounded in what they claim and hold, before memory is taken for it."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format import packing
from ibtfs.format.packing import (
    expect_ints,
    pack,
    pack_bodies,
    unpack,
    unpack_bodies,
    unpack_map,
    unpack_tuple,
)


@pytest.mark.parametrize("value", [0, -1, 1 << 64, -(1 << 100), (1 << 127) - 1, b"\xff", "\udcff"])
def test_values_come_back(value: Any) -> None:
    assert unpack(pack(value), "here") == value


def test_what_cannot_be_packed_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="Cannot pack set"):
        pack({1})
    with pytest.raises(OverflowError):
        pack(1 << 127)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc0\xc0", b"\xc1", b"\xc7\x10\x02" + bytes(16), b"\xc7\x0f\x01" + bytes(15),
     b"\xc7\x11\x01" + bytes(17)],
)  # fmt: skip
def test_what_is_not_one_value_is_damage(data: bytes) -> None:
    with pytest.raises(FormatDamaged, match="here: not a msgpack value"):
        unpack(data, "here")


HEADS = {
    "fixarray": b"\x90", "fixmap": b"\x80", "array 16": b"\xdc\0\0", "array 32": b"\xdd\0\0\0\0",
    "map 16": b"\xde\0\0", "map 32": b"\xdf\0\0\0\0",
    "the largest fixarray": b"\x9f" + b"\xc0" * 15,
    "the largest fixmap": b"\x8f" + b"".join(bytes([n, n]) for n in range(15)),
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_large_value_holds_no_more_arrays_and_maps_than_it_may(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def value(count: int) -> bytes:
        return b"\xdc" + count.to_bytes(2, "big") + head * count

    monkeypatch.setattr(packing, "KEYS_BELIEVED", 5)
    monkeypatch.setattr(packing, "UNCOUNTED", 5)
    assert len(unpack(value(4), "here", containers=5)) == 4
    with pytest.raises(FormatDamaged, match=r"here: .*more arrays and maps"):
        unpack(value(5), "here", containers=5)
    monkeypatch.setattr(packing, "UNCOUNTED", len(value(5)) + 1)
    assert len(unpack(value(5), "here", containers=5)) == 5


@pytest.mark.parametrize("head", [b"\xdc\xff\xff", b"\xdd\x00\xff\xff\xff"])
def test_arrays_that_claim_more_than_there_is_take_no_room(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bytes] = []
    unpackb = packing.msgpack.unpackb

    def noted(data: bytes, **options: Any) -> Any:
        taken.append(data)
        return unpackb(data, **options)

    monkeypatch.setattr(packing.msgpack, "unpackb", noted)
    with pytest.raises(FormatDamaged, match="here"):
        unpack(head * 5000, "here")
    assert taken == []
    assert unpack(b"\xdc\0\1\xc0", "here") == (None,)


def test_values_of_another_kind_are_damage() -> None:
    assert unpack_tuple(pack([1, 2]), "here", 2) == (1, 2)
    assert unpack_map(pack({"a": 1}), "here") == {"a": 1}
    assert unpack_bodies(pack_bodies([b"a", None]), 2, "here") == (b"a", None)
    assert expect_ints((), "here") == ()
    assert expect_ints((1, -2), "here") == (1, -2)
    for call in (
        lambda: unpack_tuple(pack([1]), "here", 2),
        lambda: unpack_tuple(pack({1: 2, 2: 3}), "here", 2),
        lambda: unpack_map(pack([["a", 1]]), "here"),
        lambda: unpack_map(pack({"a": 1, b"b": 2}), "here"),
        lambda: unpack_bodies(pack([b"a"]), 2, "here"),
        lambda: unpack_bodies(pack([b"a", "b"]), 2, "here"),
        lambda: unpack_bodies(pack(b"ab"), 2, "here"),
        lambda: expect_ints([1], "here"),
        lambda: expect_ints((1, True), "here"),
    ):
        with pytest.raises(FormatDamaged, match="here"):
            call()


def keyed(*keys: Any, size: int) -> bytes:
    """A map of *keys*, in an array that is *size* bytes long."""
    body = b"\x92" + pack(dict.fromkeys(keys, 0))
    return body + b"\xc6" + (size - len(body) - 5).to_bytes(4, "big") + bytes(size - len(body) - 5)


LARGE = 128 << 10
BIG = [n << 65 for n in range(1, 102)]


@pytest.mark.parametrize(
    "keys",
    [BIG[:100], [*range(99), 1.5], range(101), [1 << 63, (1 << 64) - 1, *range(99)],
     [b"%d" % n for n in range(101)], [str(n) for n in range(101)]],
)  # fmt: skip
def test_maps_whose_keys_are_believed(keys: Any) -> None:
    assert len(unpack(keyed(*keys, size=LARGE), "here")[0]) == len(keys)


@pytest.mark.parametrize(
    "keys", [BIG, [*range(100), 1 << 64], [*range(100), None], [*range(2, 102), True],
             [*range(100), 1.5]],
)  # fmt: skip
def test_maps_of_keys_that_may_have_one_hash(keys: Any) -> None:
    """A large value may have no more than a hundred of them; in a small one they do no harm."""
    assert len(unpack(keyed(*keys, size=LARGE - 1), "here")[0]) == 101
    for size in (LARGE, 256 << 10, 1 << 20):
        with pytest.raises(FormatDamaged, match=r"here: .*a key"):
            unpack(keyed(*keys, size=size), "here")


def test_so_many_arrays_and_maps_are_counted() -> None:
    most = packing.CONTAINERS
    assert most == 4 * 4096 + 64
    body = bytes(256 << 10)
    assert len(unpack(pack([[[]] * (most - 2), body]), "here")[0]) == most - 2
    with pytest.raises(FormatDamaged, match="more arrays and maps"):
        unpack(pack([[[]] * (most - 1), body]), "here")


@pytest.mark.parametrize(
    ("size", "is_read_first"), [(1 << 20, False), (4 << 20, False), ((4 << 20) + 1, True)]
)
def test_what_claims_more_than_there_is_room_for_is_read_first(
    size: int, is_read_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two arrays of 64 bits a value claim up to eight bytes for each byte of all."""
    taken: list[int] = []
    monkeypatch.setattr(msgpack, "unpackb", lambda data, **_: taken.append(len(data)))
    claims = b"\xdc\0\0\xdd\0\0\xff\xff"
    data = b"\x93\xc6" + (size - 6 - len(claims)).to_bytes(4, "big")
    data += bytes(size - 6 - len(claims)) + claims
    assert len(data) == size
    if is_read_first:
        with pytest.raises(FormatDamaged, match="here"):
            unpack(data, "here")
    else:
        unpack(data, "here")
    assert bool(taken) is not is_read_first


def test_bytes_that_look_like_arrays_and_maps_are_none() -> None:
    """So they are counted one by one, and the value comes back as it was."""
    looks = bytes([0x80, 0x90, 0xDC, 0xDD, 0xDE, 0xDF, 0x8F, 0x9F]) * (1 << 15)
    value = (((1, {"a": (looks,)}), {}, ()), "x", {b"m": ({},)})
    assert unpack(pack(value), "here") == value
    assert unpack(pack(value), "here", containers=10) == value
    with pytest.raises(FormatDamaged, match="more arrays and maps"):
        unpack(pack(value), "here", containers=9)
