"""``ibtfs prune`` puts the small archives of many backups into one file, and says so."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.support.commands import run, run_json


def test_many_small_backups_become_one_file(repo: Path, source: Path) -> None:
    assert "bundles" not in run("prune", repo).stdout
    for number in range(31):
        (source / "new.txt").write_bytes(b"new %d" % number)
        run("backup", source, repo, "--quiet")
    assert run_json("prune", repo)["bundled"] == 0  # they are young
    archives = repo / "archives"
    for index in archives.glob("*/index.1"):
        os.utime(index, (time.time() - 90_000,) * 2)
    answer = run("prune", repo).stdout
    assert ", 32 put into bundles" in answer or ", 33 put into bundles" in answer
    assert len(list((repo / "bundles").iterdir())) == 1
    assert len(list(archives.iterdir())) <= 1
    run("check", "--read-data", repo)
    assert len(run_json("list", repo)["points"]) == 33

    (bundle,) = (repo / "bundles").iterdir()
    data = bytearray(bundle.read_bytes())
    data[60] ^= 1
    bundle.write_bytes(data)
    told = run("check", repo, code=1).stderr
    assert f"bundles/{bundle.name}: directory at the beginning: " in told
    data[-60] ^= 1
    bundle.write_bytes(data)
    told = run("prune", repo, code=1).stderr
    assert "nothing can be removed" in told
    assert told.count("\n") == 1
