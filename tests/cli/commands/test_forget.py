"""``ibtfs forget`` and ``ibtfs undo``: what they say, as text and as JSON, and how they end."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ibtfs.store.repository import Repository
from tests.support.commands import outside, run, run_json
from tests.support.repositories import dated


def listed(repo: Path) -> list[str]:
    return [point["id"] for point in run_json("list", repo)["points"]]


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """A repository with six points of `docs`, one a day, and one of `photos`; one is tagged."""
    repo, docs, photos = tmp_path / "days", tmp_path / "docs", tmp_path / "photos"
    docs.mkdir()
    photos.mkdir()
    opened = None
    for day in range(6):
        (docs / "file").write_text(str(day))
        run("backup", "-q", docs, repo, *(["--tag", "good"] if day == 1 else []))
        opened = Repository.open(os.fsencode(repo))
        point = opened.points.all().points[-1]
        dated(opened, point, 24 * (day - 6))
    run("backup", "-q", photos, repo)
    return repo


def why(answer: dict[str, Any]) -> dict[str, list[list[str]]]:
    """The reasons of the points of each source, oldest first; of those that go, none."""
    return {
        group["group"]["source"]: [
            row["reasons"]
            for row in sorted(group["keep"] + group["remove"], key=lambda row: row["name"])
        ]
        for group in answer["groups"]
    }


def test_rules_say_why_each_point_stays_or_goes(days: Path) -> None:
    before = listed(days)
    words = ("forget", days, "--keep-last", 1, "--keep-daily", 3, "--keep-tag", "good")
    told = run_json(*words, "--dry-run")
    assert (told["dry_run"], listed(days)) == (True, before)
    assert why(told) == {
        "docs": [[], ["tag good"], [], ["daily"], ["daily"], ["last", "daily"]],
        "photos": [["last", "daily"]],
    }
    assert [point["id"] for point in told["removed"]] == [before[0], before[2]]
    shown = run(*words).stdout
    names = {point["id"]: point["name"] for point in told["removed"]}
    assert re.search(rf"^goes +{names[before[0]]} +{before[0]}$", shown, re.M)
    assert re.search(rf"^stays .* {before[1]} +good +tag good$", shown, re.M)
    assert shown.endswith("\nRemoved 2 backup points; 5 stay\n")
    assert listed(days) == [i for i in before if i not in names]
    assert run(*words, "-q").stdout == ""
    assert run(*words).stdout.endswith("\nRemoved 0 backup points; 5 stay\n")
    assert run_json("check", days, "--read-data")["damages"] == []


def test_rules_concern_those_who_are_chosen(days: Path) -> None:
    before = listed(days)
    told = run_json("forget", days, "--keep-last", 2, "--source", "docs", "-n")
    assert list(why(told)) == ["docs"]
    assert [point["id"] for point in told["removed"]] == before[:4]
    told = run_json("forget", days, "--keep-last", 1, "--tag", "good", "-n")
    assert why(told) == {"docs": [["last"]]}
    told = run_json("forget", days, "--keep-last", 1, "--host", "nobody", "-n")
    assert told["groups"] == told["removed"] == []
    told = run_json("forget", days, "--keep-last", 1, "--group-by", "host, tags", "-n")
    host = os.uname().nodename
    assert [g["group"] for g in told["groups"]] == [
        {"host": host, "tags": ""}, {"host": host, "tags": "good"}
    ]  # fmt: skip
    assert "sources, say" not in run("forget", days, "--keep-last=2", "--group-by=", "-n").stdout
    told = run("forget", days, "--keep-last", 1, "--source", "nowhere", code=1).stderr
    assert "there are: docs, photos" in told
    told = run("forget", days, "--keep-last", 1, "--group-by", "paths", code=2).stderr
    assert "'paths' is nothing to group by" in told
    assert listed(days) == before


def test_rules_count_for_each_host_by_itself(tmp_path: Path, source: Path) -> None:
    """The same path, or the same name, on two machines is two sources."""
    repo = tmp_path / "repo"
    for _ in range(3):
        for host in ("pc", "laptop"):
            run("backup", "-q", "--host", host, source, repo)
            run("backup", "-q", "--host", host, "--name", "named", source, repo)
    words = ("forget", repo, "--keep-last", 1, "-n")
    told = run_json(*words)
    assert [group["group"] for group in told["groups"]] == [
        {"source": name} for name in ("documents", "documents@laptop", "named", "named@laptop")
    ]
    assert [len(group["keep"]) for group in told["groups"]] == [1, 1, 1, 1]
    assert len(told["removed"]) == 8
    by_host = run_json(*words, "--group-by", "host", "--allow-none")["groups"]
    assert [group["group"] for group in by_host] == [{"host": "laptop"}, {"host": "pc"}]
    assert [len(group["keep"]) for group in by_host] == [1, 1]
    by_path = run_json(*words, "--group-by", "host,path", "--allow-none")["groups"]
    assert [group["group"]["host"] for group in by_path] == ["laptop", "pc"]
    run("forget", "-q", repo, "--keep-last", 1, "--host", "laptop")
    left = [one["host"] for one in run_json("list", repo)["points"]]
    assert sorted(left) == ["laptop"] * 2 + ["pc"] * 6


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--keep-last", "0"],
        ["--keep-last=0", "--keep-daily=0", "--keep-yearly=0"],
        ["--source", "docs"],
        ["--allow-none", "--tag", "good"],
        ["--keep-last", "-1"],
        ["--keep-last", "all"],
        ["--keep-within", "yesterday"],
        ["--keep-within", ""],
        ["--keep-tag", "../x"],
        ["--keep-last", "1", "docs/latest"],
        ["--source", "docs", "latest"],
        ["latest"],
        ["photos/latest"],
        ["photos/latest", "--allow-nobody"],
    ],
)
def test_what_is_refused_removes_nothing(words: list[str], days: Path) -> None:
    before = listed(days)
    told = run("forget", days, *words, code=2)
    assert told.stdout == ""
    assert told.stderr.startswith("ibtfs: ")
    assert run_json("forget", days, *words, code=2)["error"]
    assert listed(days) == before


def test_named_points(days: Path) -> None:
    before = listed(days)
    told = run("forget", days, "docs/latest~2", before[0]).stdout.splitlines()
    assert [line.rpartition(" ")[2] for line in told] == [f"({before[3]})", f"({before[0]})"]
    assert all(line.startswith("Removed docs/") for line in told)
    answer = run_json("forget", days, "photos/latest", "--allow-none", "-n")
    assert [point["source"] for point in answer["removed"]] == ["photos"]
    assert "groups" not in answer
    assert "Would remove photos/" in run("forget", days, "-n", "--allow-none", before[6]).stdout
    assert listed(days) == [before[n] for n in (1, 2, 4, 5, 6)]
    gone = run("forget", days, f"docs/{before[0]}", code=1).stderr
    assert gone.startswith(f"ibtfs: No point '{before[0]}'")


@pytest.mark.damaged
def test_damage_is_told_and_makes_it_incomplete(days: Path) -> None:
    before = listed(days)
    manifest = days / "points" / before[5]
    manifest.write_bytes(manifest.read_bytes()[:-1])
    words = ("forget", days, "--keep-last", 1)
    assert before[5] in run(*words, "-n", code=3).stderr
    answer = run_json(*words, code=3)
    assert [problem["id"] for problem in answer["problems"]] == [before[5]]
    assert manifest.exists()
    run("forget", days, before[5][:-1], code=2)
    assert run("forget", days, before[5]).stdout == f"Removed {before[5]} (damaged)\n"
    assert listed(days) == [before[4], before[6]]


def test_a_manifest_that_stays_is_named(days: Path) -> None:
    before = listed(days)
    held = days / "points" / before[0]
    subprocess.run(["chattr", "+i", held], check=True)
    try:
        told = run("forget", days, before[0], before[1], code=3)
        assert before[0] in told.stderr
        assert before[0] not in told.stdout
        answer = run_json("forget", days, before[0], code=1)
        assert before[0] in answer["error"]
        assert answer["removed"] == []
    finally:
        subprocess.run(["chattr", "-i", held], check=True)
    assert listed(days) == [before[0], *before[2:]]


def test_a_repository_that_is_not_there_or_locked(days: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for words in (["forget", tmp_path / "none", "latest"], ["undo", tmp_path / "none"]):
        assert outside(*words).returncode == 10
    with Repository.open(os.fsencode(days)).lock("exclusive"):
        run("forget", days, "--keep-last", 1, code=11)
        run("undo", days, "--source", "docs", code=11)
        run("tag", "add", days, "x", "docs/latest", code=11)


def test_the_space_of_what_goes_is_told_and_freed(days: Path) -> None:
    before = listed(days)
    words = ("forget", days, "docs/latest~1", "docs/latest~2")
    foretold = run_json(*words, "--dry-run")["would_free"]
    assert foretold > 0
    assert run(*words, "-n").stdout.splitlines()[-1].startswith("Pruning then would free ")
    size = sum(path.stat().st_size for path in days.rglob("*") if path.is_file())
    answer = run_json(*words, "--prune")
    freed = size - sum(path.stat().st_size for path in days.rglob("*") if path.is_file())
    assert answer["exit_code"] == 0
    assert answer["prune"]["freed"] == pytest.approx(foretold, rel=0.05, abs=200)
    assert freed >= answer["prune"]["freed"]  # the manifests, too
    assert len(listed(days)) == len(before) - 2
    shown = run("undo", days, "--source", "docs", "--prune").stdout.splitlines()
    assert shown[-1].startswith("Freed ")
    assert run_json("check", days, "--read-data")["damages"] == []


# ---- undo --------------------------------------------------------------------------------------


def test_undo(days: Path) -> None:
    before = listed(days)
    told = run("undo", days, code=2).stderr
    assert "docs, photos" in told
    assert "would be left" in run("undo", days, "--source", "photos", code=2).stderr
    shown = run("undo", days, "--source", "docs", "--dry-run").stdout.splitlines()
    assert re.fullmatch(rf"Would take back docs/\S+ \({before[5]}\)", shown[0])
    assert re.fullmatch(rf"  the last would be docs/\S+ \({before[4]}\)", shown[1])
    assert listed(days) == before
    answer = run_json("undo", days, "--source", "docs")
    assert [point["id"] for point in answer["removed"]] == [before[5]]
    assert answer["latest"]["id"] == before[4]
    run("forget", days, before[6], "--allow-none")
    shown = run("undo", days).stdout.splitlines()
    assert re.fullmatch(rf"Took back docs/\S+ \({before[4]}\)", shown[0])
    assert listed(days) == before[:4]


def test_undo_of_the_only_point(tmp_path: Path, source: Path) -> None:
    run("backup", "-q", source, tmp_path / "one")
    assert "add --allow-none" in run("undo", tmp_path / "one", code=2).stderr
    answer = run_json("undo", tmp_path / "one", "--allow-none")
    assert (len(answer["removed"]), answer["latest"]) == (1, None)
    assert listed(tmp_path / "one") == []
    run("undo", tmp_path / "one", code=1)


def test_undo_once_more_after_a_backup(days: Path, tmp_path: Path) -> None:
    before = listed(days)
    (tmp_path / "docs" / "file").write_text("a mistake")
    run("backup", "-q", tmp_path / "docs", days)
    run("undo", "-q", days, "--source", "docs")
    assert listed(days) == before
    assert run("cat", days, "docs/latest", "file").stdout == "5"


def test_what_is_forgotten_is_freed_by_prune(days: Path, tmp_path: Path) -> None:
    kept = listed(days)[-2:]
    (tmp_path / "docs" / "large").write_bytes(os.urandom(300_000))
    run("backup", "-q", tmp_path / "docs", days)
    run("undo", "-q", days, "--source", "docs")
    run("forget", "-q", days, "--keep-last", 1)
    assert listed(days) == kept
    answer = run_json("prune", days)  # at once: that they went was noted
    assert answer["freed"] > 300_000
    assert os.listdir(days / "forgotten") == []
    assert run("cat", days, "docs/latest", "file").stdout == "5"
    assert run_json("check", days, "--read-data")["damages"] == []
