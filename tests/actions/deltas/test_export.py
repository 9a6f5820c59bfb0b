"""A delta for rdiff: ``rdiff patch`` makes of it the file that was backed up."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from ibtfs.actions.backup import entry as store_file
from ibtfs.actions.deltas import export as export_delta
from ibtfs.actions.source import filesystems
from ibtfs.format.point import Point
from ibtfs.format.rdelta import LITERAL
from ibtfs.store.contents.overlap import Places, joined, worthwhile
from ibtfs.store.contents.reader import Contents, Segment
from ibtfs.store.repository import Repository
from ibtfs.store.trees.paths import find_entry
from ibtfs.store.writing import flatten
from tests.support.deltas import Generations, exported, patched
from tests.support.repositories import back_up, create, reopened, the_point
from tests.support.trees import Sparse, make_tree

KIB, MIB = 1 << 10, 1 << 20
EXAMPLES = 20


def edited(rng: random.Random, data: bytes) -> bytes:
    """*data* with some edits of all kinds."""
    new = bytearray(data)
    for _ in range(rng.choice((0, 1, 2, 5))):
        at, length = rng.randrange(len(new) + 1), rng.choice((1, 20, 500, 5000, 70_000))
        kind = rng.randrange(8)
        if kind == 0:
            del new[at : at + length]
        elif kind == 1:
            new[at:at] = rng.randbytes(length)
        elif kind == 2:
            new[at : at + length] = rng.randbytes(length)
        elif kind == 3:  # zeros, which become holes
            new[at : at + length] = bytes(length)
        elif kind == 4:  # the same bytes at another place
            source = rng.randrange(len(new) + 1)
            new[at:at] = new[source : source + length]
        elif kind == 5:
            del new[at:]
        elif kind == 6:
            new[at:at] = bytes(length)
        else:
            new += rng.randbytes(length)
    return bytes(new[: 512 * KIB])


@pytest.mark.parametrize("bounds", ["as they are", "lowered"])
def test_any_version_becomes_any_other(
    bounds: str, fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystems, "GRANULARITY_NS", 0)
    if bounds == "lowered":  # chains are flattened every other generation, slabs are compared
        monkeypatch.setattr(flatten, "DEPTH_BOUND", 2)
        monkeypatch.setattr(flatten, "DONORS_KEPT", 2)
        monkeypatch.setattr(store_file, "MEMORY_LIMIT", 64 * KIB)
    names = itertools.count()

    @seed(bounds)
    @settings(max_examples=EXAMPLES, phases=[Phase.generate], database=None, deadline=None)
    @given(st.integers(0, (1 << 64) - 1))
    def play(number: int) -> None:
        rng = random.Random(number)
        game = Generations(fast_path / str(next(names)))
        data = rng.randbytes(rng.choice((0, 1, 3000, 200_000)))
        for _ in range(7):
            game.add(data, full=rng.randrange(8) == 0)
            data = edited(rng, data)
        for old, new in rng.sample(list(itertools.product(range(7), repeat=2)), 16):
            game.check(old, new)
        shutil.rmtree(game.place)

    play()
    assert next(names) == EXAMPLES


def test_a_small_edit_is_a_small_delta_in_both_directions_after_flattening(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flatten, "DEPTH_BOUND", 3)
    monkeypatch.setattr(flatten, "DONORS_KEPT", 1)
    game, rng = Generations(fast_path), random.Random(1)
    data = bytearray(rng.randbytes(6 * MIB))
    for _ in range(10):
        game.add(bytes(data))
        at = rng.randrange(len(data))
        data[at : at + 300] = rng.randbytes(300)
    for old, new in [(0, 1), (8, 9), (9, 8), (3, 4), (4, 3), (4, 5), (5, 4)]:
        assert game.check(old, new).delta_bytes < 1500, (old, new)
    for old, new in [(0, 9), (9, 0), (2, 8)]:
        assert game.check(old, new).delta_bytes < 10_000, (old, new)


def test_a_small_edit_reads_little_of_a_large_file(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    game, rng = Generations(fast_path), random.Random(2)
    data = bytearray(rng.randbytes(20 * MIB))
    game.add(bytes(data))
    data[7 * MIB : 7 * MIB] = b"inserted " * 100
    game.add(bytes(data))
    read, pieces = [], Contents.pieces

    def counted(self: Contents, ref: Any, offset: int, size: int) -> Any:
        read.append(size)
        return pieces(self, ref, offset, size)

    monkeypatch.setattr(Contents, "pieces", counted)
    for old, new in [(0, 1), (1, 0)]:
        read.clear()
        assert game.check(old, new).delta_bytes < 5000
        assert 0 < sum(read) < MIB or (old, new) == (1, 0)


def test_contents_stored_apart_are_compared_by_librsync(fast_path: Path) -> None:
    game, rng = Generations(fast_path), random.Random(3)
    data = rng.randbytes(9 * MIB)
    game.add(data)
    game.add(data[: 5 * MIB] + b"new" + data[5 * MIB + 100 :], full=True)
    assert game.check(0, 1).delta_bytes < 10_000
    assert game.check(1, 0).delta_bytes < 10_000


def test_without_librsync_it_is_correct_though_large(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ibtfs.errors import LibraryMissing

    def missing(*_: object) -> None:
        raise LibraryMissing("none here")

    game, data = Generations(fast_path), random.Random(4).randbytes(MIB)
    game.add(data)
    game.add(data[1000:], full=True)
    monkeypatch.setattr(export_delta, "SignatureWriter", missing)
    assert game.check(0, 1).literal_bytes == MIB - 1000


def test_holes_and_zeros_are_copied_from_the_old_zeros(fast_path: Path) -> None:
    rng = random.Random(5)
    repository, source = create(fast_path / "repository"), fast_path / "source"
    some = {0: rng.randbytes(70_000), 40 * MIB: rng.randbytes(5000)}
    points = []
    for size, data in [
        (60 * MIB, some),
        (90 * MIB, {**some, 55 * MIB: b"x" * 300}),
        (5000, {}),
        (0, {}),
    ]:
        shutil.rmtree(source, ignore_errors=True)
        make_tree(source, {"file": Sparse(size, data)})
        points.append(the_point(back_up(repository, source)))
    for old, new in itertools.permutations(points, 2):
        delta, export = exported(repository, old, new)
        repo = reopened(repository)
        bases = [b"".join(_pieces(repo, point)) for point in (old, new)]
        assert patched(fast_path, bases[0], delta) == bases[1]
        if old in points[:2] and new in points[:3]:
            assert export.delta_bytes < 1500


def test_a_large_hole_is_not_searched_piece_by_piece(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    game, data = Generations(fast_path), random.Random(8).randbytes(30 * MIB)
    game.add(data)
    game.add(data + bytes(20 * MIB))
    searched, match = [], export_delta.match

    def counted(base: bytes, new: bytes, *, block_size: int) -> Any:
        searched.append(len(new))
        return match(base, new, block_size=block_size)

    monkeypatch.setattr(export_delta, "match", counted)
    assert game.check(0, 1).literal_bytes == 20 * MIB  # the old one has no zeros to copy
    assert len(searched) <= 2
    assert game.check(1, 0).delta_bytes < 100


def _pieces(repository: Repository, point: Point) -> list[bytes]:
    from ibtfs.store.trees.paths import content_pieces

    return list(content_pieces(repository, find_entry(repository, point, b"file")))


# Maps against maps


def test_bytes_that_are_used_twice_are_found_where_the_copy_goes_on() -> None:
    a, zeros = ("a", 0), None
    old = [Segment(a, 0, 100), Segment(zeros, 0, 50), Segment(a, 40, 60), Segment(a, 0, 10)]  # type: ignore[arg-type]
    places = Places(old, 220)
    assert list(joined(places.matches(old))) == [(0, 0, 220)]
    inner = [Segment(a, 30, 20)]  # type: ignore[arg-type]
    assert list(places.matches(inner)) == [(30, 0, 20)]
    beyond = [Segment(a, 90, 20), Segment(("b", 0), 0, 5)]  # type: ignore[arg-type]
    assert list(joined(places.matches(beyond))) == [(90, 0, 10), (LITERAL, 10, 15)]


def test_short_copies_join_the_literals_beside_them() -> None:
    matches = [(LITERAL, 0, 10), (50, 10, 3), (LITERAL, 13, 7), (0, 20, 8), (8, 28, 8)]
    assert list(worthwhile(matches)) == [(LITERAL, 0, 20), (0, 20, 16)]
