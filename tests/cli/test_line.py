"""Options of the line to a repository: every command has them, and they hold."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ibtfs.cli.main import COMMANDS
from tests.support import differences, snapshot
from tests.support.commands import run, run_json

KIB = 1 << 10


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"umount", "help", "serve-store"}))
def test_every_command_that_takes_a_repository_has_them(name: str) -> None:
    shown = run(name, "--help").stdout
    access = shown.split("\nAccess:\n")[1].split("\n\n")[0]
    assert "--limit-upload RATE" in access
    assert "--limit-download RATE" in access
    assert "--endpoint URL" in access
    assert "--key-file FILE" in access
    assert "--passphrase-fd N" in access


def took(*words: object, code: int = 0) -> float:
    began = time.monotonic()
    run(*words, code=code)
    return time.monotonic() - began


def test_limits_hold_both_ways(source: Path, tmp_path: Path) -> None:
    (source / "large").write_bytes(os.urandom(1200 * KIB))
    folder, other = tmp_path / "r", tmp_path / "other"
    up, down = ("--limit-upload", "500"), ("--limit-download", "500K")
    assert 2 < took("backup", *up, *down, source, folder) < 20
    assert took("check", "--read-data", *up, folder) < 2
    assert 2 < took("check", "--read-data", *down, folder) < 20
    assert 2 < took("copy", *up, folder, other) < 20
    assert 2 < took("restore", *down, folder, "latest", tmp_path / "back") < 20
    assert differences(snapshot(tmp_path / "back"), snapshot(source)) == []
    assert run_json("list", other)["points"] == run_json("list", folder)["points"]


def test_one_limit_is_for_all_that_is_read(source: Path, tmp_path: Path) -> None:
    """A repair reads here and there: what both give together stays within it."""
    (source / "large").write_bytes(os.urandom(800 * KIB))
    folder, other = tmp_path / "r", tmp_path / "other"
    run("backup", source, folder)
    run("copy", folder, other)
    data = next((folder / "archives").glob("*/data.1"))
    data.write_bytes(data.read_bytes()[:-100])
    words = ("repair", "--dry-run", folder, "--from", other)
    assert took(*words, code=3) < 1.5
    assert 1.8 < took(*words, "--limit-download", "700K", code=3) < 20


def test_wrong_limits_are_told(repo: Path) -> None:
    assert "is not a size" in run("list", "--limit-upload", "fast", repo, code=2).stderr
    run("list", "--limit-upload", "0", repo)


@pytest.mark.parametrize("place", ["folder", "s3://bucket/x?endpoint=http://127.0.0.1:1"])
def test_an_endpoint_that_is_for_nothing_is_told(place: str, tmp_path: Path) -> None:
    repo = place if "://" in place else tmp_path / place
    told = run("list", "--endpoint", "http://127.0.0.1:1", repo, code=2).stderr
    assert "--endpoint is for an address s3://" in told


def test_a_wrong_endpoint_is_told() -> None:
    told = run("list", "--endpoint", "127.0.0.1:8333", "s3://bucket/x", code=2).stderr
    assert "endpoint is not like https://HOST" in told
