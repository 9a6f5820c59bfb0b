"""How parity is arranged, and which heads of sidecars are believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from blake3 import blake3

from ibtfs.errors import FormatDamaged
from ibtfs.format.erasure import BLOCKS_LIMIT
from ibtfs.format.parity import (
    BLOCK_DIGEST,
    HEAD_LIMIT,
    MAGIC,
    ParityHead,
    Protected,
    Shape,
    arranged,
    block_digest,
    blocks_of,
    check_digest,
    decode_head,
    head_size,
)

HEAD = ParityHead(
    b"i" * 16, "x.parity.10", 10,
    (Protected("a", 1000, b"a" * 32), Protected("b", 512, b"b" * 32)),
    Shape(512, 3, 1, 2), bytes(3 * BLOCK_DIGEST),
)  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "share", "whole", "expected"),
    [
        ([51_200], 10, False, Shape(512, 100, 1, 10)),
        ([51_201], 10, False, Shape(4096, 13, 1, 2)),
        ([4096 * 100], 5, False, Shape(4096, 100, 1, 5)),
        ([4096 * 100 + 1], 5, False, Shape(4096, 51, 2, 3)),
        ([100, 513], 100, False, Shape(512, 3, 1, 3)),
        ([1], 1, False, Shape(512, 1, 1, 2)),
        ([], 10, False, Shape(512, 1, 1, 2)),
        ([0, 0], 10, True, Shape(512, 1, 1, 2)),
        ([512 * 60, 512 * 90], 1, True, Shape(512, 75, 2, 45)),
        ([512 * 100], 100, True, Shape(512, 100, 1, 100)),
    ],
)
def test_blocks_are_arranged_as_the_format_says(
    sizes: Sequence[int], share: int, whole: bool, expected: Shape
) -> None:
    assert arranged(sizes, share, whole=whole) == expected


def test_never_more_blocks_belong_together_than_the_code_takes() -> None:
    for total in (1, 50, 99, 100, 101, 199, 5000):
        shape = arranged([4096 * total], 100, whole=True)
        assert shape.columns + shape.checks <= BLOCKS_LIMIT
        assert shape.columns * shape.rows >= 8 * total


def test_a_head_is_read_as_it_was_written() -> None:
    data = HEAD.encode()
    assert head_size(data[:12], "here") == len(data)
    assert decode_head(data, "here") == HEAD
    assert HEAD.blocks == 3
    assert HEAD.checks_size == 2 * (8 + 512)


def test_any_byte_of_a_head_that_changed_is_noticed() -> None:
    data = HEAD.encode()
    for place in range(12, len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(FormatDamaged, match="here"):
            decode_head(bytes(changed), "here")


@pytest.mark.parametrize(
    "contradiction",
    [
        lambda h: replace(h, share=0),
        lambda h: replace(h, share=True),
        lambda h: replace(h, name=b"x"),
        lambda h: replace(h, digests="x" * 24),
        lambda h: replace(h, digests=h.digests[:-1]),
        lambda h: replace(h, digests=h.digests + bytes(8)),
        lambda h: replace(h, repository="i" * 16),
        lambda h: replace(h, files=(Protected(b"a", 1000, b"a"), h.files[1])),
        lambda h: replace(h, files=(Protected("a", 1000, "a"), h.files[1])),
        lambda h: replace(h, files=(h.files[0], Protected("b", 0, b"b"))),
        lambda h: replace(h, files=(h.files[0], Protected("b", 513, b"b"))),
        lambda h: replace(h, shape=h.shape._replace(block=4097)),
        lambda h: replace(h, shape=h.shape._replace(columns=2)),
        lambda h: replace(h, shape=h.shape._replace(rows=0)),
        lambda h: replace(h, shape=h.shape._replace(rows=-1)),
        lambda h: replace(h, shape=h.shape._replace(checks=BLOCKS_LIMIT - 2)),
        lambda h: replace(h, shape=h.shape._replace(checks=2.0)),
        lambda h: replace(h, shape=h.shape[:3]),
        lambda h: replace(h, files=(("a", 1000),)),
    ],
)  # fmt: skip
def test_a_head_that_contradicts_itself_is_refused(
    contradiction: Callable[[ParityHead], ParityHead],
) -> None:
    with pytest.raises(FormatDamaged, match=r"here: (a head that contradicts|not the head)"):
        decode_head(contradiction(HEAD).encode(), "here")


def test_the_largest_head_and_code_are_taken() -> None:
    largest = replace(HEAD, shape=Shape(512, 3, 1, BLOCKS_LIMIT - 3))
    assert decode_head(largest.encode(), "here") == largest
    limit = HEAD_LIMIT.to_bytes(4, "little")
    assert head_size(MAGIC + limit, "here") == 12 + HEAD_LIMIT + 16
    assert HEAD_LIMIT == 64 << 20


@pytest.mark.parametrize(
    "data",
    [b"", MAGIC, MAGIC + bytes(3), b"J" + MAGIC[1:] + bytes(4),
     MAGIC + (HEAD_LIMIT + 1).to_bytes(4, "little"), MAGIC + b"\xff" * 4],
)  # fmt: skip
def test_what_is_no_head_or_too_large_for_one_is_refused(data: bytes) -> None:
    with pytest.raises(FormatDamaged, match="here"):
        head_size(data, "here")


def test_blocks_lie_in_columns_one_behind_the_other() -> None:
    head = replace(HEAD, shape=Shape(512, 3, 4, 2), digests=bytes(range(88)))
    assert [list(head.row(number)) for number in (0, 3)] == [
        [(0, 0), (1, 4), (2, 8)],
        [(0, 3), (1, 7), (2, 11)],
    ]
    assert head.blocks == 11
    assert head.digest_of(0) == bytes(range(8))
    assert head.digest_of(10) == bytes(range(80, 88))
    assert head.checks_size == 4 * 2 * (8 + 512)


def test_digests_of_blocks() -> None:
    assert block_digest(b"abc") == blake3(b"abc").digest()[:8]
    assert check_digest(3, b"abc") == blake3(b"\3" + bytes(7) + b"abc").digest()[:8]
    assert check_digest(1 << 40, b"") == blake3((1 << 40).to_bytes(8, "little")).digest()[:8]


@pytest.mark.parametrize(
    ("size", "blocks"), [(0, 0), (1, 1), (511, 1), (512, 1), (513, 2), (1024, 2)]
)
def test_objects_take_whole_blocks(size: int, blocks: int) -> None:
    assert blocks_of(size, 512) == blocks


def test_columns_may_hold_more_than_there_is() -> None:
    for shape in (Shape(512, 3, 1, 2), Shape(512, 4, 1, 2), Shape(512, 3, 2, 2)):
        assert decode_head(replace(HEAD, shape=shape).encode(), "here").shape == shape
    largest = replace(
        HEAD, shape=Shape(4096, 2, 1, 1), digests=bytes(2 * BLOCK_DIGEST),
        files=(HEAD.files[0], Protected("b", 4096, b"b" * 32)), share=1,
    )  # fmt: skip
    assert decode_head(largest.encode(), "here") == largest
    assert head_size(MAGIC + bytes(4), "here") == 28
