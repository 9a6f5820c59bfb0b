"""``ibtfs protect``, and ``ibtfs check --repair`` by what it wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import CHECKOUT
from tests.support.commands import run, run_json


def archive_files(repo: Path) -> list[Path]:
    return sorted(path for path in repo.glob("archives/*/*") if "parity" not in path.name)


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def test_protected_damaged_healed(repo: Path, source: Path) -> None:
    assert run("protect", "--redundancy", "10%", repo).stdout.startswith("Protected by 10 %: 6 f")
    (source / "more").write_bytes(b"more")
    run("backup", source, repo)
    for file in [*archive_files(repo), repo / "ibtfs.json"]:
        spoil(file)
    assert run("check", repo, code=1).exit_code == 1
    foreseen = run("check", "--repair", "--dry-run", repo, code=1)
    assert "ibtfs.json" in foreseen.stderr
    healed = run("check", "--repair", repo).stdout
    assert "ibtfs.json: healed by parity\n" in healed
    assert "No damage is left" in healed
    assert run("check", "--repair", repo).stdout == "No damage\n"
    assert run_json("check", "--repair", repo)["healed"] == {}
    answer = run_json("protect", "--redundancy", "0", repo)
    assert answer["removed"] > 3
    assert not list(repo.rglob("*parity*"))


@pytest.mark.parametrize("word", ["101", "10.5", "ten", "-1", ""])
def test_what_is_no_share(repo: Path, word: str) -> None:
    assert "is not a share" in run("protect", f"--redundancy={word}", repo, code=2).stderr


def test_what_is_damaged_already_is_named(repo: Path) -> None:
    spoil(archive_files(repo)[0])
    assert "Not protected: archives/" in run("protect", "--redundancy", "5", repo, code=3).stderr
    assert len(run_json("protect", "--redundancy", "5", repo, code=3)["failed"]) == 1


def test_the_library_that_is_missing_is_named(repo: Path) -> None:
    code = "import sys; sys.modules['zfec'] = None; from ibtfs.cli.main import main; main()"
    words = ["protect", "--redundancy", "10%", str(repo)]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=CHECKOUT, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'ibtfs[protect]'" in done.stderr
    assert not list(repo.rglob("*redundancy*"))


def test_the_source_heals_without_parity(repo: Path, source: Path) -> None:
    (source / "large").write_bytes(os.urandom(300_000))
    run("backup", source, repo)
    spoil(max(repo.glob("archives/*/data.1"), key=lambda path: path.stat().st_size))
    assert "put back from" in run("check", "--repair", repo).stdout
    spoil(next(repo.glob("archives/*/data.2")))
    (source / "large").unlink()
    lost = run("check", "--repair", repo, code=1)
    assert "  path: large\n" in lost.stderr
    assert run_json("check", "--repair", repo, code=1)["healed"] == {}


def test_dry_run_goes_with_repair(repo: Path) -> None:
    assert "--repair" in run("check", "--dry-run", repo, code=2).stderr
