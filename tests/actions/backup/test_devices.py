"""File systems below a source: their numbers, and what is mounted no more."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.actions.backup.tree import TreeOptions
from ibtfs.actions.source.scan import Exclusions
from ibtfs.format.entry import LEFT_OUT
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory
from tests.support.repositories import back_up, settled


@pytest.fixture
def mount_point(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own below the source."""
    place = tmp_path / "source" / "mnt"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        while (
            subprocess.run(["umount", place], check=False, stderr=subprocess.DEVNULL).returncode
            == 0
        ):
            pass


def test_a_mount_that_was_left_out_is_whole_when_it_is_entered(
    mount_point: Path, repository: Repository
) -> None:
    source = mount_point.parent
    (mount_point / "file").write_bytes(b"1")
    settled(mount_point)
    time.sleep(0.2)
    rows = []
    for one_file_system in (True, False):
        chosen = TreeOptions(exclusions=Exclusions(one_file_system=one_file_system))
        point = back_up(repository, source, tree=chosen).point
        assert point
        rows.append((next(iter(Directory(repository, point.state).entries())), point.devices))
    assert [entry.flags & LEFT_OUT for entry, _ in rows] == [LEFT_OUT, 0]
    assert [devices for _, devices in rows] == [(b"",), (b"", b"mnt")]


def test_numbers_of_what_is_mounted_no_more_are_free(
    mount_point: Path, repository: Repository
) -> None:
    source = mount_point.parent
    first = back_up(repository, source).point
    subprocess.run(["umount", mount_point], check=True)
    second = back_up(repository, source).point
    (source / "other").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "other"], check=True)
    try:
        third = back_up(repository, source).point
    finally:
        subprocess.run(["umount", source / "other"], check=True)
    assert first
    assert second
    assert third
    assert first.devices == (b"", b"mnt")
    assert second.devices == (b"",)
    assert third.devices == (b"", b"other")
