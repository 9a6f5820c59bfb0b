"""The contract of a storage: what each must do, in a local folder and on a real server."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ibtfs.errors import (
    LockLost,
    NotARepository,
    ObjectExists,
    ObjectMissing,
    ObjectUnreadable,
    RepositoryError,
    RepositoryExists,
)
from ibtfs.store.layout import CONFIG, FOLDERS
from ibtfs.store.storage.base import FolderStorage, is_unfinished, token_of, whole
from ibtfs.store.storage.opening import storage_at
from tests.support.sshd import Server, served

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(params=["local", "sftp", "ssh"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Where a repository may be made: in this folder, or in it by a server."""
    folder = os.fsencode(tmp_path / "repository")
    if request.param == "local":
        return folder
    server: Server = request.getfixturevalue("server")
    monkeypatch.setenv("PATH", server.path)
    return b"%b://127.0.0.1:%d%b" % (request.param.encode(), server.port, folder)


@pytest.fixture
def storage(place: bytes) -> FolderStorage:
    made = storage_at(place)
    made.create()
    made.make_folders()
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the storage has, as it lies on the disk."""
    return tmp_path / "repository"


# Places


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


# Objects


def test_what_is_put_is_there_and_nothing_before_it_is_whole(storage: FolderStorage) -> None:
    with storage.put("archives/x/data.1") as upload:
        upload.write(b"ab")
        assert storage.list("archives/x") == []
        (name,) = storage.list("archives/x", unfinished=True)
        assert is_unfinished(name)
        with pytest.raises(ObjectMissing):
            storage.open("archives/x/data.1")
        upload.write(memoryview(b"cde"))
        upload.finish()
    assert upload.size == 5
    assert storage.list("archives/x", unfinished=True) == ["data.1"]
    assert whole(storage, "archives/x/data.1", 5) == b"abcde"


def test_ranges(storage: FolderStorage) -> None:
    storage.put_new("points/p", bytes(range(100)))
    with storage.open("points/p") as stored:
        assert stored.size == 100
        assert stored.name == "points/p"
        assert stored.read(10, 3) == b"\x0a\x0b\x0c"
        assert stored.read(98, 10) == b"\x62\x63"
        assert stored.read(100, 1) == b""


def test_what_is_open_is_read_to_its_end_though_it_is_deleted(storage: FolderStorage) -> None:
    storage.put_new("points/p", b"12345")
    with storage.open("points/p") as stored:
        assert not stored.is_removed()
        storage.delete("points/p")
        assert stored.read(0, 9) == b"12345"
        assert stored.is_removed()


def test_a_name_is_given_once(storage: FolderStorage) -> None:
    storage.put_new("points/p", b"first")
    with pytest.raises(ObjectExists, match="points/p"):
        storage.put_new("points/p", b"second")
    assert whole(storage, "points/p", 10) == b"first"
    assert storage.list("points", unfinished=True) == ["p"]


def test_of_many_who_put_the_same_name_one_wins(storage: FolderStorage) -> None:
    won: list[int] = []

    def put(number: int) -> None:
        try:
            storage.put_new("points/p", b"%d" % number)
        except ObjectExists:
            return
        won.append(number)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert whole(storage, "points/p", 10) == b"%d" % won[0]


def test_an_upload_that_is_left_leaves_nothing(storage: FolderStorage) -> None:
    upload = storage.put("tags/p/t")
    with suppress(RuntimeError), upload:
        upload.write(b"x")
        raise RuntimeError
    assert storage.list("tags", unfinished=True) == []
    upload.abort()  # once more is harmless


def test_names_are_sorted_and_of_one_folder(storage: FolderStorage) -> None:
    for name in ("b", "a", "c"):
        storage.put_new(f"tags/p/{name}", b"")
    assert storage.list("tags/p") == ["a", "b", "c"]
    assert storage.list("tags") == ["p"]
    assert storage.list("nowhere") == []
    assert storage.list("") == sorted(FOLDERS)


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


def test_what_is_larger_than_it_may_be_is_not_read(storage: FolderStorage) -> None:
    storage.put_new("points/p", b"12345")
    with pytest.raises(ObjectUnreadable, match="too large"):
        whole(storage, "points/p", 4)


def test_what_is_missing_is_called_missing(storage: FolderStorage) -> None:
    for name in ("points/none", "none/none", "archives/none/index.1"):
        with pytest.raises(ObjectMissing, match=name):
            storage.open(name)


def test_only_uploads_of_one_token_are_dropped(storage: FolderStorage) -> None:
    names = []
    for token in ("0a1b2c3d", "00000000"):
        lease = storage.lease("locks/" + token, token)
        for name in ("config", "points/p", "archives/x/data.1"):
            upload = storage.put(name)
            upload.write(b"1")
            names.append((token, upload))
        lease.release()
    folders = ("", "points", "archives/x")
    assert sum(len([n for n in storage.list(f, unfinished=True) if is_unfinished(n)])
               for f in folders) == 6  # fmt: skip
    storage.drop_unfinished("0a1b2c3d")
    left = [n for f in folders for n in storage.list(f, unfinished=True) if is_unfinished(n)]
    assert [token_of(name) for name in left] == ["00000000"] * 3
    for _, upload in names:
        upload.abort()


def test_large_objects_come_back(storage: FolderStorage) -> None:
    data = os.urandom(5 * MIB + 7)
    with storage.put("archives/x/data.1") as upload:
        for first in range(0, len(data), 700_001):
            upload.write(data[first : first + 700_001])
        upload.finish()
    assert upload.size == len(data)
    with storage.open("archives/x/data.1") as stored:
        assert stored.size == len(data)
        assert stored.read(0, len(data)) == data
        assert stored.read(1, 3 * MIB) == data[1 : 1 + 3 * MIB]
        assert stored.read(len(data) - 5, 4096) == data[-5:]


def test_threads_read_and_write_at_once(storage: FolderStorage) -> None:
    data = [os.urandom(300_000) for _ in range(6)]
    wrong: list[int] = []

    def work(number: int) -> None:
        storage.put_new(f"archives/x/data.{number}", data[number])
        with storage.open(f"archives/x/data.{number}") as stored:
            for first in range(0, 300_000, 70_000):
                if stored.read(first, 70_000) != data[number][first : first + 70_000]:
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(storage.list("archives/x")) == 6


def test_many_objects_are_open_at_once(storage: FolderStorage) -> None:
    count = 250
    for number in range(count):
        storage.put_new(f"tags/p/{number}", b"%d" % number)
    opened = [storage.open(f"tags/p/{number}") for number in range(count)]
    for number, stored in enumerate(opened):
        assert stored.read(0, 9) == b"%d" % number
    assert len(storage.list("tags/p")) == count
    for stored in opened:
        stored.close()
        stored.close()


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


# Leases


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


def test_who_lost_his_lease_finishes_nothing(storage: FolderStorage) -> None:
    lease = storage.lease("locks/l", "0a1b2c3d")
    upload = storage.put("points/p")
    storage.delete("locks/l")
    assert not lease.is_in_place()
    with suppress(OSError):
        lease.refresh()
    assert storage.list("locks") == []
    with pytest.raises(LockLost), upload:
        upload.finish()
    assert storage.list("points", unfinished=True) == []
    lease.release()


def test_what_was_begun_under_a_broken_lease_is_not_finished(storage: FolderStorage) -> None:
    lease = storage.lease("locks/l", "0a1b2c3d")
    upload = storage.put("points/p")
    upload.write(b"x")
    storage.drop_unfinished("0a1b2c3d")
    with pytest.raises(LockLost), upload:
        upload.finish()
    assert storage.list("points", unfinished=True) == []
    lease.release()


# The volume


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
