"""``ibtfs restore``: all, parts, and where there is no room."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import run, run_json


def test_restore_keeps_off_the_repository(repo: Path) -> None:
    assert "inside" in run("restore", repo, "latest", repo / "x", code=2).stderr
    words = ("restore", "--overwrite", "always", "--delete", repo, "latest", repo.parent)
    assert "repository" in run(*words, code=2).stderr


def test_restore(repo: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = run_json("restore", repo, "latest", out)
    assert (answer["files"], answer["problems"], answer["dry_run"]) == (5, [], False)
    assert answer["point"]["source"] == "documents"
    assert sorted(os.listdir(os.fsencode(out))) == sorted(os.listdir(os.fsencode(source)))
    assert "not empty" in run("restore", repo, "latest", out, code=2).stderr
    (out / "a.txt").write_bytes(b"mine")
    (out / "extra").write_bytes(b"")
    run("restore", "--overwrite", "never", repo, "latest", out)
    assert (out / "a.txt").read_bytes() == b"mine"
    shown = run("restore", "--overwrite", "always", "--delete", "-v", repo, "latest", out).stdout
    assert (out / "a.txt").read_bytes() == b"first\nsecond\n"
    assert not (out / "extra").exists()
    assert "restored  a.txt\n" in shown
    assert "1 deleted" in shown


def test_restore_of_parts(repo: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("restore", repo, "latest", "sub/b.bin", source / "a.txt", out)
    assert sorted(os.listdir(out)) == ["a.txt", "b.bin"]
    run("restore", "--include", "*.txt", "--exclude", "new*", repo, "latest", tmp_path / "some")
    assert os.listdir(tmp_path / "some") == ["a.txt"]
    assert "Would restore" in run("restore", "-n", repo, "latest", tmp_path / "none").stdout
    assert not (tmp_path / "none").exists()
    run("restore", repo, "latest", "missing", tmp_path / "none", code=1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    assert os.geteuid() == 0, "only root can mount the small disk: run the suite as root"
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_ends_a_restore_with_one_line(tmp_path: Path, small_disk: Path) -> None:
    source, rng = tmp_path / "source", random.Random(1)
    source.mkdir()
    for number in range(40):
        (source / f"{number:02}").write_bytes(rng.randbytes(100_000))
    run("backup", source, tmp_path / "repository")
    ended = run("restore", tmp_path / "repository", "latest", small_disk / "back", code=1)
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("ibtfs: No space left where the files are restored to")
    whole = sorted((small_disk / "back").iterdir())
    assert 5 <= len(whole) <= 10
    for path in whole:
        assert path.read_bytes() == (source / path.name).read_bytes()
    answer = run("restore", "--json", tmp_path / "repository", "latest", small_disk / "b", code=1)
    assert json.loads(answer.stdout)["exit_code"] == 1
