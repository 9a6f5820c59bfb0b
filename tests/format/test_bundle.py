"""Directories of bundles: found at either end, and refused where they cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format.bundle import (
    ARCHIVES_LIMIT,
    Directory,
    Ends,
    Member,
    _decode,
    encode_ends,
)
from ibtfs.format.compression import Codec
from ibtfs.format.frames import FRAME_LIMIT, HEAD_SIZE, object_key
from ibtfs.format.packing import pack
from ibtfs.format.tables import TRAILER_SIZE, Trailer, encode_trailer

REPOSITORY, NAME = b"i" * 16, "bundles/x"
MOST = 1 << 40
A, B = "20261120T101112Z_host_0a.0", "20261120T101112Z_host_0b.0"
MEMBERS = [Member(0, 0, 1, 500), Member(0, 2, 2, 600), Member(1, 2, 1, 700)]
GOOD: dict[str, Any] = {
    "archives": [A, B], "made": [0, 1700000000],
    "files": [list(column) for column in zip(*MEMBERS)],
}  # fmt: skip


def test_either_end_leads_to_the_directory() -> None:
    ends = Ends(REPOSITORY, NAME, "here")
    before = encode_ends(REPOSITORY, NAME, Directory([A, B], [0, 7], MEMBERS, 0), Codec(1))[0]
    front, back = encode_ends(
        REPOSITORY, NAME, Directory([A, B], [0, 7], MEMBERS, len(before)), Codec(1)
    )
    size = len(front) + 1800 + len(back)
    offset, length, _ = ends.trailer(front[:TRAILER_SIZE], size, is_label=True)
    first = ends.directory(front[offset : offset + length])
    assert (offset, first.archives, list(first.made)) == (TRAILER_SIZE, (A, B), [0, 7])
    assert first.all() == MEMBERS
    assert first.members(0) == [(MEMBERS[0], len(front)), (MEMBERS[1], len(front) + 500)]
    assert first.members(1) == [(MEMBERS[2], len(front) + 1100)]
    assert first.end == len(front) + 1800
    offset, length, _ = ends.trailer(back[-TRAILER_SIZE:], size, is_label=False)
    assert offset == len(front) + 1800
    assert ends.directory(back[:length]).all() == MEMBERS


def trailer(offset: int, size: int, envelope: int = 0) -> bytes:
    told = Trailer(offset, size, envelope)
    return encode_trailer(object_key(REPOSITORY, NAME), REPOSITORY, told)


@pytest.mark.parametrize("size", [HEAD_SIZE, FRAME_LIMIT + HEAD_SIZE])
def test_a_directory_lies_where_it_should(size: int) -> None:
    ends, file = Ends(REPOSITORY, NAME, "here"), 1 << 30
    at_end = file - TRAILER_SIZE - size
    assert ends.trailer(trailer(TRAILER_SIZE, size), file, is_label=True)[1] == size
    assert ends.trailer(trailer(at_end, size), file, is_label=False)[0] == at_end
    for label, data in (
        (True, trailer(TRAILER_SIZE + 1, size)), (True, trailer(at_end, size)),
        (False, trailer(at_end - 1, size)), (False, trailer(TRAILER_SIZE, size)),
        (True, trailer(TRAILER_SIZE, HEAD_SIZE - 1)),
        (True, trailer(TRAILER_SIZE, FRAME_LIMIT + HEAD_SIZE + 1)),
        (True, trailer(TRAILER_SIZE, size, 9)), (False, trailer(at_end, size, 9)),
    ):  # fmt: skip
        with pytest.raises(FormatDamaged, match="here: no directory"):
            ends.trailer(data, file, is_label=label)


def files(*members: tuple[int, int, int, int]) -> dict[str, Any]:
    return {"files": [list(column) for column in zip(*members)]}


@pytest.mark.parametrize(
    "good",
    [
        {}, {"made": [1 << 40, 1 << 40]}, files((0, 0, 1, TRAILER_SIZE), (1, 2, 1, 500)),
        files((0, 0, MOST, MOST), (0, 1, 1, 500), (0, 2, 1, 500), (1, 0, 1, 500)),
    ],
)  # fmt: skip
def test_directories_just_within_the_limits(good: dict[str, Any]) -> None:
    assert _decode(pack({**GOOD, **good}), 100, "here").archives == (A, B)


@pytest.mark.parametrize(
    "bad",
    [
        {"archives": []}, {"archives": [A]}, {"archives": [B, A]}, {"archives": [A, A]},
        {"archives": [A, "x"]}, {"archives": A}, {"made": [0]}, {"made": [0, -1]},
        {"made": [0, (1 << 40) + 1]}, {"made": [0, "1"]}, {"files": 5}, {"files": [[0], [0], [1]]},
        {"files": [[0, 1], [0, 0], [1, 1], [500]]}, {"files": [[0, 1], [0, 0], [1, 1], [500, "1"]]},
        files((0, 0, 1, 500)), files((0, 0, 1, 500), (1, 0, 1, 500), (2, 0, 1, 500)),
        files((1, 0, 1, 500), (0, 0, 1, 500)), files((0, 3, 1, 500), (1, 0, 1, 500)),
        files((0, 0, 1, 500), (0, 0, 2, 500), (1, 0, 1, 500)),
        files((0, 2, 1, 500), (0, 0, 2, 500), (1, 0, 1, 500)),
        files((0, -1, 1, 500), (1, 0, 1, 500)), files((0, 0, 0, 500), (1, 0, 1, 500)),
        files((0, 0, MOST + 1, 500), (1, 0, 1, 500)),
        files((0, 0, 1, TRAILER_SIZE - 1), (1, 0, 1, 500)),
        files((0, 0, 1, MOST + 1), (1, 0, 1, 500)),
    ],
)  # fmt: skip
def test_directories_that_cannot_be_are_damage(bad: dict[str, Any]) -> None:
    with pytest.raises(FormatDamaged, match="here"):
        _decode(pack({**GOOD, **bad}), 100, "here")


def test_a_directory_has_no_more_archives_than_it_may() -> None:
    def listed(count: int) -> bytes:
        rows = [list(range(count)), [0] * count, [1] * count, [500] * count]
        names = [f"20261120T101112Z_host_{n:06x}.0" for n in range(count)]
        return pack({"archives": names, "made": [0] * count, "files": rows})

    assert len(_decode(listed(ARCHIVES_LIMIT), 100, "here").archives) == ARCHIVES_LIMIT
    with pytest.raises(FormatDamaged, match="here: more archives"):
        _decode(listed(ARCHIVES_LIMIT + 1), 100, "here")
