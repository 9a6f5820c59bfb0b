"""scripts/campaign, each campaign with the least that it can do: it runs, and finds no fault."""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from campaigns import damage

from tests.support import CHECKOUT

LEAST = {
    "big": ["--size=1", "--generations=2", "--edits=5"],
    "crowd": ["--seconds=8"],
    "kill": ["--kills=3", "--size=2000000", "--no-large", "--no-sweep"],
    "machine": ["--steps=25"],
    "mutants": ["--only=ibtfs/store/unread_points.py", "--sample=3",
                "--tests=tests/store/test_unread_points.py"],
    "real": ["--small", "--only=log"],
    "removal": ["--scenes=1", "--every=40"],
    "thinning": ["--files=300", "--points=6", "--changes=9"],
}  # fmt: skip
DONE = {
    "big": "generation 0: ",
    "crowd": "nothing was lost or wrong",
    "kill": "; nothing was wrong",
    "machine": "nothing was lost or wrong",
    "mutants": "3 mutants, 100.0 % killed",
    "real": "No difference found",
    "removal": "nothing was lost or wrong",
    "thinning": "All is whole",
}


def campaign(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, CHECKOUT / "scripts/campaign", *words]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("name", [*LEAST, "damage"])
def test_the_help_tells_of_all(name: str) -> None:
    about = campaign(name, "--help").stdout
    assert "--work" in about
    listed = " ".join(campaign("--help").stdout.split())
    assert f" {name} {' '.join(about.split(chr(10) * 2)[1].split())}" in listed


@pytest.mark.parametrize("name", LEAST)
def test_a_campaign_in_small(name: str, tmp_path: Path) -> None:
    command = tmp_path / "ibtfs"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m ibtfs "$@"\n')
    command.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    program = [f"--ibtfs={command}"] if name == "real" else []
    done = campaign(name, *LEAST[name], f"--work={work}", *program)
    assert done.returncode == 0, done.stdout + done.stderr
    assert DONE[name] in done.stdout
    assert "WRONG" not in done.stdout
    assert name == "real" or not list(work.iterdir())


def test_power_cuts_in_small(tmp_path: Path) -> None:
    words = ["removal", "--power-cuts", "--scenes=1", "--every=25", f"--work={tmp_path}"]
    done = campaign(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " power cuts), " in done.stdout
    assert DONE["removal"] in done.stdout


def test_damages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    every = damage.damages
    monkeypatch.setattr(
        damage, "damages", lambda sample, step: itertools.islice(every(sample, step), 50)
    )
    options = argparse.Namespace(every=1, workers=2, work=str(tmp_path))
    assert damage.run(options) == 0
    assert "\n50 damages, 0 with a bad outcome; " in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_python_without_the_packages_is_one_line() -> None:
    command = [sys.executable, "-I", "-S", CHECKOUT / "scripts/campaign"]  # no site-packages
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("campaign: ")
    assert done.stderr.count("\n") == 1


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    command = tmp_path / "ibtfs"
    command.write_text("#!/bin/sh\necho no >&2; exit 9\n")
    command.chmod(0o755)
    work = tmp_path / "work"
    done = campaign("real", "--only=log", "--small", f"--work={work}", f"--ibtfs={command}")
    assert done.returncode == 1
    assert "exit code 9: no" in done.stdout
