"""``ibtfs purge``."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.support.commands import command, outside, run, run_json


def paths_of(repo: Path) -> set[str]:
    return {row["path"] for row in run_json("ls", repo, "--recursive", "latest")["entries"]}


def test_a_dry_run_lists_points_paths_and_sizes(repo: Path) -> None:
    before = run_json("list", repo)
    said = run("purge", "--dry-run", repo, "a.txt", "sub/").stdout
    assert said.count("To be written anew: documents/") == 2
    lines = [line.split() for line in said.splitlines()]
    assert ["a.txt", "documents", "2", "2", "19", "B"] in lines
    assert ["sub/b.bin", "documents", "2", "1", "100.0", "KiB"] in lines
    assert ["sub/", "documents", "2"] in lines
    assert "an SSD" in said
    answer = run_json("purge", "--dry-run", repo, "a.txt")
    (path,) = answer["paths"]
    assert (path["path"], path["versions"], path["size"]) == ("a.txt", 2, 19)
    assert [point["removed"] for point in answer["points"]] == [False, False]
    assert run_json("list", repo) == before


def test_a_purge_takes_a_path_out_of_all_points(repo: Path, cache: Path) -> None:
    names = [point["name"] for point in run_json("list", repo)["points"]]
    run_json("list", repo)
    assert list((cache / "ibtfs").glob("*.sqlite"))
    answer = run_json("purge", "--yes", repo, "a.txt")
    assert (answer["problems"], answer["dry_run"], len(answer["replaced"])) == ([], False, 2)
    points = run_json("list", repo)["points"]
    assert [point["name"] for point in points] == names
    assert {point["id"] for point in points} == set(answer["replaced"].values())
    assert not list((cache / "ibtfs").glob("*.sqlite*"))
    assert "a.txt" not in paths_of(repo)
    assert "new.txt" in paths_of(repo)
    assert run("check", "--read-data", repo).exit_code == 0


def test_what_it_says(repo: Path) -> None:
    said = run("purge", "--yes", repo, "a.txt").stdout
    assert said.startswith("Took 1 path out of 2 backup points\nFreed ")
    assert "the next backup stores it again" in said
    assert run("purge", "--yes", repo, "a.txt").stdout.startswith("No backup point has such a path")
    assert run("purge", "--yes", "--quiet", repo, "new.txt").stdout == ""


def test_without_a_terminal_it_does_not_ask(repo: Path) -> None:
    before = run_json("list", repo)
    assert "--yes" in run("purge", repo, "a.txt", code=2).stderr
    run_json("purge", repo, "a.txt", code=2)
    run("purge", "--yes", repo, code=2)
    assert run_json("list", repo) == before


def answered(repo: Path, answer: bytes) -> tuple[int, str]:
    """What a purge ends with, and says, where there is a terminal to ask at."""
    mine, theirs = os.openpty()
    os.write(mine, answer + b"\n")
    done = subprocess.run(
        command("purge", repo, "a.txt"), stdin=theirs, capture_output=True, check=False, timeout=240
    )
    os.close(mine)
    os.close(theirs)
    return done.returncode, done.stdout.decode()


def test_at_a_terminal_it_asks(repo: Path) -> None:
    before = run_json("list", repo)
    code, said = answered(repo, b"n")
    assert code == 130
    assert "It cannot be undone" in said
    assert run_json("list", repo) == before
    code, said = answered(repo, b"y")
    assert code == 0
    assert "Took 1 path" in said
    assert "a.txt" not in paths_of(repo)


def test_other_paths_with_the_same_bytes_are_named(repo: Path, source: Path) -> None:
    (source / "copy").write_bytes(b"first\n")
    run("backup", source, repo)
    for words in (("--dry-run",), ("--yes",)):
        said = run("purge", *words, repo, "a.txt", code=2).stderr
        assert "documents: 'copy'" in said
    assert "a.txt" in paths_of(repo)


def test_damage_is_a_line(repo: Path) -> None:
    (index, *_) = sorted(repo.glob("archives/*/index.1"))
    data = bytearray(index.read_bytes())
    data[50] ^= 1
    index.write_bytes(data)
    done = outside("purge", "--yes", repo, "a.txt")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"Nothing was purged" in done.stderr
    answer = json.loads(outside("purge", "--yes", "--json", repo, "a.txt").stdout)
    assert answer["exit_code"] == 1
