"""``ibtfs delta export``."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.deltas import Generations, patched
from tests.support.repositories import back_up


@pytest.fixture
def three(tmp_path: Path) -> Generations:
    """The file is not in the second point."""
    game = Generations(tmp_path)
    game.add(bytes(range(256)) * 100)
    (game.source / "file").unlink()
    back_up(game.repository, game.source)
    game.add(bytes(range(256)) * 99 + b"end")
    return game


def test_the_command_takes_the_newest_point_before_that_has_the_file(three: Generations) -> None:
    out = three.place / "out"
    arguments = ("delta", "export", three.place / "repository", "latest", "file")
    answer = json.loads(run(*arguments, out, "--json").stdout)
    assert answer["against"]["id"] == three.points[0].id
    assert answer["id"] == three.points[1].id
    assert answer["bytes"] == answer["bytes_copied"] + answer["bytes_literal"] == 25347
    assert answer["bytes_against"] == 25600
    assert answer["bytes_delta"] == out.stat().st_size
    assert patched(three.place, three.data[0], out.read_bytes()) == three.data[1]
    assert run(*arguments, "-").stdout_bytes == out.read_bytes()
    absolute = (*arguments[:4], three.source / "file", "-", "--against", three.points[0].id)
    assert run(*absolute).stdout_bytes == out.read_bytes()


def test_an_existing_file_is_not_replaced_unasked(three: Generations) -> None:
    out = three.place / "out"
    out.write_text("mine")
    arguments = ("delta", "export", three.place / "repository", "latest", "file")
    assert "say --force" in run(*arguments, out, code=2).stderr
    assert out.read_text() == "mine"
    assert run(*arguments, out, "--force").stdout.startswith(f"Wrote {out}: ")
    assert out.read_bytes().startswith(b"rs\x026")
    assert "not a file" in run(*arguments, "/dev/null", "--force", code=2).stderr
    assert "not a file" in run(*arguments, three.place, "--force", code=2).stderr
    assert "cannot be both" in run(*arguments, "-", "--json", code=2).stdout
    missing = run(*arguments, three.place / "no" / "out", code=1).stderr
    assert "No such file or directory" in missing
    assert [name for name in os.listdir(three.place) if name.endswith(".part")] == []


def test_what_has_no_older_version_says_what_to_do(three: Generations) -> None:
    repository = three.place / "repository"
    first = three.points[0].id
    assert "say --against" in run("delta", "export", repository, first, "file", "-", code=1).stderr
    assert "No such path" in run("delta", "export", repository, "latest", "x", "-", code=1).stderr
    assert "not a regular file" in run(
        "delta", "export", repository, "latest", "", "-", code=1
    ).stderr  # fmt: skip


def test_damage_leaves_no_file(tmp_path: Path) -> None:
    game = Generations(tmp_path)
    game.add(random.Random(6).randbytes(300_000))
    game.add(random.Random(7).randbytes(300_000))
    for data in (tmp_path / "repository" / "archives").glob("*/data.1"):
        raw = bytearray(data.read_bytes())
        raw[1000] ^= 1
        data.write_bytes(raw)
    arguments = ("delta", "export", tmp_path / "repository", "latest", "file", tmp_path / "out")
    error = run(*arguments, code=1).stderr
    assert "'file'" in error
    assert game.points[1].id in error
    assert not (tmp_path / "out").exists()
    assert [name for name in os.listdir(tmp_path) if name.endswith(".part")] == []
