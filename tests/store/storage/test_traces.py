"""What each verb of a storage leaves behind: nothing open, and all names durable."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ibtfs.errors import (
    IbtfsError,
    ObjectExists,
    ObjectMissing,
    ObjectUnreadable,
    RepositoryError,
    StorageFailed,
)
from ibtfs.store.layout import FOLDERS
from ibtfs.store.storage.local import LocalStorage

TOKEN = "0a1b2c3d"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    made = LocalStorage(os.fsencode(tmp_path / "r"))
    made.create()
    made.make_folders()
    return made


def descriptors(storage: LocalStorage) -> list[str]:
    """What is open of the repository."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(path for path in found if path.startswith(storage.text_root))


def put(storage: LocalStorage, name: str = "archives/a/data.1") -> None:
    storage.put_new(name, b"12345")


def whole(storage: LocalStorage) -> None:
    with storage.open("archives/a/data.1") as stored:
        assert stored.read(0, 9) == b"12345"


def leased(storage: LocalStorage) -> None:
    lease = storage.lease("locks/l", TOKEN)
    assert storage.is_held("locks/l") is True
    assert storage.is_held("locks/none") is not True
    lease.release()


VERBS: dict[str, Callable[[LocalStorage], object]] = {
    "put": lambda s: put(s, "archives/b/data.1"),
    "put again": put,
    "put where there is a file": lambda s: put(s, "archives/a/data.1/x"),
    "open": whole,
    "open none": lambda s: s.open("archives/a/none"),
    "open a folder": lambda s: s.open("archives/a"),
    "list": lambda s: s.list("archives/a"),
    "list none": lambda s: s.list("archives/none"),
    "list a file": lambda s: s.list("archives/a/data.1"),
    "list at the top": lambda s: s.list(""),
    "delete": lambda s: s.delete("archives/a/data.1"),
    "delete none": lambda s: s.delete("archives/none/x"),
    "delete a folder": lambda s: s.delete("archives/a"),
    "make folders": lambda s: s.make_folders(),
    "lease": leased,
    "drop uploads": lambda s: s.drop_unfinished(TOKEN),
    "age": lambda s: s.age("archives/a/data.1", "archives/a/none"),
    "sync": lambda s: s.sync(["archives/a", ""]),
    "replace": lambda s: s.replace("archives/a/data.1").abort(),
}


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_stays_open(storage: LocalStorage, verb: str) -> None:
    put(storage)
    for _ in range(2):
        with contextlib.suppress(IbtfsError):
            VERBS[verb](storage)
    assert descriptors(storage) == []


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_stays_open_where_the_disk_refuses(
    storage: LocalStorage, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage)

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    for name in ("fsync", "link", "unlink", "mkdir", "lstat", "rmdir"):
        with monkeypatch.context() as patch, contextlib.suppress(IbtfsError):
            patch.setattr(os, name, failing)
            VERBS[verb](storage)
    assert descriptors(storage) == []


def synced(monkeypatch: pytest.MonkeyPatch, storage: LocalStorage) -> list[str]:
    """The paths that are made durable, relative to the repository, in order."""
    found: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        name = os.path.relpath(path, storage.text_root)
        base = name.rpartition("/")[2]
        found.append("part" if base.endswith(".part") else name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_names_are_durable_when_a_verb_is_done(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = synced(monkeypatch, storage)

    def done(work: Callable[[], object]) -> list[str]:
        found.clear()
        work()
        return list(found)

    assert done(lambda: put(storage)) == ["archives", "part", "archives/a"]
    assert done(lambda: put(storage, "archives/a/sigs.1")) == ["part", "archives/a"]
    assert done(lambda: storage.delete("archives/a/sigs.1")) == ["archives/a"]
    assert done(lambda: storage.delete("archives/a/sigs.1")) == []
    assert done(lambda: storage.delete("archives/a/data.1")) == ["archives/a", "archives"]
    assert done(lambda: put(storage, "points/p")) == ["part", "points"]
    assert done(lambda: storage.delete("points/p")) == ["points"]
    assert done(lambda: storage.sync(["points", "tags"])) == ["points", "tags"]
    assert done(lambda: leased(storage)) == ["locks"]
    os.mkdir(storage.path("archives/b"))
    assert done(lambda: storage.delete("archives/b")) == ["archives"]
    assert done(storage.make_folders) == [".", ".."]
    os.rmdir(storage.path("tags"))
    assert done(storage.make_folders) == [".", ".", ".."]


@pytest.mark.parametrize(
    ("shared", "folder", "file"), [(False, 0o700, 0o600), (True, 0o2770, 0o660)]
)
def test_folders_and_files_are_for_those_who_may(
    tmp_path: Path, shared: bool, folder: int, file: int
) -> None:
    before = os.umask(0o077)
    try:
        made = LocalStorage(os.fsencode(tmp_path / "r"), shared=shared)
        made.create()
        made.make_folders()
        put(made)
    finally:
        os.umask(before)
    for name in ("", *FOLDERS, "archives/a"):
        assert stat.S_IMODE(os.stat(made.path(name)).st_mode) == folder, name
    assert stat.S_IMODE(os.stat(made.path("archives/a/data.1")).st_mode) == file


def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "makedirs", failing)
    with pytest.raises(RepositoryError, match=r"Cannot make '.*/r': Permission denied"):
        LocalStorage(os.fsencode(tmp_path / "r")).create()


def test_a_folder_that_another_run_makes_at_once_is_used(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir

    def second(path: str, mode: int = 0o777, **options: int) -> None:
        real(path, mode, **options)
        raise FileExistsError(errno.EEXIST, "File exists")

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", second)
        put(storage)
    whole(storage)


def test_an_object_whose_disk_is_gone_is_not_called_removed(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage)
    with storage.open("archives/a/data.1") as stored:

        def failing(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", failing)
            assert stored.is_removed() is False
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", failing)
            with pytest.raises(ObjectUnreadable, match=r"archives/a/data\.1"):
                stored.read(0, 5)
    for kind, name in ((ObjectExists, "archives/a/data.1"), (StorageFailed, "x" * 300),
                       (ObjectMissing, "archives/a/data.1/x")):  # fmt: skip
        with pytest.raises(kind):
            put(storage, name)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a folder of another user")
def test_a_repository_may_lie_where_its_owner_may_not_look_around(fast_path: Path) -> None:
    """As one folder for each user, all in one that only root reads."""
    os.chmod(fast_path, 0o711)
    (fast_path / "mine").mkdir()
    os.chown(fast_path / "mine", 12345, 12345)
    os.seteuid(12345)
    try:
        with pytest.raises(PermissionError):
            os.listdir(fast_path)
        made = LocalStorage(os.fsencode(fast_path / "mine"))
        made.create()
        for _ in range(2):
            made.make_folders()
        put(made)
        whole(made)
    finally:
        os.seteuid(0)


def test_folders_that_do_not_become_durable_are_told(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageFailed, match=r"/r: Input/output error"):
        storage.make_folders()
