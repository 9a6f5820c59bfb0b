"""``ibtfs delta export``: ``rdiff patch`` makes of it the file that was backed up."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import back_up, create, reopened, the_point
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st
from support.trees import Sparse, make_tree

from ibtfs.actions.backup import entry as store_file
from ibtfs.actions.deltas import export as export_delta
from ibtfs.actions.deltas.export import DeltaExport, Side
from ibtfs.actions.source import filesystems
from ibtfs.cli.main import cli
from ibtfs.format.point import Point
from ibtfs.format.rdelta import LITERAL, apply_delta, parse_delta
from ibtfs.store.contents.overlap import Places, joined, worthwhile
from ibtfs.store.contents.reader import Contents, Segment
from ibtfs.store.repository import Repository
from ibtfs.store.trees.paths import find_entry
from ibtfs.store.writing import flatten

KIB, MIB = 1 << 10, 1 << 20
EXAMPLES = 20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def version(repository: Repository, point: Point, path: bytes = b"file") -> Side:
    entry = find_entry(repository, point, path)
    return Side(entry.content, entry.size)


def exported(repository: Repository, old: Point, new: Point) -> tuple[bytes, DeltaExport]:
    """The delta, by a repository opened anew, and what was counted."""
    repo = reopened(repository)
    export = DeltaExport(repo, version(repo, old), version(repo, new))
    delta = b"".join(bytes(piece) for piece in export.pieces())
    assert export.delta_bytes == len(delta)
    copied = sum(n for place, _, n in parse_delta(delta) if place != LITERAL)
    literal = sum(n for place, _, n in parse_delta(delta) if place == LITERAL)
    assert (export.copied_bytes, export.literal_bytes) == (copied, literal)
    return delta, export


def patched(place: Path, old: bytes, delta: bytes) -> bytes:
    """What Debian's rdiff makes of *old*."""
    (place / "old").write_bytes(old)
    (place / "delta").write_bytes(delta)
    subprocess.run(["rdiff", "--force", "patch", "old", "delta", "new"], cwd=place, check=True)
    return (place / "new").read_bytes()


class Generations:
    """A repository with versions of one file: their bytes, and their points."""

    def __init__(self, place: Path) -> None:
        self.place, self.source = place, place / "source"
        self.source.mkdir(parents=True)
        self.repository = create(place / "repository")
        self.data: list[bytes] = []
        self.points: list[Point] = []

    def add(self, data: bytes, **options: Any) -> None:
        """Back up *data* as the next version; long zeros as holes."""
        (self.source / "file").unlink(missing_ok=True)
        with (self.source / "file").open("wb") as file:
            for start in range(0, len(data), 4096):
                piece = data[start : start + 4096]
                if piece.strip(b"\0"):
                    file.seek(start)
                    file.write(piece)
            file.truncate(len(data))
        self.data.append(data)
        self.points.append(the_point(back_up(self.repository, self.source, **options)))

    def check(self, old: int, new: int) -> DeltaExport:
        delta, export = exported(self.repository, self.points[old], self.points[new])
        assert patched(self.place, self.data[old], delta) == self.data[new], (old, new)
        assert apply_delta(self.data[old], delta) == self.data[new]
        return export


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


# The command


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, [os.fsdecode(os.fsencode(str(word))) for word in words])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


@pytest.fixture
def three(tmp_path: Path) -> Generations:
    """The file is not in the second point."""
    game = Generations(tmp_path)
    game.add(bytes(range(256)) * 100)
    (game.source / "file").unlink()
    back_up(game.repository, game.source)
    game.add(bytes(range(256)) * 99 + b"end")
    return game


def test_the_command_takes_the_newest_point_before_that_has_the_file(three: Generations) -> None:
    out = three.place / "out"
    arguments = ("delta", "export", three.place / "repository", "latest", "file")
    answer = json.loads(run(*arguments, out, "--json").stdout)
    assert answer["against"]["id"] == three.points[0].id
    assert answer["id"] == three.points[1].id
    assert answer["bytes"] == answer["bytes_copied"] + answer["bytes_literal"] == 25347
    assert answer["bytes_against"] == 25600
    assert answer["bytes_delta"] == out.stat().st_size
    assert patched(three.place, three.data[0], out.read_bytes()) == three.data[1]
    assert run(*arguments, "-").stdout_bytes == out.read_bytes()
    absolute = (*arguments[:4], three.source / "file", "-", "--against", three.points[0].id)
    assert run(*absolute).stdout_bytes == out.read_bytes()


def test_an_existing_file_is_not_replaced_unasked(three: Generations) -> None:
    out = three.place / "out"
    out.write_text("mine")
    arguments = ("delta", "export", three.place / "repository", "latest", "file")
    assert "say --force" in run(*arguments, out, code=2).stderr
    assert out.read_text() == "mine"
    assert run(*arguments, out, "--force").stdout.startswith(f"Wrote {out}: ")
    assert out.read_bytes().startswith(b"rs\x026")
    assert "not a file" in run(*arguments, "/dev/null", "--force", code=2).stderr
    assert "not a file" in run(*arguments, three.place, "--force", code=2).stderr
    assert "cannot be both" in run(*arguments, "-", "--json", code=2).stdout
    missing = run(*arguments, three.place / "no" / "out", code=1).stderr
    assert "No such file or directory" in missing
    assert [name for name in os.listdir(three.place) if name.endswith(".part")] == []


def test_what_has_no_older_version_says_what_to_do(three: Generations) -> None:
    repository = three.place / "repository"
    first = three.points[0].id
    assert "say --against" in run("delta", "export", repository, first, "file", "-", code=1).stderr
    assert "No such path" in run("delta", "export", repository, "latest", "x", "-", code=1).stderr
    assert "not a regular file" in run(
        "delta", "export", repository, "latest", "", "-", code=1
    ).stderr  # fmt: skip


def test_damage_leaves_no_file(tmp_path: Path) -> None:
    game = Generations(tmp_path)
    game.add(random.Random(6).randbytes(300_000))
    game.add(random.Random(7).randbytes(300_000))
    for data in (tmp_path / "repository" / "archives").glob("*/data.1"):
        raw = bytearray(data.read_bytes())
        raw[1000] ^= 1
        data.write_bytes(raw)
    arguments = ("delta", "export", tmp_path / "repository", "latest", "file", tmp_path / "out")
    error = run(*arguments, code=1).stderr
    assert "'file'" in error
    assert game.points[1].id in error
    assert not (tmp_path / "out").exists()
    assert [name for name in os.listdir(tmp_path) if name.endswith(".part")] == []
