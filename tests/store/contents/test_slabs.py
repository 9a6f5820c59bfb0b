"""Digests of slabs: the same as a plain list, and holes that cost nothing."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any, cast

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format.frames import LITERALS
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.format.packing import pack, unpack_tuple
from ibtfs.store.contents import slabs as rooms
from ibtfs.store.contents.slabs import (
    SLAB,
    SLAB_DIGEST,
    ZERO_DIGEST,
    SlabDigests,
    encode_slabs,
    load_slabs,
)


def digest(chance: random.Random) -> bytes:
    return chance.randbytes(SLAB_DIGEST)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_a_list(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "BLOCK", 4)
    chance = random.Random(seed)
    plain: list[bytes] = []
    slabs = SlabDigests()
    for _ in range(200):
        step = chance.randrange(6)
        if step == 0:
            count = chance.randrange(12)
            plain += [ZERO_DIGEST] * count
            slabs.add_zeros(count)
        elif step == 1:
            count = max(len(plain) + chance.randrange(-6, 6), 0)
            plain = plain[:count] + [ZERO_DIGEST] * (count - len(plain))
            slabs.resize(count)
        elif step == 2 and plain:
            first = chance.randrange(len(plain))
            new = [chance.choice([ZERO_DIGEST, digest(chance)]) for _ in range(6)]
            plain[first : first + 6] = new
            slabs.put(first, b"".join(new))
        else:
            plain.append(chance.choice([ZERO_DIGEST, digest(chance)]))
            slabs.append(plain[-1])
        assert slabs.data == b"".join(plain)
        assert [slabs[n] for n in range(len(slabs))] == plain
        filled = [n for n, one in enumerate(plain) if one != ZERO_DIGEST]
        assert slabs.leading_zeros() == (filled or [0])[0]
        other = SlabDigests(b"".join(plain[:-3] + [digest(chance)]))
        expected = [n for n in range(len(plain)) if plain[n] != other[n]]
        assert slabs.differing(other, 0, len(slabs)) == expected


def test_a_hole_costs_nothing() -> None:
    """Of 64 TiB, with a slab of data in the middle."""
    half, one = 1 << 29, digest(random.Random(1))
    tracemalloc.start()
    try:
        slabs = SlabDigests()
        slabs.add_zeros(half)
        slabs.append(one)
        slabs.add_zeros(half - 1)
        assert slabs.leading_zeros() == half
        assert slabs.differing(SlabDigests(), 0, half + 1) == [half]
        assert slabs.is_sparse
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    bodies = encode_slabs(slabs, SlabDigests())
    listed = [unpack_tuple(body, "", 2) for body in bodies]
    assert len(listed) == 2 * half // rooms.SLABS_A_RECORD
    assert [found for found in listed if found[0]] == [((half,), one)]


class Vault:
    """Stands for a repository of one archive: the records of contents, and of their slabs."""

    id = "archive"

    def __init__(self, records: list[ContentRecord], bodies: list[bytes]) -> None:
        self._records, self._bodies = records, bodies

    def archive(self, _: str) -> Vault:
        return self

    def content(self, number: int) -> ContentRecord:
        return self._records[number]

    def body(self, _: int, number: int) -> bytes:
        return self._bodies[number]

    def load(self, number: int) -> list[bytes]:
        found = load_slabs(cast(Any, self), self._records[number], self.id)
        return [found[slab] for slab in range(len(found))]


def record(slabs: int, size: int, base: int | None = None) -> ContentRecord:
    below = None if base is None else Reference("archive", base)
    return ContentRecord(bytes(32), size, LITERALS, 0, size, base=below, slabs=slabs)


def test_digests_are_those_of_the_base_but_for_what_is_listed() -> None:
    one, two, new = (bytes([n]) * SLAB_DIGEST for n in (1, 2, 3))
    vault = Vault(
        [record(0, 2 * SLAB), record(1, 2 * SLAB + 1, base=0), record(2, SLAB, base=1)],
        [pack((None, one + two)), pack(((0, 2), new + new)), pack(((), b""))],
    )
    assert vault.load(0) == [one, two]
    assert vault.load(1) == [new, two, new]
    assert vault.load(2) == [new]


@pytest.mark.parametrize(
    ("slabs", "body"),
    [
        (-1, pack((None, bytes(2 * SLAB_DIGEST)))),
        (0, pack((None, bytes(SLAB_DIGEST)))),
        (0, pack((None, bytes(3 * SLAB_DIGEST)))),
        (0, pack((None, "x" * 2 * SLAB_DIGEST))),
        (0, pack(((0, 1), bytes(SLAB_DIGEST)))),
        (0, pack(((2,), bytes(SLAB_DIGEST)))),
        (0, pack(((-1,), bytes(SLAB_DIGEST)))),
        (0, pack((("0",), bytes(SLAB_DIGEST)))),
        (0, pack((None,))),
    ],
)
def test_digests_that_cannot_be_are_damage(slabs: int, body: bytes) -> None:
    with pytest.raises(FormatDamaged, match="slabs of a content"):
        Vault([record(slabs, 2 * SLAB)], [body]).load(0)


def test_a_chain_of_digests_without_an_end_is_damage() -> None:
    vault = Vault([record(0, SLAB, base=0)], [pack(((), b""))])
    with pytest.raises(FormatDamaged, match="too long"):
        vault.load(0)


def test_digests_come_from_all_records_of_a_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "SLABS_A_RECORD", 2)
    digests = [bytes([n]) * SLAB_DIGEST for n in range(9)]
    vault = Vault(
        [record(0, 5 * SLAB), record(3, 5 * SLAB, base=0)],
        [pack((None, b"".join(digests[n : min(n + 2, 5)]))) for n in (0, 2, 4)]
        + [pack(((1,), digests[6])), pack((None, digests[7] + digests[8])), pack(((), b""))],
    )
    assert vault.load(0) == digests[:5]
    assert vault.load(1) == [digests[n] for n in (0, 6, 7, 8, 4)]
