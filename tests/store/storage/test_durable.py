"""Names that become durable, also where a file system has no links, and how errors are told."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.errors import IbtfsError, ObjectMissing, ObjectUnreadable, StorageFailed, StorageFull
from ibtfs.store.storage import durable


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "part").write_bytes(b"new")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refused)


def test_a_new_name_never_takes_an_old_one_away(tmp_path: Path, folder: int) -> None:
    (tmp_path / "name").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        durable.rename_new(folder, "part", "name")
    assert (tmp_path / "name").read_bytes() == b"old"
    durable.rename_new(folder, "part", "other")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "name": b"old", "other": b"new",
    }  # fmt: skip


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS])
def test_nor_where_there_are_no_links(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "name").symlink_to("nowhere")
    refuse(monkeypatch, "link", number)
    with pytest.raises(FileExistsError):
        durable.rename_new(folder, "part", "name")
    assert (tmp_path / "name").is_symlink()
    durable.rename_new(folder, "part", "other")
    assert (tmp_path / "other").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["name", "other"]


def test_another_error_of_a_link_is_no_reason_to_rename(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "link", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        durable.rename_new(folder, "part", "name")
    assert os.listdir(tmp_path) == ["part"]


def test_names_that_could_not_be_synced_are_told_but_where_folders_never_are(
    folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "fsync", errno.EINVAL)
    durable.sync_names(folder)
    refuse(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        durable.sync_names(folder)


@pytest.mark.parametrize(
    ("number", "reading", "expected"),
    [
        (errno.ENOSPC, False, StorageFull),
        (errno.EDQUOT, True, StorageFull),
        (errno.ENOENT, True, ObjectMissing),
        (errno.ESTALE, False, ObjectMissing),
        (errno.EIO, True, ObjectUnreadable),
        (errno.ELOOP, True, ObjectUnreadable),
        (errno.EIO, False, StorageFailed),
        (errno.EACCES, True, StorageFailed),
    ],
)
def test_only_what_a_disk_does_not_give_is_damage(
    number: int, reading: bool, expected: type[IbtfsError]
) -> None:
    told = durable.failed(OSError(number, os.strerror(number)), "x/y", reading=reading)
    assert type(told) is expected
    assert "x/y" in str(told)
