"""In which order an object gets its name: its bytes are durable before, its name after."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ibtfs.errors import IbtfsError, LockLost, ObjectExists, StorageFull
from ibtfs.store.storage import upload as rooms
from ibtfs.store.storage.local import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    made = LocalStorage(os.fsencode(tmp_path / "repository"))
    made.create()
    made.make_folders()
    return made


@pytest.mark.parametrize("in_place", [False, True])
def test_bytes_then_the_lock_then_the_name_then_its_folder(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    storage.put_new("points/p", b"old") if in_place else None
    events: list[str] = []

    def noted(owner: Any, name: str, what: str = "") -> None:
        call = getattr(owner, name)

        def wrapped(*args: Any) -> Any:
            told = what
            if not told:
                told = "sync folder" if stat.S_ISDIR(os.fstat(args[0]).st_mode) else "sync bytes"
            events.append(told)
            return call(*args)

        monkeypatch.setattr(owner, name, wrapped)

    with storage.replace("points/p") if in_place else storage.put("points/p") as upload:
        upload.write(b"new")
        noted(os, "fsync")
        noted(storage, "require_leases", "lock")
        noted(rooms, "rename_over", "over")
        noted(rooms, "rename_new", "new")
        upload.finish()
    assert events == ["sync bytes", "lock", "over" if in_place else "new", "sync folder"]
    with storage.open("points/p") as stored:
        assert stored.read(0, 9) == b"new"
    assert storage.list("points", unfinished=True) == ["p"]


def refused(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def cut_off(
    storage: LocalStorage, expected: type[IbtfsError], meanwhile: Callable[[], None]
) -> None:
    """An upload of points/p that fails, for something happens before it is finished."""
    with pytest.raises(expected), storage.put("points/p") as upload:  # noqa: PT012
        meanwhile()
        upload.finish()


def test_nothing_gets_its_name_without_its_lock_or_its_bytes(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = storage.lease("locks/l", "0a1b2c3d")
    cut_off(storage, LockLost, lambda: os.unlink(storage.path("locks/l")))
    lease.release()
    assert storage.list("points", unfinished=True) == []
    with monkeypatch.context() as patch:
        cut_off(storage, StorageFull, lambda: patch.setattr(os, "fsync", refused))
    assert storage.list("points", unfinished=True) == []


def test_what_was_dropped_with_a_broken_lock_or_came_second_gets_no_name(
    storage: LocalStorage,
) -> None:
    def drop() -> None:
        (part,) = storage.list("points", unfinished=True)
        os.unlink(storage.path(f"points/{part}"))

    cut_off(storage, LockLost, drop)
    cut_off(storage, ObjectExists, lambda: storage.put_new("points/p", b"first"))
    assert storage.list("points", unfinished=True) == ["p"]
    with storage.open("points/p") as stored:
        assert stored.read(0, 9) == b"first"


def test_a_write_that_the_disk_refuses_is_told(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written(fd, data[:2]))
    with storage.put("points/p") as upload:  # a disk may take less than it is given
        upload.write(b"12345")
        upload.write(memoryview(b"678"))
        upload.finish()
    assert upload.size == 8
    with storage.open("points/p") as stored:
        assert stored.read(0, 9) == b"12345678"

    monkeypatch.setattr(os, "write", refused)
    with pytest.raises(StorageFull):
        storage.put_new("points/q", b"1")
    assert storage.list("points", unfinished=True) == ["p"]
