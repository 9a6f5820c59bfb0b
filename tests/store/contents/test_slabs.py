"""Digests of slabs: the same as a plain list, and holes that cost nothing."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from ibtfs.format.packing import unpack_tuple
from ibtfs.store.contents import slabs as rooms
from ibtfs.store.contents.slabs import SLAB_DIGEST, ZERO_DIGEST, SlabDigests, encode_slabs


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
