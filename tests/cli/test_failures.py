"""How commands fail: one line, the right exit code; interrupted, or where nobody reads on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ibtfs.store.lock import EXCLUSIVE, Lock
from ibtfs.store.points import Points
from ibtfs.store.repository import Repository
from tests.support.commands import command, run, run_json


@pytest.mark.parametrize("words", [["list"], ["check"], ["ls", "latest"], ["cat", "latest", "a"],
                                   ["restore", "latest", "out"], ["mount", "mnt"]])  # fmt: skip
def test_no_repository(words: list[str], tmp_path: Path) -> None:
    name, *rest = words
    result = run(name, tmp_path / "none", *rest, code=10)
    assert result.stdout == ""
    assert re.fullmatch(r"ibtfs: No such repository: [^\n]+ does not exist\n", result.stderr)
    if name != "cat":
        assert run_json(name, tmp_path / "none", *rest, code=10)["error"]


def test_locked(repo: Path, source: Path) -> None:
    storage = Repository.open(os.fsencode(repo)).storage
    with Lock(storage, EXCLUSIVE, host="elsewhere", process=1, token="0" * 8):
        assert "locked" in run("backup", source, repo, code=11).stderr
        assert run_json("backup", source, repo, code=11)["points"] == []
    run("backup", source, repo)


def test_unexpected_error_is_one_line(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ValueError("out of the\nblue")

    monkeypatch.setattr(Points, "all", broken)
    lines = run("list", repo, code=1).stderr.splitlines()
    assert lines[0] == "ibtfs: Unexpected error: ValueError: out of the\\nblue"
    assert "--debug" in lines[1]
    assert len(lines) == 2
    assert "ValueError" in run_json("list", repo, code=1)["error"]
    assert "in broken" in run("--debug", "list", repo, code=1).stderr
    monkeypatch.setenv("IBTFS_DEBUG", "1")
    assert "in broken" in run("list", repo, code=1).stderr


def test_failure_of_the_system_is_one_line(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise OSError(28, "No space left on device", "/some/where")

    monkeypatch.setattr(Points, "all", broken)
    assert run("list", repo, code=1).stderr == "ibtfs: /some/where: No space left on device\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(number: int, code: int, tmp_path: Path) -> None:
    words = command("backup", "--stdin-name", "endless", tmp_path / "repo")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + 120
        # a signal between the making of a name and the next statement leaves what the next run
        # removes (*.part); what is tested is a lock that is held
        while not list(tmp_path.glob("repo/locks/*[!t]")) and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(number)
        _, told = process.communicate(timeout=240)
    assert process.returncode == code
    assert b"Traceback" not in told
    assert told == (b"\nibtfs: Interrupted\n" if number == signal.SIGINT else b"")
    assert not list(tmp_path.glob("repo/locks/*"))
    assert run_json("list", tmp_path / "repo")["points"] == []


def test_reader_that_has_seen_enough(repo: Path) -> None:
    for words in (["cat", repo, "latest", "sub/b.bin"], ["ls", "-lR", repo, "latest"]):
        reading, writing = os.pipe()
        os.close(reading)
        result = subprocess.run(
            command(*words), stdout=writing, stderr=subprocess.PIPE, check=False, timeout=240
        )
        os.close(writing)
        assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.parametrize(
    "words", [["list"], ["check"], ["ls", "@", "latest"], ["restore", "@", "latest", "elsewhere"]]
)
def test_a_repository_that_is_not_there_is_told_so(words: list[str], tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    command = [missing if word == "@" else word for word in words]
    said = run(*(command if "@" in words else [*command, missing]), code=10).stderr
    assert said == f"ibtfs: No such repository: {missing!r} does not exist\n"
    assert "is not an ibtfs repository" in run("list", tmp_path, code=10).stderr


def test_a_command_whose_reader_goes_away_is_quiet(tmp_path: Path, source: Path) -> None:
    for number in range(3000):
        (source / f"a name that is rather long, so that a pipe is filled {number}").touch()
    run("backup", source, tmp_path / "repository")
    line = f"{sys.executable} -m ibtfs ls {tmp_path}/repository latest | head -n 1"
    script = f"set -o pipefail; {line}; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[1] == "141"


def _run(words: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ibtfs", *words]
    return subprocess.run(command, check=False, timeout=240, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_standard_stream_that_is_closed(closed: int, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a").write_bytes(b"1")
    source, repository = str(tmp_path / "source"), str(tmp_path / "repo")
    for words in (["backup", source, repository], ["list", repository]):
        line = " ".join([sys.executable, "-m", "ibtfs", *words, f"{closed}>&-"])
        done = subprocess.run(["sh", "-c", line], check=False, capture_output=True, timeout=240)
        assert done.returncode == 0
        assert b"Unexpected" not in done.stderr + done.stdout


def test_a_reader_that_goes_ends_no_backup(tmp_path: Path) -> None:
    source, repository = tmp_path / "source", str(tmp_path / "repo")
    source.mkdir()
    for number in range(3000):
        (source / f"a name that is rather long, so that a pipe is filled {number}").touch()
    with subprocess.Popen(
        [sys.executable, "-m", "ibtfs", "backup", "-v", str(source), repository],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        process.wait(240)
    listed = _run(["list", "--json", repository], capture_output=True)
    assert len(json.loads(listed.stdout)["points"]) == 1


def test_a_full_standard_output_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = _run(["list", "--json", str(tmp_path)], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 10
    assert b"Traceback" not in done.stderr
