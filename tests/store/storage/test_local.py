"""The contract of a storage: what each must do; here the local folder does it."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from ibtfs.errors import ObjectExists, ObjectMissing, ObjectUnreadable, StorageFailed
from ibtfs.store.layout import FOLDERS
from ibtfs.store.storage.base import Storage, is_unfinished, token_of, whole
from ibtfs.store.storage.local import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    made = LocalStorage.create(os.fsencode(tmp_path / "repository"))
    made.make_folders()
    return made


def test_what_is_put_is_there_and_nothing_before_it_is_whole(storage: Storage) -> None:
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


def test_ranges(storage: Storage) -> None:
    storage.put_new("points/p", bytes(range(100)))
    with storage.open("points/p") as stored:
        assert stored.size == 100
        assert stored.name == "points/p"
        assert stored.read(10, 3) == b"\x0a\x0b\x0c"
        assert stored.read(98, 10) == b"\x62\x63"
        assert stored.read(100, 1) == b""


def test_what_is_open_is_read_to_its_end_though_it_is_deleted(storage: Storage) -> None:
    storage.put_new("points/p", b"12345")
    with storage.open("points/p") as stored:
        assert not stored.is_removed()
        storage.delete("points/p")
        assert stored.read(0, 9) == b"12345"
        assert stored.is_removed()


def test_a_name_is_given_once(storage: Storage) -> None:
    storage.put_new("points/p", b"first")
    with pytest.raises(ObjectExists, match="points/p"):
        storage.put_new("points/p", b"second")
    assert whole(storage, "points/p", 10) == b"first"
    assert storage.list("points", unfinished=True) == ["p"]


def test_of_many_who_put_the_same_name_one_wins(storage: Storage) -> None:
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


def test_an_upload_that_is_left_leaves_nothing(storage: Storage) -> None:
    upload = storage.put("tags/p/t")
    with suppress(RuntimeError), upload:
        upload.write(b"x")
        raise RuntimeError
    assert storage.list("tags", unfinished=True) == []
    upload.abort()  # once more is harmless


def test_names_are_sorted_and_of_one_folder(storage: Storage) -> None:
    for name in ("b", "a", "c"):
        storage.put_new(f"tags/p/{name}", b"")
    assert storage.list("tags/p") == ["a", "b", "c"]
    assert storage.list("tags") == ["p"]
    assert storage.list("nowhere") == []
    assert storage.list("") == sorted(FOLDERS)


def test_a_folder_goes_with_the_last_that_was_in_it_but_not_one_at_the_top(
    storage: Storage,
) -> None:
    storage.put_new("tags/p/a", b"")
    storage.put_new("tags/p/b", b"")
    storage.delete("tags/p/a")
    assert storage.list("tags") == ["p"]
    storage.delete("tags/p/b")
    assert storage.list("tags") == []
    assert storage.list("") == sorted(FOLDERS)
    storage.delete("tags/p/b")  # missing is fine


def test_an_empty_folder_can_be_deleted_and_no_other(storage: LocalStorage) -> None:
    os.mkdir(storage.path("archives/x"))
    storage.delete("archives/x")
    assert storage.list("archives") == []
    storage.put_new("archives/y/data.1", b"")
    storage.delete("archives/y")
    assert storage.list("archives/y") == ["data.1"]
    storage.delete("archives")
    assert storage.list("") == sorted(FOLDERS)


def test_what_is_larger_than_it_may_be_is_not_read(storage: Storage) -> None:
    storage.put_new("points/p", b"12345")
    with pytest.raises(ObjectUnreadable, match="too large"):
        whole(storage, "points/p", 4)


def test_what_is_missing_is_called_missing(storage: Storage) -> None:
    for name in ("points/none", "none/none", "archives/none/index.1"):
        with pytest.raises(ObjectMissing, match=name):
            storage.open(name)


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
        made = LocalStorage.create(os.fsencode(tmp_path / "r"), shared=shared)
        made.make_folders()
        made.put_new("archives/x/data.1", b"")
    finally:
        os.umask(before)
    modes = {os.stat(made.path(name)).st_mode & 0o7777 for name in ("", "points", "archives/x")}
    assert modes == {folder}
    assert os.stat(made.path("archives/x/data.1")).st_mode & 0o7777 == file


def test_only_uploads_of_one_token_are_dropped(storage: LocalStorage) -> None:
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
