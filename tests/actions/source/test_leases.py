"""Files that a program holds leases on: asked for together, waited for together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.actions.source.leases import LeasePatience
from ibtfs.store.repository import Repository
from tests.support.repositories import Recorder, back_up, content, the_point

BREAK_TIME = Path("/proc/sys/fs/lease-break-time")
HOLDER = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)  # asked to give it back, it does not
held = [os.open(path, os.O_RDWR) for path in sys.argv[1:]]
for descriptor in held:
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def soon() -> Iterator[None]:
    """The kernel takes leases away after 3 seconds."""
    before = BREAK_TIME.read_text()
    BREAK_TIME.write_text("3")
    yield
    BREAK_TIME.write_text(before)


@pytest.mark.usefixtures("soon")
def test_files_whose_leases_nobody_gives_back_are_read(
    tmp_path: Path, repository: Repository
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    files = [source / f"{number:02}" for number in range(12)]
    for path in files:
        path.write_bytes(path.name.encode())
    command = [sys.executable, "-c", HOLDER, *map(str, files)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        told = Recorder()
        point = the_point(back_up(repository, source, told))
        holder.kill()
    assert told.problems == []
    for path in files:
        assert content(repository, point, os.fsencode(path.name)) == path.name.encode()


def test_what_one_owner_has_used_up_is_not_taken_from_another() -> None:
    patience = LeasePatience(0.1)
    while patience.wait(1):
        pass
    assert not patience.wait(1)
    assert patience.wait(2)
