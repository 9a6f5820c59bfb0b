"""``ibtfs tag``, and tags in the place of points."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.store.repository import Repository
from tests.support.commands import run, run_json
from tests.support.mounts import mounted


def tags(repo: Path) -> list[list[str]]:
    return [point["tags"] for point in run_json("list", repo)["points"]]


def test_tags_are_given_taken_and_listed(repo: Path) -> None:
    first, second = run_json("list", repo)["points"]
    told = run("tag", "add", repo, "für alle", "latest", "latest~1").stdout
    assert told.splitlines() == [f"Tagged documents/{second['name']} ({second['id']})",
                                 f"Tagged documents/{first['name']} ({first['id']})"]  # fmt: skip
    assert tags(repo) == [["für alle", "old"], ["für alle"]]
    told = run("tag", "add", repo, "old", "latest", "latest~1").stdout
    assert f"documents/{first['name']} has the tag already\n" in told
    answer = run_json("tag", "remove", repo, "für alle", "latest", "latest")
    assert [point["id"] for point in answer["points"]] == [second["id"]]
    answer = run_json("tag", "remove", repo, "für alle", "latest")
    assert [point["id"] for point in answer["unchanged"]] == [second["id"]]
    assert tags(repo) == [["für alle", "old"], ["old"]]
    shown = run("tag", "list", repo).stdout.splitlines()
    assert shown[:2] == ["für alle: 1 point", f"  documents/{first['name']} ({first['id']})"]
    assert shown[2] == "old: 2 points"
    (only,) = run_json("tag", "list", repo, "old")["tags"]
    assert (only["tag"], [p["id"] for p in only["points"]]) == ("old", [first["id"], second["id"]])
    assert run("tag", "list", repo, "none").stdout == ""
    assert run("tag", "add", "-q", repo, "x", "latest").stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ["add"], ["add", "tag"], ["remove", "old"], ["list", "old", "latest"], ["show"],
        ["add", ".x", "latest"], ["add", "a/b", "latest"], ["add", "..", "latest"],
        ["add", "", "latest"], ["add", "x" * 101, "latest"], ["add", "x\n", "latest"],
        ["add", "x.part", "latest"],
    ],
)  # fmt: skip
def test_what_is_refused(words: list[str], repo: Path) -> None:
    verb, *more = words
    assert run("tag", verb, repo, *more, code=2).stderr.startswith("ibtfs: ")
    assert tags(repo) == [["old"], []]


def test_a_backup_takes_no_other_tags(repo: Path, source: Path) -> None:
    run("backup", source, repo, "--tag", "x.part", code=2)


def test_a_tag_stands_for_the_newest_point_that_has_it(repo: Path, source: Path) -> None:
    assert run("cat", repo, "old", "a.txt").stdout == "first\n"
    assert run("cat", repo, "documents/old", "a.txt").stdout == "first\n"
    assert run("cat", repo, "@old", "a.txt").stdout == "first\n"
    assert "new.txt" in run("diff", repo, "old", "latest").stdout
    run("tag", "add", repo, "old", "latest")
    assert run("cat", repo, "old", "a.txt").stdout == "first\nsecond\n"
    for word in ("latest", "yesterday", "3d"):  # what meant something else goes on to do so
        run("tag", "add", repo, word, "latest~1")
    assert run("cat", repo, "latest", "a.txt").stdout == "first\nsecond\n"
    assert "No point at or before" in run("cat", repo, "yesterday", "a.txt", code=1).stderr
    assert "No point 'olds'" in run("cat", repo, "olds", "a.txt", code=1).stderr


@pytest.mark.damaged
def test_a_tag_that_a_damaged_point_has_as_well_means_none(repo: Path, source: Path) -> None:
    (source / "a.txt").write_bytes(b"third\n")
    run("backup", source, repo, "--tag", "other")
    newest = run_json("list", repo)["points"][-1]["id"]
    manifest = repo / "points" / newest
    manifest.write_bytes(manifest.read_bytes()[:-1])
    assert run("cat", repo, "old", "a.txt").stdout == "first\n"  # the damaged one has it not
    (repo / "tags" / newest / "old").touch()
    assert newest in run("cat", repo, "old", "a.txt", code=1).stderr
    assert newest in run("tag", "list", repo, code=1).stderr
    assert newest in run_json("tag", "list", repo, code=1)["error"]


def test_list_by_tag(repo: Path) -> None:
    first, second = run_json("list", repo)["points"]
    assert [p["id"] for p in run_json("list", repo, "--tag", "old")["points"]] == [first["id"]]
    shown = run("list", repo, "--tag", "old", "--tag", "none").stdout
    assert first["id"] in shown
    assert second["id"] not in shown
    assert run_json("list", repo, "--tag", "none")["points"] == []
    assert run("list", repo, "--tag", "none").stdout == ""


def test_a_tag_in_a_mount(repo: Path, tmp_path: Path) -> None:
    names = [point["name"] for point in run_json("list", repo)["points"]]
    with mounted(Repository.open(os.fsencode(repo)), tmp_path / "mnt") as top:
        assert os.readlink(top / "documents" / "@old") == names[0]
        assert (top / "@old" / "documents" / "a.txt").read_bytes() == b"first\n"
        assert "updated" in os.listdir(top / "documents" / ".changes" / "@old..latest")
        assert not (top / "documents" / "@none").exists()
        run("tag", "add", repo, "later", "latest")
        assert os.readlink(top / "documents" / "@later") == names[1]
