"""``ibtfs init``."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.commands import run, run_json


def test_init(tmp_path: Path) -> None:
    answer = run_json("init", tmp_path / "repo", "--compression", "9")
    config = json.loads((tmp_path / "repo" / "ibtfs.json").read_text())
    assert (config["id"], config["compression"]) == (answer["id"], 9)
    assert (tmp_path / "repo").stat().st_mode & 0o7777 == 0o700
    run("init", "--shared", tmp_path / "ours")
    assert (tmp_path / "ours").stat().st_mode & 0o7777 == 0o2770
    assert "already" in run("init", tmp_path / "repo", code=1).stderr
