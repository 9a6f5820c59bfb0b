"""The folders above a source, as they are stored with a point."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from ibtfs.actions.source.parents import parents_of
from ibtfs.format.point import Parent
from ibtfs.store.repository import Repository
from tests.support.repositories import Backup
from tests.support.trees import posix_acl

NOBODY = 0xFFFFFFFF


def above(path: Path) -> list[Parent]:
    found = [os.stat(parent) for parent in path.parents]
    return [Parent(one.st_mode & 0o777, one.st_uid, one.st_gid) for one in found]


def test_a_point_tells_of_the_folders_above_its_source(tmp_path: Path, backup_of: Backup) -> None:
    source = tmp_path / "mine" / "deep" / "source"
    source.mkdir(parents=True)
    (source / "file").write_bytes(b"x")
    os.chown(tmp_path / "mine", 1234, 5678)
    (tmp_path / "mine").chmod(0o1750)
    (tmp_path / "link").symlink_to(source)
    for path in (source, tmp_path / "link"):
        point = backup_of(path).point
        assert point is not None
        assert list(point.parents or ()) == above(source)
    assert point.parents[1] == Parent(0o750, 1234, 5678)
    single = backup_of(source / "file").point
    assert single is not None
    assert list(single.parents or ()) == above(source / "file")


def test_standard_input_lay_in_no_folder(repository: Repository, backup_of: Backup) -> None:
    backup_of(b"/stdin", stream=io.BytesIO(b"x"), stdin_name=b"x")
    points = repository.points.all().points
    assert [point.parents for point in points] == [()]


def test_a_folder_above_that_cannot_be_looked_at_is_closed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that is closed twice may be somebody else's by then."""
    closed: list[int] = []
    folder, fstat, close = os.open(tmp_path, os.O_RDONLY), os.fstat, os.close

    def failing(descriptor: int) -> os.stat_result:
        if descriptor != folder:
            raise OSError(errno.EIO, "Input/output error")
        return fstat(descriptor)

    def counting(descriptor: int) -> None:
        close(descriptor)
        closed.append(descriptor)

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", failing)
        patch.setattr(os, "close", counting)
        assert parents_of(folder) is None
    assert len(closed) == 2
    assert len(os.listdir("/proc/self/fd")) == before
    close(folder)


def test_of_a_folder_with_an_acl_only_what_its_owner_may_is_told(tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    (listed / "source").mkdir(parents=True)
    entries = posix_acl(
        (1, 7, NOBODY), (2, 7, 77), (4, 5, NOBODY), (16, 7, NOBODY), (32, 5, NOBODY)
    )
    os.setxattr(listed, "system.posix_acl_access", entries)
    folder = os.open(listed / "source", os.O_RDONLY)
    try:
        found = parents_of(folder)
    finally:
        os.close(folder)
    assert found is not None
    assert found[0] == Parent(0o700, 0, 0)
    assert list(found[1:]) == above(listed)
