"""scripts/campaign, each campaign with the least that it can do: it runs, and finds no fault."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from campaigns import damage, fuzz, fuzzing

from ibtfs.errors import IbtfsError
from tests.support import CHECKOUT

LEAST = {
    "big": ["--size=1", "--generations=2", "--edits=5"],
    "calls": ["--command=forget", "--every=40"],
    "crowd": ["--seconds=8"],
    "full": ["--command=forget", "--every=64"],
    "kill": ["--kills=3", "--size=2000000", "--no-large", "--no-sweep"],
    "machine": ["--steps=25"],
    "mutants": ["--only=ibtfs/store/unread_points.py", "--sample=2",
                "--tests=tests/store/test_unread_points.py"],
    "real": ["--small", "--only=log"],
    "removal": ["--scenes=1", "--every=40"],
    "thinning": ["--files=300", "--points=6", "--changes=9"],
}  # fmt: skip
DONE = {
    "big": "generation 0: ",
    "calls": "Nothing was lost or wrong",
    "crowd": "nothing was lost or wrong",
    "full": "Nothing was lost or wrong",
    "kill": "; nothing was wrong",
    "machine": "nothing was lost or wrong",
    "mutants": "2 mutants, 100.0 % killed",
    "real": "No difference found",
    "removal": "nothing was lost or wrong",
    "thinning": "All is whole",
}


def campaign(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, CHECKOUT / "scripts/campaign", *words]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_help_tells_of_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = " ".join(campaign("--help").stdout.split())
    main = runpy.run_path(str(CHECKOUT / "scripts/campaign"))["main"]
    for name in (*LEAST, "damage", "fuzz"):
        monkeypatch.setattr(sys, "argv", ["campaign", name, "--help"])
        with pytest.raises(SystemExit, match="0"):
            main()
        about = capsys.readouterr().out
        assert "--work" in about
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
        damage, "damages", lambda sample, step: itertools.islice(every(sample, step), 8)
    )
    options = argparse.Namespace(every=1, workers=2, work=str(tmp_path))
    assert damage.run(options) == 0
    assert "\n8 damages, 0 with a bad outcome; " in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_fuzzing_in_small(tmp_path: Path) -> None:
    """Where there is no atheris, for it has wheels for few machines, one line says so."""
    corpus = tmp_path / "corpus"
    words = ["--seconds=1", "--workers=1", f"--work={tmp_path}", f"--corpus={corpus}"]
    done = campaign("fuzz", *words, "--target", "record", "extent-map")
    if importlib.util.find_spec("atheris") is None:
        assert (done.returncode, done.stdout.count("\n")) == (2, 1)
        assert "pip install" in done.stdout
        return
    assert done.returncode == 0, done.stdout + done.stderr
    assert " inputs, 2 targets: nothing was found; " in done.stdout
    assert len(list((corpus / "record").iterdir())) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_without_atheris_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert fuzz.run(argparse.Namespace()) == 2
    assert capsys.readouterr().out.count("\n") == 1


def test_a_finding_is_told_once_for_each_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(data: bytes) -> None:
        if data.startswith(b"slow"):
            began = time.process_time()
            while time.process_time() < began + 0.02:
                pass
        if data.startswith(b"ours"):
            raise IbtfsError
        data[4]

    monkeypatch.setattr(fuzzing, "SECONDS", 0.01)
    trial = fuzzing.Trial(read, IbtfsError, tmp_path)
    for data in (b"fault", b"ours", b"", b"x", b"slow one", b"slow two"):
        trial.one(data)
    told = [path.read_text().partition("\n")[0] for path in tmp_path.glob("*.txt")]
    assert sorted(told)[1:] == ["took too long"]
    assert told.count("took too long") == 1
    assert [text for text in told if text.startswith("IndexError at test_campaigns.py:")]
    inputs = {path.read_bytes() for path in tmp_path.iterdir() if not path.suffix}
    assert inputs == {b"", b"slow one"}


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


def test_a_campaign_that_is_stopped_tells_what_was_done(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, CHECKOUT / "scripts/campaign", "machine", "--work", tmp_path],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    until = time.monotonic() + 240
    while not any(tmp_path.glob("*/*")):  # the folder alone may not be known to it yet
        assert time.monotonic() < until
        time.sleep(0.05)
    told = interrupted(process)
    assert "Stopped; what was done by then:" in told
    assert "nothing was lost or wrong" in told
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def interrupted(process: subprocess.Popen[str]) -> str:
    """What a process says that is interrupted, again if Python lost it in a finalizer."""
    for _ in range(10):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=30)[0]
        except subprocess.TimeoutExpired:
            pass
    raise AssertionError("It cannot be interrupted")
