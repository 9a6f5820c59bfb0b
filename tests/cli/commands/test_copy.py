"""``ibtfs copy``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.commands import run, run_json


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return tmp_path / "other"


def ids(repository: Path) -> list[str]:
    return [point["id"] for point in run_json("list", repository)["points"]]


def test_all_points_are_copied_and_the_repository_is_made(repo: Path, other: Path) -> None:
    told = run("copy", repo, other).stdout.splitlines()
    assert told[0] == f"Made the repository {other}"
    assert told[1].startswith(f"Copied documents {ids(repo)[0]}: ")
    assert told[-1] == "2 points copied, 0 there already"
    assert run("copy", repo, other).stdout == "0 points copied, 2 there already\n"
    assert run("copy", "-q", repo, other).stdout == ""
    mine, theirs = run_json("list", other)["points"], run_json("list", repo)["points"]
    assert mine == theirs
    for command in (("diff", "latest~1", "latest"), ("ls", "-l", "-R"), ("versions", "a.txt")):
        name, *words = command
        words = ["-l", "-R", "latest"] if name == "ls" else words
        at = 2 if name == "ls" else 0
        shown = [run(name, *words[:at], one, *words[at:]).stdout for one in (repo, other)]
        assert shown[0] == shown[1]
    assert run("check", "--read-data", other).stdout.startswith("No damage: 2 points")


def test_one_point_and_json(repo: Path, other: Path) -> None:
    answer = run_json("copy", repo, other, "latest")
    assert (answer["from"], answer["to"]) == (str(repo), str(other))
    [point] = answer["points"]
    assert point["id"] == point["copy"] == ids(repo)[1]
    assert answer["created"] is True
    again = run_json("copy", repo, other, "--tag", "old")
    assert [one["id"] for one in again["points"]] == [ids(repo)[0]]
    assert run_json("copy", repo, other)["already"] == ids(repo)
    assert run_json("copy", repo, other, "--source", "nothing", code=1)["error"]


def test_a_dry_run_copies_nothing(repo: Path, other: Path) -> None:
    told = run("copy", "-n", repo, other).stdout
    assert told.count("Would copy documents ") == 2
    assert not other.exists()
    run("init", other)
    told = run("copy", "--dry-run", repo, other).stdout
    assert told.count("Would copy documents ") == 2
    assert told.endswith("2 points to be copied, 0 there already\n")
    answer = run_json("copy", "--dry-run", repo, other)
    assert [one["id"] for one in answer["to_copy"]] == ids(repo)
    assert ids(other) == []


def test_points_that_were_removed_there_come_by_name(repo: Path, other: Path) -> None:
    run("copy", repo, other)
    first = ids(repo)[0]
    run("forget", "--prune", other, first)
    told = run("copy", repo, other).stdout
    assert told == ("0 points copied, 1 there already, 1 removed there on purpose, and copied only "
                    "if named\n")  # fmt: skip
    assert run_json("copy", repo, other)["declined"] == [first]
    run("copy", repo, other, first)
    assert ids(other) == ids(repo)


def test_a_mirror(repo: Path, other: Path, source: Path) -> None:
    run("copy", repo, other)
    run("backup", "--name", "own", source, other)
    first, last = ids(repo)
    run("forget", repo, first)
    run("tag", "add", repo, "new", last)
    told = run("copy", "--mirror", repo, other, code=2)
    assert "say --yes" in told.stderr
    assert f"Would remove documents {first}" in run("copy", "--mirror", "-n", repo, other).stdout
    assert run_json("copy", "--mirror", "-n", repo, other)["gone"][0]["id"] == first
    assert first in ids(other)
    answer = run_json("copy", "--mirror", "--yes", repo, other)
    assert [one["id"] for one in answer["removed"]] == [first]
    assert len(ids(other)) == 2
    assert run_json("list", other)["points"][0]["tags"] == ["new"]
    assert run("copy", "--mirror", repo, other).stdout == "0 points copied, 1 there already\n"
    run("check", other)


@pytest.mark.parametrize("place", ["repo", "other"])
def test_a_mirror_keeps_all_if_a_manifest_cannot_be_read(
    repo: Path, other: Path, source: Path, place: str
) -> None:
    run("copy", repo, other)
    (source / "a.txt").write_text("changed")
    run("backup", "--name", "own", source, other)
    [own] = set(ids(other)).difference(ids(repo))
    first, last = ids(repo)
    run("forget", repo, first)
    path = {"repo": repo / "points" / last, "other": other / "points" / own}[place]
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    told = run("copy", "--mirror", "--yes", repo, other, code=1).stderr
    assert f"Nothing is removed from TO: the manifest of {path.name} in" in told
    answer = run_json("copy", "--mirror", "--yes", repo, other, code=1)
    assert answer["removed"] == []
    assert path.name in answer["error"]
    path.write_bytes(data)
    assert set(ids(other)) == {first, last, own}
    answer = run_json("copy", "--mirror", "--yes", repo, other)
    assert [one["id"] for one in answer["removed"]] == [first]


def test_a_mirror_keeps_all_if_either_is_not_as_it_was_seen(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the storage of one may take a point away there, and no copy of it elsewhere."""
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    key = ("--key-file", tmp_path / "key")
    sealed, other = tmp_path / "sealed", tmp_path / "copy"
    for place in (sealed, other):
        run("init", *key, place)
    run("copy", *key, repo, sealed)
    run("copy", *key, sealed, other)
    run("tag", "add", *key, other, "mine", "latest")
    for place in (sealed, other):
        [taken, *_] = sorted((place / "points").iterdir())
        taken.rename(tmp_path / "taken")
        for words in ((), ("--dry-run",)):
            told = run("copy", "--mirror", "--yes", *words, *key, sealed, other, code=1)
            assert ("Nothing is removed from TO, for " in told.stderr) == (
                place is sealed or words != ()
            )
            assert "are missing that nobody removed" in told.stderr
            assert "Would remove" not in told.stdout
        (tmp_path / "taken").rename(taken)
        assert len(list((other / "points").iterdir())) == 2
    answer = run_json("list", *key, other)
    assert answer["points"][-1]["tags"] == ["mine"]
    run("forget", *key, sealed, "latest~1")
    answer = run_json("copy", "--mirror", "--yes", *key, sealed, other)
    assert len(answer["removed"]) == 1


def test_wrong_usage(repo: Path, other: Path, tmp_path: Path) -> None:
    run("init", tmp_path / "empty")
    run("init", other)
    for words, told in (
        ((repo, repo), "same repository"),
        ((repo, other, "latest", "--mirror"), "--mirror is for all points"),
        ((repo, other, "latest", "--tag", "x"), "not both"),
        ((tmp_path / "empty", other, "--mirror"), "no backup points"),
        ((repo, repo / "inside"), "lies inside"),
    ):
        assert told in run("copy", *words, code=2).stderr
    assert "No such repository" in run("copy", tmp_path / "none", other, code=10).stderr
    assert not (repo / "inside").exists()


def test_damage_is_told_and_mended_later(repo: Path, other: Path, tmp_path: Path) -> None:
    shutil.copytree(repo, tmp_path / "sound")
    [path, *_] = sorted(repo.glob("archives/*/data.1"))
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    result = run("copy", repo, other, code=3)
    assert "sub/b.bin" in result.stderr
    assert "the copy is incomplete" in result.stderr
    assert all("-incomplete-" in name for name in ids(other))
    answer = run_json("copy", repo, other, code=3)
    assert {one["path"] for one in answer["points"][0]["problems"]} >= {"sub/b.bin"}
    shutil.rmtree(repo)
    shutil.copytree(tmp_path / "sound", repo)
    run("copy", repo, other)
    assert ids(other) == ids(repo)
    assert sorted(os.listdir(other / "points")) == sorted(os.listdir(repo / "points"))


def test_what_was_purged_there_does_not_come_back(repo: Path, other: Path) -> None:
    run("copy", repo, other)
    run("purge", "--yes", other, "a.txt")
    after = ids(other)
    assert set(after).isdisjoint(ids(repo))
    assert run_json("copy", repo, other)["declined"] == ids(repo)
    assert run_json("copy", "--mirror", repo, other)["removed"] == []
    run("prune", other)
    assert run_json("copy", repo, other)["declined"] == ids(repo)
    assert ids(other) == after
    run("check", "--read-data", other)
