"""Deep trees: a bounded number of folders is open, whatever their depth."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.actions.backup import tree as backup_tree
from ibtfs.actions.backup.folder import Folder
from ibtfs.store.repository import Repository
from ibtfs.store.trees import trail
from tests.support import CHECKOUT, snapshot
from tests.support.repositories import Backup, assert_comes_back, damages, put_back, the_point
from tests.support.trees import make_tree

DEPTH = 1015


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A chain of folders, deeper than a process may have files open by default."""
    top = tmp_path / "deep"
    top.mkdir()
    folder = os.open(top, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    with open(os.open("large", os.O_WRONLY | os.O_CREAT, dir_fd=folder), "wb") as file:
        file.write(os.urandom(5 << 20))
    os.close(folder)
    yield top
    subprocess.run(["rm", "-rf", str(top)], check=True)


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))


def test_what_lies_too_deep_is_told_and_the_rest_is_whole(
    repository: Repository, backup_of: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "DEPTH_LIMIT", 6)
    source = tmp_path / "source"
    make_tree(source, {"d": {"d": {"d": {"d": {"d": {"d": {"d": {"file": b"1"}}}}}}}, "e": b"2"})
    (source / "d/d/d/d/d/f").write_bytes(b"3")
    result = backup_of(source)
    ((path, message),) = result.tally.problems
    assert (path, message) == (b"d/d/d/d/d/d", "lies too deep: no backup can hold what is in it")
    assert damages(repository) == []
    recorder = put_back(repository, the_point(result), tmp_path / "back")
    assert recorder.problems == []
    assert (tmp_path / "back/d/d/d/d/d/f").read_bytes() == b"3"
    assert os.listdir(tmp_path / "back/d/d/d/d/d/d") == []


def test_a_chain_of_a_thousand_folders_beside_others(tmp_path: Path, deep: Path) -> None:
    make_tree(tmp_path / "source", {"beside": {"a": b"1"}, "z": b"2"})
    os.rename(deep, tmp_path / "source" / "deep")
    (tmp_path / "deep").symlink_to(tmp_path / "source" / "deep")
    command = [sys.executable, "-m", "ibtfs", "backup", "--quiet"]
    done = subprocess.run(
        [*command, str(tmp_path / "source"), str(tmp_path / "repository")], cwd=CHECKOUT,
        capture_output=True, text=True, check=False, preexec_fn=limited,
    )  # fmt: skip
    os.rename(tmp_path / "source" / "deep", tmp_path / "kept")
    (tmp_path / "deep").unlink()
    os.rename(tmp_path / "kept", deep)
    assert (done.returncode, done.stderr) == (0, "")
    (point,) = Repository.open(os.fsencode(tmp_path / "repository")).points.all().points
    assert point.statistics["folders"] == DEPTH + 2
    assert point.statistics["files"] == 3


@pytest.mark.parametrize("most", [1, 2, 5])
def test_what_is_closed_on_the_way_down_is_opened_on_the_way_up(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, most: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(backup_tree, "OPEN_FOLDERS", most)
    chain = {"f": b"deepest"}
    for number in range(12):
        chain = {"a": b"%d" % number, "d": chain, "e": {"g": b"%d" % number}}  # type: ignore[dict-item]
    make_tree(source, chain)
    before = len(os.listdir("/proc/self/fd"))
    point = the_point(backup_of(source))
    assert len(os.listdir("/proc/self/fd")) <= before
    assert_comes_back(repository, point, snapshot(source), tmp_path)
    (source / "d/d/d/e/g").write_bytes(b"changed")
    assert_comes_back(repository, the_point(backup_of(source)), snapshot(source), tmp_path)


def test_a_folder_that_moves_while_its_inside_is_backed_up(
    source: Path, backup_of: Backup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_tree(source, {"a": {"b": {"c": {"d": {"f": b"1"}}, "z": {"g": b"2"}}, "y": {"h": b"3"}}})
    the_point(backup_of(source))
    (source / "a/b/z/g").write_bytes(b"not the same any more")
    (source / "a/b/c/d/f").write_bytes(b"nor this")
    monkeypatch.setattr(backup_tree, "OPEN_FOLDERS", 1)
    real = Folder.reopen

    def reopen(folder: Folder, child: Folder) -> None:
        if folder.place.path == b"a/b":
            os.rename(source / "a/b/c", tmp_path / "elsewhere")
        real(folder, child)

    monkeypatch.setattr(Folder, "reopen", reopen)
    before = len(os.listdir("/proc/self/fd"))
    result = backup_of(source)
    assert len(os.listdir("/proc/self/fd")) <= before
    assert [path for path, _ in result.tally.problems] == [b"a/b/z", b"a/y"]
    assert result.tally.counts["changed"] == 1  # what was read before
    monkeypatch.undo()
    counts = the_point(backup_of(source)).statistics
    assert (counts["changed"], counts["gone"], counts["files"]) == (1, 1, 2)
