"""The contract of a storage that lies in a folder of this machine, which can be looked into."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from ibtfs.errors import (
    NotARepository,
    ObjectMissing,
    ObjectUnreadable,
    RepositoryError,
    RepositoryExists,
)
from ibtfs.store.layout import CONFIG, FOLDERS
from ibtfs.store.storage.base import FolderStorage, whole
from ibtfs.store.storage.opening import storage_at
from tests.support.places import IN_A_FOLDER

pytestmark = pytest.mark.parametrize("place", IN_A_FOLDER, indirect=True)


def test_a_place_is_made_once(place: bytes, folder: Path) -> None:
    storage = storage_at(place)
    assert not storage.has_repository()
    with pytest.raises(NotARepository, match="does not exist"):
        storage.require_there()
    storage.check_new()
    storage.create()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    storage.require_there()
    assert not storage.has_repository()
    storage.put_new(CONFIG, b"{}")
    assert storage.has_repository()
    with pytest.raises(RepositoryExists, match="is a repository already"):
        storage.create()


def test_what_is_no_new_folder_becomes_no_repository(place: bytes, folder: Path) -> None:
    storage = storage_at(place)
    folder.write_bytes(b"")
    with pytest.raises(RepositoryExists, match="is not a folder"):
        storage.check_new()
    folder.unlink()
    folder.mkdir()
    storage.check_new()
    (folder / "notes").write_bytes(b"")
    with pytest.raises(RepositoryExists, match="not empty and not a repository"):
        storage.check_new()
    with pytest.raises(RepositoryError, match="does not exist"):
        storage_at(place + b"/none/there").check_new()


@pytest.mark.parametrize(("shared", "mode", "file"), [(False, 0o700, 0o600),
                                                      (True, 0o2770, 0o660)])  # fmt: skip
def test_only_who_may_read_can_read(
    place: bytes, folder: Path, shared: bool, mode: int, file: int
) -> None:
    storage = storage_at(place).shared_as(shared)
    storage.create()
    storage.make_folders()
    storage.put_new("archives/x/data.1", b"")
    modes = {stat.S_IMODE((folder / n).stat().st_mode) for n in ("", "points", "archives/x")}
    assert modes == {mode}
    assert stat.S_IMODE((folder / "archives/x/data.1").stat().st_mode) == file


def test_a_folder_goes_with_the_last_that_was_in_it_but_not_one_at_the_top(
    storage: FolderStorage,
) -> None:
    storage.put_new("tags/p/a", b"")
    storage.put_new("tags/p/b", b"")
    storage.delete("tags/p/a")
    assert storage.list("tags") == ["p"]
    storage.delete("tags/p/b")
    assert storage.list("tags") == []
    assert storage.list("") == sorted(FOLDERS)
    storage.delete("tags/p/b")  # missing is fine


def test_an_empty_folder_can_be_deleted_and_no_other(storage: FolderStorage, folder: Path) -> None:
    (folder / "archives/x").mkdir()
    storage.delete("archives/x")
    assert storage.list("archives") == []
    storage.put_new("archives/y/data.1", b"")
    storage.delete("archives/y")
    assert storage.list("archives/y") == ["data.1"]
    storage.delete("archives")
    assert storage.list("") == sorted(FOLDERS)


def test_a_damaged_object_gets_its_bytes_back(storage: FolderStorage, folder: Path) -> None:
    storage.put_new("archives/x/data.1", b"right")
    (folder / "archives/x/data.1").write_bytes(b"wrong")
    for _ in range(2):
        with storage.replace("archives/x/data.1") as upload:
            upload.write(b"right")
            upload.finish()
        assert whole(storage, "archives/x/data.1", 5) == b"right"
        (folder / "archives/x/data.1").unlink()  # and where it is gone
    assert storage.list("archives/x", unfinished=True) == []


def test_what_is_no_file_is_no_object(storage: FolderStorage, folder: Path) -> None:
    os.mkfifo(folder / "points/fifo")
    for name in ("points/fifo", "points"):
        with pytest.raises(ObjectUnreadable, match=name):
            storage.open(name)


def test_names_that_are_no_text_are_listed(storage: FolderStorage, folder: Path) -> None:
    (folder / os.fsdecode(b"points/\xff")).write_bytes(b"")
    assert storage.list("points") == [os.fsdecode(b"\xff")]


def test_a_lease_is_young_while_its_owner_refreshes_it(
    storage: FolderStorage, folder: Path
) -> None:
    lease = storage.lease("locks/l", "0a1b2c3d")
    assert storage.list("locks") == ["l"]
    assert lease.is_in_place()
    assert storage.is_held("locks/l") is not False
    os.utime(folder / "locks/l", (1, 1))
    storage.put_new("points/p", b"")
    os.utime(folder / "points/p", (4, 4))
    assert storage.age("locks/l", "points/p") == 3
    assert storage.age("points/p", "locks/l") == -3
    lease.refresh()
    assert abs((folder / "locks/l").stat().st_mtime - time.time()) < 60
    lease.release()
    assert storage.list("locks") == []
    assert storage.is_held("locks/l") is False
    assert storage.age("locks/l", "points/p") == float("inf")
    assert storage.age("points/p", "locks/l") == 0


def test_the_volume_tells_of_changes(storage: FolderStorage, folder: Path) -> None:
    storage.put_new("points/p", b"1")
    assert storage.folder_token("points") == 0  # just changed: the next change may not show
    assert storage.has_folder("points")
    assert not storage.has_folder("nowhere")
    assert storage.changed_ns("nowhere") == 0
    assert abs(storage.made("points/p") - time.time()) < 60
    assert storage.made("points/q") == 0
    token = storage.token("points/p")
    assert storage.token("points/p") == token
    storage.put_new("points/q", b"12")
    assert storage.token("points/q") != token
    with pytest.raises(ObjectMissing):
        storage.token("points/r")
    assert storage.refusal() == ""
    storage.sync(["points"])
    space, here = storage.space(), os.statvfs(folder)
    assert (space.block_size, space.blocks) == (here.f_frsize, here.f_blocks)
