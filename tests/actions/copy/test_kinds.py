"""Every kind of file, and every kind of source, is the same in a copy."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.actions.copy import work
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from tests.support import differences, snapshot
from tests.support.copying import assert_same_point, copied_well, holes_of
from tests.support.mounts import mounted
from tests.support.removal import assert_whole
from tests.support.repositories import (
    Backup,
    assert_comes_back,
    back_up,
    create,
    reopened,
    row,
    settle,
    the_point,
)
from tests.support.trees import File, Sparse, make_tree, nasty_tree

MIB = 1 << 20


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Repository]:
    made = create(tmp_path / "target")
    yield made
    assert_whole(made)


@pytest.fixture(params=[True, False], ids=["by digest", "by bytes"])
def alike(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(work, "same_digests", lambda *_: request.param)
    return bool(request.param)


@pytest.mark.usefixtures("alike")
def test_the_worst_tree_that_we_know(
    source: Path, repository: Repository, target: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    assert nasty_tree(source / "nasty") == []
    trees = []
    points: list[Point] = []
    for _ in range(2):
        points.append(the_point(backup_of(source, tags=("worst",), comment="ä")))
        trees.append(snapshot(source))
        (source / "nasty" / "another").write_bytes(b"x")
    copied_well(repository, target)
    for point, tree in zip(points, trees):
        assert_same_point(repository, target, point.id)
        mine = reopened(target).points.get(point.id)
        assert_comes_back(target, mine, tree, tmp_path)
    with mounted(target, tmp_path / "mnt") as mount:
        shown = sorted(name for name in os.listdir(mount / "source") if name != "latest")
        found = snapshot(mount / "source" / shown[0])
        assert differences(trees[0], found, also=("blocks", "directory_size")) == []


@pytest.mark.usefixtures("alike")
def test_large_files_stay_deltas_with_their_holes(
    source: Path, repository: Repository, target: Repository, backup_of: Backup
) -> None:
    rng = random.Random(1)
    noise = bytearray(rng.randbytes(9 * MIB))
    make_tree(source, {
        "sparse": Sparse(64 * MIB, {0: b"a" * 5000, 20 * MIB + 7: rng.randbytes(300_000)}),
        "small and sparse": Sparse(300_000, {100_000: b"b" * 5000}), "all hole": Sparse(40 * MIB),
    })  # fmt: skip
    points = []
    for number in range(4):
        noise[number * MIB : number * MIB + 5000] = rng.randbytes(5000)
        (source / "noise").write_bytes(noise)
        with (source / "sparse").open("r+b") as file:
            file.seek((30 + number) * MIB + 100)
            file.write(rng.randbytes(700))
        points.append(the_point(backup_of(source)))
    result = copied_well(repository, target)
    for point, one in zip(points, result.copied):
        assert_same_point(repository, target, point.id)
        mine = reopened(target).points.get(point.id)
        assert holes_of(reopened(target), mine) == holes_of(reopened(repository), point)
        if point is not points[0]:
            assert one.tally.counts["bytes_stored"] < 40_000
    for name in (b"noise", b"sparse"):
        ref = row(target, reopened(target).points.get(points[3].id), name).content
        assert ref is not None
        assert reopened(target).archive(ref.archive).content(ref.number).depth == 3


@pytest.mark.usefixtures("alike")
def test_single_files_streams_and_named_sources(
    source: Path, repository: Repository, target: Repository, backup_of: Backup
) -> None:
    make_tree(source, {"one": File(b"x" * 1000, xattrs={"user.big": b"y" * 2000})})
    points = [
        the_point(backup_of(source / "one")),
        the_point(backup_of(b"/dump", stdin_name=b"dump", stream=io.BytesIO(b"z" * 5 * MIB))),
        the_point(backup_of(source, name="by name", host="another")),
        the_point(backup_of(source, name="by name", host="another", full=True)),
    ]
    copied_well(repository, target)
    for point in points:
        assert_same_point(repository, target, point.id)
    assert reopened(target).points.get(points[3].id).epoch == 1


def test_what_is_unchanged_is_neither_read_nor_written(
    source: Path, repository: Repository, target: Repository, backup_of: Backup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(work, "same_digests", lambda *_: False)
    make_tree(source, {f"d{n}": {f"f{m}": b"%d %d" % (n, m) * 50 for m in range(30)}
                       for n in range(20)})  # fmt: skip
    settle()
    backup_of(source)
    copied_well(repository, target)
    (source / "d3" / "f7").write_bytes(b"new")
    os.rename(source / "d4" / "f1", source / "d4" / "moved")
    backup_of(source)
    [one] = copied_well(repository, target).copied
    assert one.tally.counts["bytes_read"] == 3 + len(b"4 1" * 50)
    assert one.tally.counts["bytes_added"] == 3
    assert one.tally.counts["entries"] == 2


def test_what_another_source_has_by_digest_is_not_read(
    source: Path, repository: Repository, target: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    make_tree(source, {"a": b"x" * 100_000, "b": random.Random(1).randbytes(5 * MIB)})
    other = create(tmp_path / "other")
    backup_of(source)
    copied_well(repository, target)
    point = the_point(back_up(other, source, host="elsewhere"))
    [one] = copied_well(other, target).copied
    assert one.tally.counts["bytes_read"] == 0
    assert_same_point(other, target, point.id)
