"""``ibtfs list``: as text, on narrow terminals, as JSON, beside a damaged manifest."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from ibtfs.store.repository import Repository
from tests.support.commands import run, run_json


def test_list(repo: Path) -> None:
    points = run_json("list", repo)["points"]
    assert [point["sequence"] for point in points] == [1, 2]
    first, second = points
    assert (first["tags"], first["full"], first["comment"]) == (["old"], True, "")
    assert (second["tags"], second["full"], second["comment"]) == ([], False, "für alle")
    keys = ("id", "name", "source", "host", "path", "time", "epoch", "files", "bytes",
            "bytes_stored")  # fmt: skip
    assert set(keys) <= first.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", first["time"])
    shown = run("list", repo).stdout
    assert shown.startswith("documents  (")
    for point in points:
        assert point["id"] in shown
        assert point["name"] in shown


def test_points_of_several_hosts_stand_together(tmp_path: Path, source: Path) -> None:
    repo, other = tmp_path / "repo", tmp_path / "another"
    other.mkdir()
    for host, path in (("pc", source), ("laptop", source), ("pc", other), ("laptop", source)):
        run("backup", "--host", host, path, repo)
    lines = run("list", repo).stdout.splitlines()
    titles = [line for line in lines if line.startswith("Host ") or "  (" in line]
    assert titles == [
        "Host laptop: 2 points",
        f"documents@laptop  (laptop:{source})",
        "Host pc: 2 points",
        f"another  (pc:{other})",
        f"documents  (pc:{source})",
    ]
    assert lines[:2] == [titles[0], ""]
    assert lines.count("") == 4
    run("forget", "-q", repo, "documents@laptop/latest", "documents@laptop/latest~1",
        "--allow-none")  # fmt: skip
    assert "Host " not in run("list", repo).stdout


def test_list_of_an_empty_repository(tmp_path: Path) -> None:
    run("init", tmp_path / "repo")
    assert run_json("list", tmp_path / "repo") == {"points": [], "exit_code": 0}
    assert "ibtfs backup" in run("list", tmp_path / "repo").stdout
    assert "no backup points" in run("ls", tmp_path / "repo", "latest", code=1).stderr


@pytest.mark.damaged
def test_damaged_manifest(repo: Path) -> None:
    first, second = (point["id"] for point in run_json("list", repo)["points"])
    manifest = repo / "points" / second
    manifest.write_bytes(manifest.read_bytes()[:-1])
    result = run("list", repo, code=1)
    assert first in result.stdout
    assert second in result.stderr
    answer = run_json("list", repo, code=1)
    assert [point["id"] for point in answer["points"]] == [first]
    assert [point["id"] for point in answer["damaged"]] == [second]
    assert second in run("ls", repo, "latest", code=1).stderr  # it may be the latest
    assert second in run("ls", repo, first).stderr
    damages = run_json("check", repo, code=1)["damages"]
    assert any(second in damage["points"] for damage in damages)
    assert second in run("check", repo, code=1).stderr


def on_terminal(columns: int, *words: object) -> list[str]:
    """The lines that a command prints on a terminal so wide."""
    reading, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
    command = [sys.executable, "-m", "ibtfs", *map(str, words)]
    with subprocess.Popen(command, stdout=terminal, stdin=terminal, env=environment) as process:
        os.close(terminal)
        text = b""
        try:
            while data := os.read(reading, 65536):
                text += data
        except OSError:
            pass  # the end of a terminal
        assert process.wait() == 0
    os.close(reading)
    return text.decode().splitlines()


def test_list_fits_narrow_terminals(tmp_path: Path, source: Path) -> None:
    repository = tmp_path / "repository"
    run(
        "backup", "--tag", "before-upgrade", "--comment", "a comment, long " * 5, source, repository
    )
    piped = run("list", repository).stdout.splitlines()
    shown = {columns: on_terminal(columns, "list", repository) for columns in (20, 40, 80, 300)}
    for columns, lines in shown.items():
        assert len(lines) == 3
        assert max(map(len, lines)) <= columns
        assert lines[1].startswith("POINT")
        assert piped[2].split()[0] in lines[2]
    assert shown[300][1] == piped[1]
    assert shown[40][1].split()[:2] == ["POINT", "AGE"]
    assert "ID" not in shown[80][1].split()


def test_the_last_is_the_newest_though_the_clock_was_set_back(repo: Path) -> None:
    opened = Repository.open(os.fsencode(repo))
    newest = opened.points.all().points[-1]
    sequence = newest.sequence + 1
    later = replace(newest, id=f"{newest.id[:-2]}zz", sequence=sequence, time_ns=1, parent="")
    opened.points.commit(later)
    assert run_json("list", repo)["points"][-1]["id"] == later.id
