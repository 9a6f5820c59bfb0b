"""`ibtfs diff` and `ibtfs versions`: between points, and with what is there now."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtfs.actions.compare_live import LiveComparison
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.compare import Comparison, PathChange
from ibtfs.store.trees.paths import root_entry
from ibtfs.view.tree import RepositoryView
from tests.support.commands import run, run_json
from tests.support.random_source import RandomSource
from tests.support.repositories import back_up, create, on_disk, the_point


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    (folder / "sub").mkdir(parents=True)
    for name in ("edited", "gone", "quiet", "sub/old", "turned"):
        (folder / name).write_bytes(b"first")
    (folder / "link").symlink_to("edited")
    return folder


@pytest.fixture
def repo(tmp_path: Path, source: Path) -> Path:
    """A repository with one point, and a source that has changed since."""
    path = tmp_path / "repo"
    run("backup", source, path)
    time.sleep(0.01)  # so that times show the changes
    (source / "edited").write_bytes(b"second, longer")
    (source / "gone").unlink()
    (source / "new").mkdir()
    (source / "new" / "inside").write_bytes(b"")
    quiet = os.stat(source / "quiet")
    (source / "quiet").write_bytes(b"FIRST")
    os.utime(source / "quiet", ns=(quiet.st_atime_ns, quiet.st_mtime_ns))
    (source / "sub").chmod(0o700)
    (source / "sub" / "old").chmod(0o600)
    (source / "turned").unlink()
    (source / "turned").mkdir()
    (source / "link").unlink()
    (source / "link").symlink_to("quiet")
    return path


CHANGES = """\
~ edited  (contents, mtime)
- gone
~ link  (target, mtime)
+ new/
+ new/inside
~ quiet  (contents)
~ sub/  (mode)
~ sub/old  (mode)
- turned
+ turned/
"""


def test_diff_with_now_and_between_points(repo: Path, source: Path) -> None:
    told = CHANGES + "3 created, 5 updated, 2 deleted\n"
    assert run("diff", repo, "latest").stdout == told
    run("backup", source, repo)
    assert run("diff", repo, "latest").stdout == "0 created, 0 updated, 0 deleted\n"
    assert run("diff", repo, "latest~1", "latest").stdout == told
    back = run("diff", repo, "latest", "latest~1").stdout
    assert back.endswith("\n2 created, 5 updated, 3 deleted\n")


def test_diff_as_json(repo: Path, source: Path) -> None:
    answer = run_json("diff", repo, "latest")
    assert {key: answer[key] for key in ("created", "updated", "deleted", "problems")} == {
        "created": 3, "updated": 5, "deleted": 2, "problems": []
    }  # fmt: skip
    assert answer["to"] == {"path": str(source)}
    row = answer["changes"][0]
    assert row == {
        "path": "edited", "change": "updated", "what": ["contents", "mtime"], "folder": False,
        "old_size": 5, "new_size": 14,
    }  # fmt: skip
    run("backup", source, repo)
    stored = run_json("diff", repo, "latest~1", "latest")
    assert stored["changes"] == [
        {**row, "new_size": other["new_size"], "old_size": other["old_size"]}
        for row, other in zip(answer["changes"], stored["changes"])
    ]


def test_diff_with_a_source_that_moved_and_what_is_left_out(repo: Path, source: Path) -> None:
    moved = source.rename(source.with_name("moved"))
    assert "--source-path" in run("diff", repo, "latest", code=1).stderr
    (moved / ".exclude").write_bytes(b"new/\n.exclude\n")
    shown = run("diff", repo, "latest", "--source-path", moved, "--exclude", "turned").stdout
    assert "new" not in shown
    assert "turned" not in shown
    assert "~ edited" in shown
    told = run("diff", repo, "latest", "latest", "--source-path", moved, code=2).stderr
    assert "--source-path" in told


def test_diff_of_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "alone").write_bytes(b"1")
    run("backup", tmp_path / "alone", tmp_path / "repo")
    assert run("diff", tmp_path / "repo", "latest").stdout.startswith("0 created, 0 updated")
    (tmp_path / "alone").write_bytes(b"22")
    assert run("diff", tmp_path / "repo", "latest").stdout.startswith("~ alone  (contents, mtime)")
    (tmp_path / "alone").unlink()
    assert "alone" in run("diff", tmp_path / "repo", "latest", code=1).stderr


def told(changes: list[PathChange]) -> set[tuple[Any, ...]]:
    assert all(found.error is None for found in changes)
    return {(found.path, found.change.kind, found.change.what) for found in changes}


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_now_differs_from_a_point_as_the_next_point_will(rng: random.Random) -> None:
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as place:
        repository = create(Path(place) / "repository")
        source = RandomSource(Path(place) / "source", rng)
        for _ in range(3):
            source.step()
            old = the_point(back_up(repository, source.path))
            source.step()
            live = told(list(LiveComparison(repository, old).changes(os.fsencode(source.path))))
            new = the_point(back_up(repository, source.path))
            comparison = Comparison(repository, Contents(repository))
            stored = list(comparison.tree_changes(root_entry(old), root_entry(new)))
            assert live == told(stored)


def test_versions(repo: Path, source: Path) -> None:
    run("backup", source, repo)
    run("backup", source, repo)
    lines = run("versions", repo, "edited").stdout.splitlines()
    assert [line.split()[3:] for line in lines[1:3]] == [
        ["5", "B", "1", "new"], ["14", "B", "2", "contents,", "mtime"]
    ]  # fmt: skip
    assert lines[3] == "2 versions, in the newest point, too"
    answer = run_json("versions", repo, source / "gone")
    (only,) = answer["versions"]
    points = run_json("list", repo)["points"]
    assert answer["gone_since"] == points[1]["name"]
    assert (only["name"], only["points"], only["size"]) == (points[0]["name"], 1, 5)
    assert [v["folder"] for v in run_json("versions", repo, "turned")["versions"]] == [False, True]
    changed = [v["changed"] for v in run_json("versions", repo, "sub")["versions"]]
    assert changed == [[], ["contents", "mode"]]
    assert "never" in run("versions", repo, "never", code=1).stderr


def test_versions_where_there_are_several_sources(repo: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "edited").write_bytes(b"x")
    run("backup", tmp_path / "photos", repo)
    told = run("versions", repo, "edited", code=2).stderr
    assert "--source" in told
    assert run_json("versions", repo, "edited", "--source", "photos")["versions"][0]["size"] == 1
    assert run_json("versions", repo, source / "edited")["source"] == "documents"
    assert "no-such" in run("versions", repo, "edited", "--source", "no-such", code=1).stderr


def test_damage_is_told_and_the_rest_shown(repo: Path, source: Path) -> None:
    run("backup", source, repo)
    opened = Repository.open(os.fsencode(repo))
    newest = opened.points.all().points[-1]
    index = Path(on_disk(opened.storage, f"archives/{newest.state.archive}/index.1"))
    index.write_bytes(index.read_bytes()[:-20])
    answer = run_json("versions", repo, "edited", code=1)
    assert [version.get("size") for version in answer["versions"]] == [5, None]
    assert "cannot be read" in run("versions", repo, "edited", code=1).stdout
    answer = run_json("diff", repo, "latest~1", "latest", code=1)
    assert [problem["path"] for problem in answer["problems"]] == [""]


def test_standard_input_has_versions_and_differences_too(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    for text in (b"one", b"three"):
        run("backup", "--stdin-name", "dump.sql", repo, stdin=text)
    versions = run_json("versions", repo, "dump.sql")["versions"]
    assert [version["size"] for version in versions] == [3, 5]
    shown = run("diff", repo, "latest~1", "latest").stdout
    assert shown == "~ dump.sql  (contents, mtime)\n0 created, 1 updated, 0 deleted\n"
    view = RepositoryView(Repository.open(os.fsencode(repo)))
    source = view.root.lookup(b"dump.sql")
    ((_, old), (_, new)) = source.lookup(b".versions").lookup(b"dump.sql").children()
    assert (old.read(0, 9), new.read(0, 9)) == (b"one", b"three")
    latest = source.lookup(b".changes").lookup(list(view.timeline(b"dump.sql").points)[1])
    assert [name for name, _ in latest.lookup(b"updated").children()] == [b"dump.sql"]
