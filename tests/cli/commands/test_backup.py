"""``ibtfs backup``: what it does, says and stores."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ODD, run, run_json


def test_source_inside_the_repository(repo: Path) -> None:
    assert "inside the repository" in run("backup", repo / "points", repo, code=2).stderr


def test_dry_run_without_a_repository(tmp_path: Path, source: Path) -> None:
    result = run("backup", "-n", source, tmp_path / "repo", code=10)
    assert "first backup would" in result.stderr
    assert not (tmp_path / "repo").exists()


def test_parent_of_the_repository_must_exist(tmp_path: Path, source: Path) -> None:
    assert "unplugged" in run("backup", source, tmp_path / "disk" / "repo", code=1).stderr


def test_repository_in_a_folder_that_is_not_empty(tmp_path: Path, source: Path) -> None:
    assert "not empty" in run("backup", source, source / "sub", code=1).stderr


def test_missing_source_makes_no_repository(tmp_path: Path) -> None:
    assert "no such file" in run("backup", tmp_path / "x", tmp_path / "repo", code=1).stderr
    assert not (tmp_path / "repo").exists()


def test_missing_source_does_not_stop_the_others(tmp_path: Path, source: Path) -> None:
    repo = tmp_path / "repo"
    answer = run_json("backup", tmp_path / "x", source, repo, code=1)
    assert [point["source"] for point in answer["points"]] == ["documents"]
    assert answer["errors"][0]["path"] == str(tmp_path / "x")
    assert answer["created"] is True


def test_backup_makes_the_repository_and_says_so(tmp_path: Path, source: Path) -> None:
    shown = run("backup", source, tmp_path / "repo").stdout
    assert f"Made the unsealed repository {tmp_path / 'repo'}" in shown
    assert re.search(r"4 new, 0 changed, 0 unchanged, 0 gone", shown)
    assert re.search(r"read, .* stored, in ", shown)
    look = re.search(r"ibtfs (ls .*)", shown)
    assert look is not None
    assert "a.txt" in run(*look[1].split()).stdout
    assert (tmp_path / "cache" / "ibtfs" / "CACHEDIR.TAG").exists()


def test_backup_json(repo: Path, source: Path) -> None:
    (source / "a.txt").unlink()
    answer = run_json("backup", source, repo)
    (point,) = answer["points"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d{6}(-[0-9a-f]{6})?", point["name"])
    assert [point[key] for key in ("files", "new", "gone")] == [4, 0, 1]
    assert point["changed"] + point["unchanged"] == 4  # a racily clean file is read again
    assert point["source"] == "documents"
    assert point["problems"] == []
    assert point["full"] is answer["created"] is False
    assert {"bytes_read", "bytes_stored", "seconds", "id", "path"} <= point.keys()


def test_dry_run_stores_nothing(repo: Path, source: Path) -> None:
    (source / "another").write_bytes(b"x")
    before = sorted(path for path in repo.rglob("*") if path.is_file())
    (point,) = run_json("backup", "--dry-run", source, repo)["points"]
    assert (point["id"], point["new"]) == (None, 1)
    assert sorted(path for path in repo.rglob("*") if path.is_file()) == before
    assert "dry run" in run("backup", "-n", source, repo).stdout


def test_quiet_and_verbose(repo: Path, source: Path) -> None:
    (source / "more.txt").write_bytes(b"x")
    assert "new       more.txt" in run("backup", "--verbose", source, repo).stdout
    (source / os.fsdecode(b"2" + ODD)).write_bytes(b"x")
    assert "new       2odd \\xff\\n\\e[31m\n" in run("backup", "-v", source, repo).stdout
    quiet = run("backup", "--quiet", source, repo)
    assert (quiet.stdout, quiet.stderr) == ("", "")


def test_some_files_missed(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a real unreadable file needs somebody who is not root
    real = os.open

    def guarded(path: Any, *words: Any, **options: Any) -> int:
        if path in (b"a.txt", "a.txt"):
            raise PermissionError(13, "Permission denied")
        return real(path, *words, **options)

    monkeypatch.setattr(os, "open", guarded)
    (point,) = run_json("backup", source, tmp_path / "repo", code=3)["points"]
    assert point["problem_count"] == 1
    assert [problem["path"] for problem in point["problems"]] == ["a.txt"]
    told = run("backup", "--reread", source, tmp_path / "repo", code=3).stderr
    assert f"ibtfs: {source}/a.txt: " in told


def test_what_is_left_out(tmp_path: Path, source: Path) -> None:
    for folder in ("cached", "marked"):
        (source / folder).mkdir()
        (source / folder / "inside").write_bytes(b"x")
    tag = b"Signature: 8a477f597d28d172789f06886806bc55"
    (source / "cached" / "CACHEDIR.TAG").write_bytes(tag)
    (source / "marked" / ".nobackup").touch()
    (source / "large").write_bytes(bytes(3 << 10))
    (tmp_path / "patterns").write_bytes(b"# mine\nodd*\n")
    run(
        "backup", "--exclude", "/a.txt", "--exclude-from", tmp_path / "patterns",
        "--exclude-caches", "--exclude-if-present", ".nobackup", "--exclude-larger-than", "2K",
        source, tmp_path / "repo",
    )  # fmt: skip
    rows = run_json("ls", "-R", tmp_path / "repo", "latest")["entries"]
    assert [row["path"] for row in rows] == [
        "cached", "cached/CACHEDIR.TAG", "link", "marked", "marked/.nobackup", "sub"
    ]  # fmt: skip


def test_exclude_file_of_the_source_is_mentioned(tmp_path: Path, source: Path) -> None:
    (source / ".exclude").write_bytes(b"sub/\n")
    result = run("backup", source, tmp_path / "repo")
    assert ".exclude" in result.stderr
    assert run("ls", tmp_path / "repo", "latest", "a.txt").stdout == "a.txt\n"
    assert "sub" not in run("ls", tmp_path / "repo", "latest").stdout
    (point,) = run_json("backup", source, tmp_path / "repo")["points"]
    assert len(point["notes"]) == 1


def test_standard_input(tmp_path: Path) -> None:
    words = ("backup", "--stdin-name", "shop.sql", tmp_path / "repo")
    assert run_json(*words, stdin=b"one")["points"][0]["source"] == "shop.sql"
    run(*words, stdin=b"one two")
    assert run("cat", tmp_path / "repo", "latest~1", "shop.sql").stdout == "one"
    assert run("cat", tmp_path / "repo", "latest", "/shop.sql").stdout == "one two"


@pytest.mark.parametrize(
    ("bad", "code"), [(b"[[:digit:]]x\n", 2), (None, 1)], ids=["a wrong pattern", "6 GiB"]
)
def test_a_bad_exclude_file_costs_its_own_source_alone(
    tmp_path: Path, source: Path, bad: bytes | None, code: int
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with (other / ".exclude").open("wb") as file:
        file.write(bad or b"")
        if bad is None:
            file.truncate(6 << 30)
    result = run("backup", other, source, tmp_path / "repo2", code=code)
    assert ".exclude" in result.stderr
    assert [point["source"] for point in run_json("list", tmp_path / "repo2")["points"]] == [
        "documents"
    ]


def test_json_tells_of_points_that_are_damaged(repo: Path, source: Path) -> None:
    newest = run_json("list", repo)["points"][-1]["id"]
    manifest = repo / "points" / newest
    manifest.write_bytes(manifest.read_bytes()[:-1])
    assert [one["id"] for one in run_json("backup", source, repo)["damaged"]] == [newest]
