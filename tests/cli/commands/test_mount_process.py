"""``ibtfs mount`` in the background, in the foreground, and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import command, outside, run, run_json


def test_mount_in_the_background(repo: Path, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    assert "does not exist" in run("mount", repo, mountpoint, code=1).stderr
    mountpoint.mkdir()
    result = outside("mount", repo, mountpoint)
    try:
        assert result.returncode == 0, result.stderr
        shown = result.stdout.decode()
        assert shown.count("\n") == 1
        assert f"Mounted on {mountpoint}: 2 backup points" in shown
        seen = (mountpoint / "documents" / "latest" / "a.txt").read_bytes()
        assert seen == b"first\nsecond\n"
        assert "already mounted" in run("mount", repo, mountpoint, code=1).stderr
    finally:
        ended = run("umount", mountpoint)
    assert ended.stdout == f"Unmounted {mountpoint}\n"
    assert "Nothing is mounted" in run_json("umount", mountpoint, code=1)["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_mount_in_the_foreground(number: int, repo: Path, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    words = command("mount", "--foreground", "--json", repo, mountpoint)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        answer = json.loads(process.stdout.readline())
        assert answer == {"mountpoint": str(mountpoint), "points": 2, "exit_code": 0}
        assert os.listdir(mountpoint) == ["documents"]
        process.send_signal(number)
        _, told = process.communicate(timeout=240)
    assert (process.returncode, told) == (0, b"")
    assert not os.path.ismount(mountpoint)


def test_mount_point_refused(repo: Path, tmp_path: Path, source: Path) -> None:
    assert "not empty" in run("mount", repo, source, code=1).stderr
    assert "overlap" in run("mount", repo, tmp_path, code=1).stderr
    assert "overlap" in run("mount", repo, repo / "points", code=1).stderr
