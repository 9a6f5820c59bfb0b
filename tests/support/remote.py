"""What tests of commands on repositories elsewhere share: a source, its edits, two machines."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ibtfs.store.storage import waiting
from ibtfs.store.storage.objects import s3
from tests.support import differences, snapshot
from tests.support.commands import command, run, run_json
from tests.support.repositories import settle
from tests.support.trees import make_tree

MIB = 1 << 20


def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again sooner in this process, whoever is asked."""
    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.02)
    for name in ("FIRST_PAUSE", "FIRST_PATIENT_PAUSE"):
        monkeypatch.setattr(s3, name, 0.02)


def make_source(folder: Path) -> Path:
    """A folder with a file of each kind that matters on the way: small, large, empty, a link."""
    make_tree(folder, {
        "a": b"one\n" * 500, "sub": {"b": os.urandom(70_000)}, "large": os.urandom(5 * MIB),
        "empty": b"",
    })  # fmt: skip
    os.symlink("a", folder / "link")
    settle()
    return folder


def edit(source: Path, number: int) -> None:
    """Change some of it, each *number* elsewhere."""
    with (source / "large").open("r+b") as file:
        file.seek(number * 300_000)
        file.write(os.urandom(2000))
    (source / f"new{number}").write_bytes(os.urandom(9000))
    settle()


def copied(source: Path, target: Path) -> Path:
    """A copy of it as it is now."""
    subprocess.run(["cp", "-a", source, target], check=True)
    return target


def assert_restored(place: str, point: str, expected: Path, target: Path) -> None:
    """A point, restored to *target* for a moment, is what was *expected*."""
    run("restore", "-q", place, point, target)
    assert differences(snapshot(target), snapshot(expected)) == []
    shutil.rmtree(target)


def assert_two_machines_at_once(place: str, source: Path, other: Path) -> None:
    """Two hosts make the first backup of theirs at the same time, and both are whole."""
    run("init", "-q", place)
    both = [subprocess.Popen(command("backup", "-q", "--host", host, path, place))
            for host, path in (("one", source), ("two", other))]  # fmt: skip
    assert [process.wait(240) for process in both] == [0, 0]
    assert run_json("check", "--read-data", place)["damages"] == []
    assert sorted(one["host"] for one in run_json("list", place)["points"]) == ["one", "two"]


def assert_whole(place: str, point: str, expected: Path, target: Path) -> None:
    """As :func:`assert_restored`, and nothing in the repository is damaged."""
    assert_restored(place, point, expected, target)
    assert run_json("check", "--read-data", place)["damages"] == []
