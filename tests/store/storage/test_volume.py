"""What a file system tells of a repository, and the objects that its owner holds there."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from ibtfs.errors import LockLost, ObjectMissing, StorageFailed
from ibtfs.store.layout import FOLDERS
from ibtfs.store.storage import lease as lease_module
from ibtfs.store.storage import machine
from ibtfs.store.storage.base import is_unfinished, token_of
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.upload import LocalUpload
from ibtfs.store.storage.volume import SECOND

TOKEN = "0a1b2c3d"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    made = LocalStorage(os.fsencode(tmp_path / "repository"))
    made.create()
    made.make_folders()
    return made


def test_paths_are_below_the_root(storage: LocalStorage, tmp_path: Path) -> None:
    assert storage.path("a/b") == f"{tmp_path}/repository/a/b"
    assert storage.path("") == f"{tmp_path}/repository"


def test_space_is_what_the_system_tells(storage: LocalStorage) -> None:
    told, found = os.statvfs(storage.root), storage.space()
    assert (found.block_size, found.blocks, found.files) == (
        told.f_frsize, told.f_blocks, told.f_files
    )  # fmt: skip
    assert 0 <= found.blocks_available <= found.blocks_free <= found.blocks
    assert 0 <= found.files_free <= found.files
    with pytest.raises(ObjectMissing, match="nowhere"):
        LocalStorage(b"/nowhere/at/all").space()


def test_folders_are_there_or_not(storage: LocalStorage) -> None:
    open(storage.path("points/file"), "x").close()
    os.symlink("points", storage.path("link"))
    assert [storage.has_folder(name) for name in ("", "points", "none", "points/none")] == [
        True, True, False, False
    ]  # fmt: skip
    assert [storage.has_folder(name) for name in ("points/file", "points/file/x", "link")] == [
        False, False, False
    ]  # fmt: skip
    with pytest.raises(StorageFailed, match="too long"):
        storage.has_folder("x" * 300)


def test_times_of_folders_settle(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = 1_700_000_000_123_456_789
    os.utime(storage.path("points"), ns=(changed, changed))
    assert storage.changed_ns("points") == changed
    assert storage.made("points") == 1_700_000_000
    assert (storage.changed_ns("none"), storage.made("none")) == (0, 0)
    for since, settles, expected in (
        (100_000_001, None, changed), (100_000_000, None, 0), (0, None, 0), (6, 5, changed),
        (5, 5, 0), (100_000_001, 3 * SECOND, changed), (100_000_000, 3 * SECOND, 0),
    ):  # fmt: skip
        monkeypatch.setattr(time, "time_ns", lambda s=since: changed + s)
        options = () if settles is None else (settles,)
        assert storage.folder_token("points", *options) == expected
    assert storage.folder_token("none") == 0


def test_times_of_full_seconds_settle_as_told(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system may know no others: what changes within a second does not show."""
    changed = 1_700_000_000 * SECOND
    os.utime(storage.path("points"), ns=(changed, changed))
    for since, expected in ((3 * SECOND + 1, changed), (3 * SECOND, 0), (100_000_001, 0)):
        monkeypatch.setattr(time, "time_ns", lambda s=since: changed + s)
        assert storage.folder_token("points", 3 * SECOND) == expected


def test_an_object_is_told_from_another_put_there_later(storage: LocalStorage) -> None:
    storage.put_new("points/p", b"12345")
    found = os.stat(storage.path("points/p"))
    token = storage.token("points/p")
    assert token == (5, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    with pytest.raises(ObjectMissing):
        storage.token("points/none")


def test_who_may_not_write_is_told_where(storage: LocalStorage) -> None:
    assert storage.refusal() == ""
    os.rmdir(storage.path("tags"))  # one of an earlier version need not be there
    assert storage.refusal() == ""
    shut = {storage.path("locks"), storage.path("points")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: path not in shut and mode == 3)
        assert storage.refusal() == f"this user may not write to {storage.path('locks')!r}"


def test_folders_that_are_not_there_cannot_be_made_durable(storage: LocalStorage) -> None:
    storage.sync(FOLDERS)
    with pytest.raises(ObjectMissing, match="none"):
        storage.sync(["points", "none"])


# Leases


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_lease_is_made_again_if_somebody_took_it_for_left_behind(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    real, tries = lease_module.rename_new, list[str]()

    def cleaned_up(folder: int, part: str, name: str) -> None:
        tries.append(part)
        if len(tries) <= times:
            os.unlink(part, dir_fd=folder)
        real(folder, part, name)

    monkeypatch.setattr(lease_module, "rename_new", cleaned_up)
    if times < 3:
        storage.lease("locks/l", TOKEN).release()
    else:
        with pytest.raises(ObjectMissing, match="locks/l"):
            storage.lease("locks/l", TOKEN)
    assert len(set(tries)) == min(times + 1, 3)
    assert all(is_unfinished(part) and part.startswith("l.") for part in tries)
    assert storage.list("locks", unfinished=True) == []


def test_a_lease_waits_for_those_who_look_and_not_for_ever(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    busy = [3]

    def flock(_: int, how: int) -> None:
        assert how == fcntl.LOCK_EX | fcntl.LOCK_NB
        if busy[0]:
            busy[0] -= 1
            raise BlockingIOError

    monkeypatch.setattr(lease_module.fcntl, "flock", flock)
    monkeypatch.setattr(lease_module.time, "sleep", slept.append)
    storage.lease("locks/l", TOKEN).release()
    assert slept == [0.01] * 3
    slept.clear()
    busy[0] = 1000
    storage.lease("locks/l", TOKEN).release()  # its age has to tell
    assert slept == [0.01] * 100


def test_a_lease_that_is_not_in_place_takes_no_other_away(storage: LocalStorage) -> None:
    lease = storage.lease("locks/l", TOKEN)
    assert lease.is_in_place()
    os.utime(storage.path("locks/l"), (1, 1))
    lease.refresh()
    assert os.stat(storage.path("locks/l")).st_mtime > time.time() - 60
    os.unlink(storage.path("locks/l"))
    assert not lease.is_in_place()
    open(storage.path("locks/l"), "x").close()
    assert not lease.is_in_place()
    before = set(os.listdir("/proc/self/fd"))
    lease.release()
    assert storage.list("locks") == ["l"]
    assert len(before - set(os.listdir("/proc/self/fd"))) >= 2
    again = storage.lease("locks/m", TOKEN)
    again.release()
    assert storage.list("locks", unfinished=True) == ["l"]


def test_a_lease_that_cannot_be_had_leaves_nothing(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(lease_module, "sync_names", failing)
    with pytest.raises(StorageFailed):
        storage.lease("locks/l", TOKEN)
    assert storage.list("locks", unfinished=True) == []
    assert set(os.listdir("/proc/self/fd")) == before


def test_what_is_put_under_a_lease_is_named_by_it_and_needs_it(storage: LocalStorage) -> None:
    lease = storage.lease("locks/l", TOKEN)
    with storage.put("points/p") as upload:
        (part,) = storage.list("points", unfinished=True)
        assert token_of(part) == TOKEN
        os.unlink(storage.path("locks/l"))
        with pytest.raises(LockLost):
            upload.finish()
        upload.abort()
    lease.release()
    assert storage.list("points", unfinished=True) == []
    storage.put_new("points/p", b"")


# Uploads


def test_descriptors_of_uploads_are_given_back(storage: LocalStorage) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for finish in (True, False):
        upload = storage.put("points/p")
        upload.write(b"abc")
        upload.write(memoryview(b"defg"))
        assert upload.size == 7
        (upload.finish if finish else upload.abort)()
        upload.abort()
        assert set(os.listdir("/proc/self/fd")) == before
    assert storage.list("points") == ["p"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStorage, "create_file", _refused)
        with pytest.raises(StorageFailed, match="points/q"):
            storage.put("points/q")
    assert set(os.listdir("/proc/self/fd")) == before


def _refused(*_: object) -> int:
    raise OSError(errno.EACCES, "Permission denied")


def test_a_write_of_fewer_bytes_goes_on(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    storage.put_new("points/p", b"0123456789")
    with storage.open("points/p") as stored:
        assert stored.read(0, 20) == b"0123456789"


def test_an_upload_in_place_takes_the_place_of_another(storage: LocalStorage) -> None:
    storage.put_new("points/p", b"damaged")
    with LocalUpload(storage, "points/p", in_place=True) as upload:
        upload.write(b"whole")
        upload.finish()
    with storage.open("points/p") as stored:
        assert stored.read(0, 20) == b"whole"
    assert storage.list("points", unfinished=True) == ["p"]


def test_a_machine_is_called_by_name_and_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    name = machine.machine_name()
    assert name == machine.machine_name()
    host, _, token = name.rpartition("-")
    assert len(token) == 8
    assert int(token, 16) >= 0
    assert host == "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-"
                           for c in os.uname().nodename)[:50]  # fmt: skip


def test_tokens_of_uploads() -> None:
    assert token_of("data.1.0a1b2c3d00000000.part") == TOKEN
    assert token_of("x.part") == "x"
    assert not is_unfinished("part")
    assert is_unfinished(".part")
