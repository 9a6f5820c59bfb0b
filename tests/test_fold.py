"""Folding chains of maps, against a plain model that follows every byte by itself."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from blake3 import blake3
from conftest import back_up, the_point
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.actions.deltas.match import without_crumbs
from ibtfs.errors import FormatDamaged
from ibtfs.format.extents import BASE, DONOR, HOLE, OWN, ZEROS, ExtentMap, MapBuilder
from ibtfs.format.frames import LITERALS
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.format.rdelta import LITERAL, Match
from ibtfs.store.contents.fold import Level, fold
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory

DONORS = (Reference("other", 1), Reference("other", 2))
LEAST = 20

Place = tuple[Reference | None, int]
"""Where one byte comes from: an owner and an offset; without an owner, HOLE or ZEROS."""


def level(number: int, size: int, extents: ExtentMap | None, base: Reference | None) -> Level:
    ref = Reference("archive", number)
    record = ContentRecord(
        b"", size, LITERALS, 0, 1 << 30, donors=DONORS, base=base, map_parts=1 if extents else 0
    )
    return Level(ref, record, extents)


def model(levels: list[Level]) -> list[Place]:
    """The place of every byte of the first content, made from the last one upwards."""
    bytes_of: list[Place] = []
    for one in reversed(levels):
        if one.extents is None:
            bytes_of = [(one.ref, n) for n in range(one.record.size)]
            continue
        made: list[Place] = []
        for code, offset, length in one.extents.ranges():
            if code == BASE:
                made += bytes_of[offset : offset + length]
            elif code in (HOLE, ZEROS):
                made += [(None, code)] * length
            else:
                owner = one.ref if code == OWN else DONORS[code - DONOR]
                made += [(owner, offset + n) for n in range(length)]
        bytes_of = made
    return bytes_of


@st.composite
def maps(draw: st.DrawFn, base_size: int) -> ExtentMap:
    """A map as a backup makes it: mostly copies in place, some from elsewhere, some new bytes."""
    builder = MapBuilder()
    codes = (HOLE, ZEROS, OWN, DONOR, DONOR + 1) + (BASE,) * (6 if base_size else 0)
    for _ in range(draw(st.integers(1, 12))):
        code, length = draw(st.sampled_from(codes)), draw(st.integers(1, 40))
        offset = draw(st.integers(0, 500)) if code > ZEROS else 0
        if code == BASE:
            in_place = builder.size < base_size and draw(st.booleans())
            offset = builder.size if in_place else offset % base_size
            length = min(length, base_size - offset)
        builder.add(code, offset, length)
    return builder.finish()


@st.composite
def chains(draw: st.DrawFn) -> list[Level]:
    """A content and its bases, the newest first."""
    flat = draw(maps(0)) if draw(st.booleans()) else None
    made = [level(0, flat.size if flat else draw(st.integers(1, 300)), flat, None)]
    for number in range(1, draw(st.integers(1, 6))):
        extents = draw(maps(made[0].record.size))
        made.insert(0, level(number, extents.size, extents, made[0].ref))
    return made


@given(chains(), st.data())
def test_fold_finds_every_byte(levels: list[Level], data: st.DataObject) -> None:
    expected = model(levels)
    start = data.draw(st.integers(0, len(expected) - 1))
    end = data.draw(st.integers(start + 1, len(expected)))
    found: list[Place] = []
    for position, owner, offset, length in fold(levels, start, end):
        assert position == start + len(found)
        assert length > 0
        found += [(owner, offset + n if owner else offset) for n in range(length)]
    assert found == expected[start:end]


def test_a_map_without_a_base_may_copy_nothing() -> None:
    extents = ExtentMap([10], [BASE], [0])
    with pytest.raises(FormatDamaged, match="a base that it does not have"):
        fold([level(0, 10, extents, None)], 0, 10)
    beyond = level(1, 20, ExtentMap([5, 15], [OWN, BASE], [0, 2]), Reference("archive", 0))
    with pytest.raises(FormatDamaged, match="beyond its end"):
        fold([beyond, level(0, 10, None, None)], 0, 20)


@st.composite
def matches(draw: st.DrawFn) -> list[Match]:
    made: list[Match] = []
    position = 0
    for length in draw(st.lists(st.integers(1, 60), min_size=1, max_size=12)):
        source = draw(st.sampled_from((LITERAL, position, draw(st.integers(0, 900)))))
        made.append((source, position, length))
        position += length
    return made


@given(matches())
def test_crumbs_become_literals_and_nothing_else_changes(found: list[Match]) -> None:
    def by_byte(items: list[Match]) -> list[int]:
        return [s if s == LITERAL else s + n for s, _, length in items for n in range(length)]

    kept = without_crumbs(found, LEAST)
    assert [target for _, target, _ in kept] == [
        sum(i[2] for i in kept[:n]) for n in range(len(kept))
    ]
    before, after = by_byte(found), by_byte(kept)
    assert len(before) == len(after)
    assert all(new in (old, LITERAL) for old, new in zip(before, after))
    assert all(s == LITERAL or length >= LEAST for s, _, length in kept[1:-1])
    for source, target, length in found:
        if source != LITERAL and length >= LEAST:
            assert after[target : target + length] == before[target : target + length]
    assert all(a != LITERAL or b != LITERAL for (a, *_), (b, *_) in itertools.pairwise(kept[:-1]))


# Through a repository


def test_small_changes_all_over_generation_after_generation(
    repository: Repository, tmp_path: Path
) -> None:
    """Each cuts what the last one left: a window comes to have more pieces than any one map."""
    source, versions = tmp_path / "source", []
    source.mkdir()
    data = bytearray(random.Random(1).randbytes(1 << 20))
    for generation in range(18):
        for first in range(12 * generation % 256, len(data), 256):
            data[first] ^= 1
        (source / "records").write_bytes(data)
        versions.append((the_point(back_up(repository, source)), blake3(data).digest()))
    contents = Contents(repository)
    for point, expected in versions:
        (entry,) = Directory(repository, point.state).entries()
        assert entry.content is not None
        assert blake3(contents.whole(entry.content, entry.size)).digest() == expected


def test_nothing_lies_beyond_the_end_of_a_content(repository: Repository, tmp_path: Path) -> None:
    """A row may promise more than there is: that is damage, and no endless search for a hole."""
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.write(b"data" * 1000)
        file.truncate(3 << 20)
    point = the_point(back_up(repository, source))
    (entry,) = Directory(repository, point.state).entries()
    assert entry.content is not None
    contents = Contents(repository)
    assert (
        sum(segment.length for segment in contents.segments(entry.content, 0, 3 << 20)) == 3 << 20
    )
    for start, end in ((0, (3 << 20) + 1), (3 << 20, 4 << 20), (5 << 20, 6 << 20)):
        with pytest.raises(FormatDamaged, match="more are expected"):
            list(contents.segments(entry.content, start, end))


@pytest.mark.parametrize("versions", [1, 2])
def test_a_chain_is_loaded_once_however_small_the_cache(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, versions: int
) -> None:
    """Also where two versions of a file are read side by side, as cmp does."""
    source, points = tmp_path / "source", []
    source.mkdir()
    data = bytearray(random.Random(2).randbytes(6 << 20))
    for generation in range(4):
        for first in range(5000 * generation, len(data), 50_000):
            data[first] ^= 1
        (source / "database").write_bytes(data)
        points.append(the_point(back_up(repository, source)))
    small = Repository.open(repository.path, cache_bytes=1 << 10)
    contents, loaded = Contents(small), []
    load = Contents._load_chain

    def counted(self: Contents, ref: Reference) -> list[Level]:
        loaded.append(ref)
        return load(self, ref)

    monkeypatch.setattr(Contents, "_load_chain", counted)
    refs = []
    for point in points[-versions:]:
        (entry,) = Directory(small, point.state).entries()
        assert entry.content is not None
        assert contents.record(entry.content).depth > 0
        refs.append(entry.content)
    for start in range(0, len(data), 1 << 18):
        for ref in refs:
            read = contents.read(ref, start, 1 << 18)
        assert read == data[start : start + (1 << 18)]
    assert sorted(loaded) == sorted(refs)
