"""Whole repositories: made, backed up to, restored from, looked at; as a command would do it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ibtfs.actions.backup.run import BackupOptions, BackupResult, backup
from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer, Tally
from ibtfs.actions.restore.run import RestoreOptions, restore
from ibtfs.actions.source import filesystems
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.trees.directory import Entry as Row
from ibtfs.store.trees.paths import find_entry
from tests.support import Entry, differences, snapshot
from tests.support.views import SECOND, viewed_tree

HOST = "testhost"


class Recorder(Observer):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.files: list[tuple[str, bytes]] = []
        self.problems: list[tuple[bytes, str]] = []
        self.notes: list[str] = []

    def file(self, kind: str, path: bytes) -> None:
        self.files.append((kind, path))

    def problem(self, path: bytes, message: str) -> None:
        self.problems.append((path, message))

    def note(self, message: str) -> None:
        self.notes.append(message)


def create(path: Path) -> Repository:
    return Repository.create(os.fsencode(path), os.urandom(16))


def reopened(repository: Repository) -> Repository:
    """The same repository as another process would see it: nothing is cached."""
    unlocked = repository.unlocked if repository.config.is_sealed else None
    return Repository.open(repository.path, unlock=lambda *_: unlocked)


def on_disk(storage: FolderStorage, name: str) -> str:
    """Where an object of a storage in a folder lies."""
    return f"{os.fsdecode(storage.root)}/{name}"


def damages(repository: Repository, *, read_data: bool = True) -> list[str]:
    """What check finds."""
    result = check(reopened(repository), read_data=read_data, observer=Observer())
    return [f"{d.object}: {d.message} {d.points} {d.paths}" for d in result.damages]


def back_up(
    repository: Repository, source: Path | bytes, observer: Observer | None = None, **options: Any
) -> BackupResult:
    """Back up *source* as a command would: with a repository opened anew."""
    chosen = BackupOptions(**{"host": HOST, **options})
    return backup(reopened(repository), os.fsencode(source), chosen, observer or Recorder())


Backup = Callable[..., BackupResult]


def the_point(result: BackupResult) -> Point:
    assert result.point is not None
    return result.point


def restored(repository: Repository, point: Point, path: Path, **options: Any) -> Tally:
    """Restore *point* as the folder *path*, by a repository opened anew."""
    return restore(
        reopened(repository), point, [], os.fsencode(path), RestoreOptions(**options), Observer()
    )


def restored_tree(repository: Repository, point: Point, path: Path) -> dict[bytes, Entry]:
    """What a restore of *point* makes; it is removed again."""
    tally = restored(repository, point, path)
    assert tally.problems == []
    tree = snapshot(path)
    shutil.rmtree(path)
    return tree


def settle() -> None:
    """Wait until what was changed last is older than the file system's granularity."""
    time.sleep(filesystems.GRANULARITY_NS / 1e9 + 0.03)


def assert_comes_back(
    repository: Repository, point: Point, expected: dict[bytes, Entry], tmp_path: Path
) -> None:
    seen = viewed_tree(reopened(repository), point)
    assert differences(expected, seen, also=("blocks", "directory_size")) == []
    assert differences(expected, restored_tree(repository, point, tmp_path / "restored")) == []


def row(repository: Repository, point: Point, path: bytes) -> Row:
    return find_entry(reopened(repository), point, path)


def names(repository: Repository, point: Point) -> set[bytes]:
    return set(viewed_tree(reopened(repository), point)) - {b""}


def content(repository: Repository, point: Point, path: bytes) -> bytes:
    from ibtfs.store.trees.paths import content_pieces

    opened = reopened(repository)
    return b"".join(content_pieces(opened, find_entry(opened, point, path)))


def settled(path: Path) -> None:
    """Set the times of *path* back, so that it is not read again for being young."""
    os.utime(path, ns=(10**18, 10**18))


def put_back(
    repository: Repository, point: Point, to: Path, *paths: bytes, **options: object
) -> Recorder:
    """Restore *point*, or *paths* of it, and what was told."""
    recorder = Recorder()
    chosen = RestoreOptions(**options)  # type: ignore[arg-type]
    restore(repository, point, paths, os.fsencode(to), chosen, recorder)
    return recorder


def remove(repository: Repository, point: Point) -> None:
    os.unlink(on_disk(repository.storage, f"points/{point.id}"))


def dated(repository: Repository, point: Point, hours: int) -> Point:
    """*point* as if it had been made so much later: names tell seconds."""
    remove(repository, point)
    later = replace(point, time_ns=point.time_ns + hours * 3600 * SECOND)
    return repository.points.commit(later)


def two_points(tmp_path: Path, backup_of: Backup, repository: Repository) -> tuple[Point, Point]:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "old").write_bytes(b"old")
    (source / "kept").write_bytes(b"1")
    one = dated(repository, the_point(backup_of(source)), -2)
    (source / "d" / "old").unlink()
    (source / "d" / "new").write_bytes(b"new")
    (source / "kept").write_bytes(b"22")
    return one, dated(repository, the_point(backup_of(source)), -1)
