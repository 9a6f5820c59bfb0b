"""Reed-Solomon codes: any blocks that are lost come back from as many others."""

from __future__ import annotations

import itertools
import random

import pytest
import zfec

from ibtfs.format.erasure import BLOCKS_LIMIT, parity_of, restored


@pytest.mark.parametrize(("count", "checks"), [(1, 1), (1, 3), (4, 2), (3, 3)])
def test_any_blocks_that_are_lost_come_back(count: int, checks: int) -> None:
    chance = random.Random(count)
    blocks = [chance.randbytes(50) for _ in range(count)]
    parity = parity_of(blocks, checks)
    assert [len(block) for block in parity] == [50] * checks
    every = dict(enumerate([*blocks, *parity]))
    for left in itertools.combinations(every, count):
        assert restored({n: every[n] for n in left}, count, checks) == blocks
    assert restored(dict(reversed(every.items())), count, checks) == blocks


def test_the_first_of_one_block_is_the_block() -> None:
    assert parity_of([b"1234"], 2)[0] == b"1234"


def test_so_many_blocks_belong_together_at_most() -> None:
    blocks = [bytes([n]) * 4 for n in range(BLOCKS_LIMIT - 1)]
    parity = parity_of(blocks, 1)
    assert restored(dict(enumerate([*blocks[1:], *parity], 1)), len(blocks), 1) == blocks
    with pytest.raises(zfec.Error, match="256"):
        parity_of([*blocks, b"more"], 1)
