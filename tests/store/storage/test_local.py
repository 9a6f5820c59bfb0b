"""A storage in a local folder: what it does beyond the contract of all storages."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from ibtfs.errors import ObjectMissing, ObjectUnreadable, StorageFailed
from ibtfs.store.layout import FOLDERS
from ibtfs.store.storage.local import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    made = LocalStorage(os.fsencode(tmp_path / "repository"))
    made.create()
    made.make_folders()
    return made


def test_an_empty_folder_can_be_deleted_and_no_other(storage: LocalStorage) -> None:
    os.mkdir(storage.path("archives/x"))
    storage.delete("archives/x")
    assert storage.list("archives") == []
    storage.put_new("archives/y/data.1", b"")
    storage.delete("archives/y")
    assert storage.list("archives/y") == ["data.1"]
    storage.delete("archives")
    assert storage.list("") == sorted(FOLDERS)


def test_leases_tell_whether_their_owner_lives(storage: LocalStorage) -> None:
    lease = storage.lease("locks/l", "0a1b2c3d")
    assert storage.list("locks") == ["l"]
    assert storage.is_held("locks/l")
    assert lease.is_in_place()
    assert storage.age("locks/l", "locks/l") == 0
    os.utime(storage.path("locks/l"), (1, 1))
    storage.put_new("points/p", b"")
    os.utime(storage.path("points/p"), (4, 4))
    assert storage.age("locks/l", "points/p") == 3
    lease.release()
    assert storage.list("locks") == []
    assert not storage.is_held("locks/l")
    assert storage.age("locks/l", "points/p") == float("inf")
    assert storage.age("points/p", "locks/l") == 0


def test_tokens_tell_of_changes(storage: LocalStorage) -> None:
    storage.put_new("points/p", b"1")
    os.utime(storage.path("points"), ns=(1, 1))
    old, token = storage.folder_token("points"), storage.token("points/p")
    assert old == 1
    storage.put_new("points/q", b"1")
    assert storage.folder_token("points") == 0  # just changed: the next change may not show
    assert storage.token("points/p") == token
    assert storage.token("points/q") != token
    assert storage.changed_ns("nowhere") == 0


def test_what_the_disk_refuses_is_told_and_is_not_taken_for_missing(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    storage.put_new("points/p", b"1")
    for call, use in (
        ("listdir", lambda: storage.list("points")),
        ("unlink", lambda: storage.delete("points/p")),
        ("mkdir", lambda: storage.put_new("archives/x/data.1", b"")),
        ("statvfs", storage.space),
        ("lstat", lambda: storage.has_folder("points")),
        ("fsync", lambda: storage.sync(["points"])),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refused)
            with pytest.raises(StorageFailed, match="Input/output"):
                use()
    with storage.open("points/p") as stored, monkeypatch.context() as patch:
        patch.setattr(os, "pread", refused)
        with pytest.raises(ObjectUnreadable, match="points/p"):
            stored.read(0, 1)


def test_a_read_that_is_cut_short_goes_on(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put_new("points/p", b"12345")
    whole_read = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: whole_read(fd, min(size, 2), at))
    with storage.open("points/p") as stored:
        assert stored.read(0, 9) == b"12345"
        assert stored.read(1, 3) == b"234"


def test_what_is_no_file_is_no_object_and_stays(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    os.symlink(tmp_path / "secret", storage.path("points/link"))
    os.mkfifo(storage.path("points/fifo"))
    for name in ("points/link", "points/fifo", "points"):
        with pytest.raises(ObjectUnreadable, match=name):
            storage.open(name)
    storage.delete("points/link")
    assert os.path.islink(storage.path("points/link"))


def test_folders_that_are_links_lead_nowhere(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "data.1").write_bytes(b"x")
    os.symlink(tmp_path / "elsewhere", storage.path("archives/x"))
    with suppress(StorageFailed, ObjectMissing):
        storage.put_new("archives/x/index.1", b"")
    with suppress(StorageFailed):
        storage.delete("archives/x/data.1")
    assert os.listdir(tmp_path / "elsewhere") == ["data.1"]


@pytest.mark.parametrize(("shared", "folder", "file"), [(False, 0o700, 0o600),
                                                        (True, 0o2770, 0o660)])  # fmt: skip
def test_only_who_may_read_can_read(tmp_path: Path, shared: bool, folder: int, file: int) -> None:
    before = os.umask(0)
    try:
        made = LocalStorage(os.fsencode(tmp_path / "r"), shared=shared)
        made.create()
        made.make_folders()
        made.put_new("archives/x/data.1", b"")
    finally:
        os.umask(before)
    modes = {os.stat(made.path(name)).st_mode & 0o7777 for name in ("", "points", "archives/x")}
    assert modes == {folder}
    assert os.stat(made.path("archives/x/data.1")).st_mode & 0o7777 == file


def test_a_folder_is_durable_before_anything_lies_in_it(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    mkdir, fsync = os.mkdir, os.fsync

    def made(name: str, *rest: object, **options: object) -> None:
        events.append(f"make {name}")
        mkdir(name, *rest, **options)  # type: ignore[arg-type]

    def synced(descriptor: int) -> None:
        events.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    monkeypatch.setattr(os, "mkdir", made)
    monkeypatch.setattr(os, "fsync", synced)
    os.close(storage.opened_folder("archives/x", make=True))
    assert events == ["make x", "sync archives"]
    os.close(storage.opened_folder("archives/x", make=True))
    assert len(events) == 2
