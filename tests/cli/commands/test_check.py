"""``ibtfs check``: clean, and with damaged data."""

from __future__ import annotations

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
