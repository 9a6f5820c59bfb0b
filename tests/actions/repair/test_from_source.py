"""Repair from the source: what files still are is put back, what hangs on it too."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from ibtfs.store.repository import Repository
from tests.support import Entry, snapshot
from tests.support.crashing import cut_at_each_step
from tests.support.damage import lowered
from tests.support.protecting import files_of, repaired
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import (
    back_up,
    create,
    damages,
    put_back,
    reopened,
    restored_tree,
    the_point,
)
from tests.support.trees import make_tree

pytestmark = pytest.mark.damaged


def archive_files(repository: Repository, kind: str) -> list[Path]:
    return sorted(Path(os.fsdecode(repository.path), "archives").glob(f"*/{kind}.*"))


def spoil(path: Path, at: int, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(os.urandom(size))


def tree_of(repository: Repository, point_id: str, path: Path) -> dict[bytes, Entry]:
    point = reopened(repository).points.get(point_id)
    return restored_tree(repository, point, path / "restored")


@pytest.mark.parametrize("damage", ["spoilt", "lost", "no table"])
def test_what_the_source_still_has_is_put_back(fast_path: Path, damage: str) -> None:
    source = fast_path / "source"
    source.mkdir()
    make_tree(source, {f"n{number}": os.urandom(9000) for number in range(300)})
    make_tree(source, {"large": os.urandom(3_000_000)})
    repository = create(fast_path / "repository")
    point = the_point(back_up(repository, source))
    expected = snapshot(source)
    (data,) = archive_files(repository, "data")
    if damage == "spoilt":
        for at in range(0, data.stat().st_size - 5000, 300_000):
            spoil(data, at, 1)
    elif damage == "lost":
        data.unlink()
    else:
        spoil(data, data.stat().st_size - 80, 80)
    before = files_of(repository)
    assert "put back from" in "".join(repaired(repository, dry_run=True).healed.values())
    assert {n: d for n, d in files_of(repository).items() if "damaged/" not in n} == before
    result = repaired(repository)
    assert result.left is not None
    assert result.left.damages == []
    assert result.healed
    assert_whole(repository)
    assert tree_of(repository, point.id, fast_path) == expected
    assert reopened(repository).damage.contents() == frozenset()
    assert [path.name for path in archive_files(repository, "data")] == ["data.2"]


def test_what_the_source_has_no_more_is_lost_and_nothing_else(fast_path: Path) -> None:
    source = fast_path / "source"
    source.mkdir()
    make_tree(source, {f"n{number}": os.urandom(9000) for number in range(30)})
    repository = create(fast_path / "repository")
    point = the_point(back_up(repository, source))
    expected = snapshot(source)
    (data,) = archive_files(repository, "data")
    spoil(data, 1000, 1)  # all of them are in one frame
    (source / "n3").unlink()
    (source / "n7").write_bytes(b"another")
    result = repaired(repository)
    assert result.left is not None
    lost = {path for damage in result.left.damages for path in damage.paths}
    assert lost == {b"n3", b"n7"}
    assert len(result.healed) == 28
    recorder = put_back(repository, point, fast_path / "back")
    assert {path for path, _ in recorder.problems} == {b"n3", b"n7"}
    back = snapshot(fast_path / "back")
    assert all(back[path] == expected[path] for path in back if path.startswith(b"n"))
    assert len(reopened(repository).damage.contents()) == 2
    again = repaired(repository)
    assert again.healed == {}


@pytest.mark.parametrize("which", ["oldest", "newest", "all"])
def test_versions_of_a_file_whose_newest_is_there(fast_path: Path, which: str) -> None:
    """What the older ones share with the newest comes back with it; they are whole or lost."""
    rng = random.Random(5)
    source = fast_path / "source"
    source.mkdir()
    repository = create(fast_path / "repository")
    large, log, points, trees = bytearray(rng.randbytes(400_000)), b"", [], []
    with lowered():
        for generation in range(6):
            at = rng.randrange(len(large) - 3000)
            large[at : at + 3000] = rng.randbytes(3000)
            log += rng.randbytes(2000)
            (source / "large").write_bytes(large)
            (source / "log").write_bytes(log)
            (source / f"new{generation}").write_bytes(rng.randbytes(5000))
            points.append(the_point(back_up(repository, source)).id)
            trees.append(snapshot(source))
    files = [*archive_files(repository, "data")]
    chosen = {"oldest": files[:3], "newest": files[-2:], "all": files}[which]
    for path in chosen:
        for at in range(0, path.stat().st_size - 200, 20_000):
            spoil(path, at, 1)
    result = repaired(repository)
    assert result.left is not None
    told = {(p, path) for one in result.left.damages for p in one.points for path in one.paths}
    assert not [one for one in told if one[0] == points[-1]]
    for point_id, tree in zip(points, trees):
        point = reopened(repository).points.get(point_id)
        place = fast_path / "back"
        recorder = put_back(repository, point, place)
        assert {path for path, _ in recorder.problems} == {p for i, p in told if i == point_id}
        back = snapshot(place)
        shutil.rmtree(place)
        for path, entry in tree.items():
            if path and (point_id, path) not in told:
                assert back[path] == entry
    forget(repository, points[:-1])
    pruned(repository)
    assert damages(repository) == []
    assert_whole(repository)
    assert tree_of(repository, points[-1], fast_path) == trees[-1]


def test_a_damaged_index_is_told_and_the_rest_is_healed(fast_path: Path) -> None:
    source = fast_path / "source"
    source.mkdir()
    repository = create(fast_path / "repository")
    make_tree(source, {"first": os.urandom(200_000)})
    one = the_point(back_up(repository, source)).state.archive
    make_tree(source, {"second": os.urandom(200_000)})
    other = the_point(back_up(repository, source)).state.archive
    archives = Path(os.fsdecode(repository.path), "archives")
    first, second = archives / one / "index.1", archives / other / "index.1"
    spoil(second, 10, 400)
    spoil(first.with_name("data.1"), 1000, 1)
    result = repaired(repository)
    assert result.left is not None
    assert any("index" in damage.object or "index" in damage.message for damage in
               result.left.damages)  # fmt: skip
    assert any("first" in done for done in result.healed.values())


def test_a_repair_that_is_cut_off_at_any_step_goes_on(fast_path: Path) -> None:
    rng = random.Random(8)
    source = fast_path / "source"
    source.mkdir()
    repository = create(fast_path / "repository")
    large = bytearray(rng.randbytes(300_000))
    with lowered():
        for number in range(3):
            large[number * 5000 : number * 5000 + 3000] = rng.randbytes(3000)
            (source / "large").write_bytes(large)
            make_tree(source, {f"n{number}": rng.randbytes(5000)})
            last = the_point(back_up(repository, source)).id
    expected = snapshot(source)
    for path in archive_files(repository, "data"):
        for at in range(0, path.stat().st_size - 200, 20_000):
            spoil(path, at, 1)
    root = Path(os.fsdecode(repository.path))
    lost = None
    for _ in cut_at_each_step(root, lambda: repaired(repository), least=20):
        left = repaired(repository).left
        assert left is not None
        found = {(p, x) for one in left.damages for p in one.points for x in one.paths}
        lost = found if lost is None else lost
        assert found == lost
        assert tree_of(repository, last, fast_path) == expected
