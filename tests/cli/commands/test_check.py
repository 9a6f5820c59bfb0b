"""``ibtfs check``: clean, and with damaged data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.commands import run, run_json


@pytest.mark.damaged
def test_damaged_data(repo: Path) -> None:
    for file in repo.glob("archives/*/*"):
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 1
        file.chmod(0o600)
        file.write_bytes(data)
    answer = run_json("check", "--read-data", repo, code=1)
    assert {"object", "message", "points", "paths"} == answer["damages"][0].keys()
    assert run("check", "--read-data", repo, code=1).stderr.count("\n") > 1


def test_check(repo: Path) -> None:
    assert run("check", repo).stdout.startswith("No damage: 2 points")
    answer = run_json("check", "--read-data", repo)
    assert answer["damages"] == []
    assert answer["counts"]["points"] == 2
    assert run("check", "-q", repo).stdout == ""


@pytest.mark.damaged
def test_points_that_are_gone(repo: Path) -> None:
    first = run_json("list", repo)["points"][0]["id"]
    (repo / "points" / first).unlink()
    told = run("check", repo, code=3)
    assert told.stdout == ""
    lines = told.stderr.splitlines()
    assert lines[0].startswith(f"ibtfs: points/{first}: is not there")
    assert lines[1].startswith("ibtfs: No damage in what is there: 1 point, 2 archives, ")
    assert len(run_json("check", repo, code=3)["missing"]) == 1
    shutil.rmtree(repo / "points")
    assert "points/: is missing" in run("check", repo, code=1).stderr
    for words in (("list", repo), ("backup", repo.parent / "documents", repo)):
        assert "put the folder back" in run(*words, code=1).stderr
