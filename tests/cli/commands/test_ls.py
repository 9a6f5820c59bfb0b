"""``ibtfs ls``: entries, and names that are not plain text."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import subprocess
from pathlib import Path

from tests.support.commands import ODD, command, outside, run, run_json


def test_ls(repo: Path, source: Path) -> None:
    odd = json.dumps(ODD.decode("utf-8", "replace"))
    rows = {row["path"]: row for row in run_json("ls", repo, "latest")["entries"]}
    assert list(rows) == ["a.txt", "link", "new.txt", json.loads(odd), "sub"]
    assert base64.b64decode(rows[json.loads(odd)]["path_base64"]) == ODD
    assert rows["link"]["target"] == "a.txt"
    assert rows["a.txt"]["mtime_ns"] == (source / "a.txt").stat().st_mtime_ns
    assert [row["type"] for row in rows.values()] == [
        "file",
        "symlink",
        "file",
        "file",
        "directory",
    ]
    assert run("ls", "-R", repo, "latest", "sub").stdout == "sub/b.bin\n"
    assert run("ls", repo, "latest", source / "sub").stdout == "b.bin\n"
    shown = run("ls", "-l", repo, "documents/latest").stdout
    assert re.search(r"^-rw-r--r-- +1 \w+ +\w+ +13 \d{4}-\d\d-\d\d \S+ a\.txt$", shown, re.M)
    assert "link -> a.txt\n" in shown


def test_names_in_a_pipe_are_as_they_are(repo: Path) -> None:
    assert b"\n" + ODD + b"\n" in outside("ls", repo, "latest").stdout


def test_names_on_a_terminal_are_printable(repo: Path) -> None:
    reading, terminal = pty.openpty()
    subprocess.run(command("ls", repo, "latest"), stdout=terminal, check=True, timeout=240)
    os.close(terminal)
    shown = os.read(reading, 1 << 16)
    os.close(reading)
    assert b"\r\nodd \\xff\\n\\e[31m\r\n" in shown
