"""Bundles are made beside backups and readers, and not on a full disk."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.errors import ObjectMissing
from ibtfs.store import layout
from ibtfs.store.removal.held import held_in_bundles
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalObject
from tests.support import snapshot
from tests.support.bundles import (
    NEVER,
    SOON,
    assert_whole,
    bundles,
    folders,
    make_points,
    make_versions,
    put_together,
)
from tests.support.removal import forget
from tests.support.repositories import (
    assert_comes_back,
    back_up,
    content,
    create,
    reopened,
    the_point,
)
from tests.support.views import viewed_tree


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create(tmp_path / "repository")


def test_who_reads_all_the_time_never_misses_anything(
    repository: Repository, tmp_path: Path
) -> None:
    """One reader that stays open, one that begins anew each time; archives move around below."""
    made = make_points(repository, tmp_path / "source", 4)
    kept = made[-1][0]
    expected = viewed_tree(reopened(repository), kept)
    failed: list[BaseException] = []
    rounds = {"one": 0, "new": 0}
    stop = threading.Event()

    def read(name: str, one: Repository | None) -> None:
        try:
            while not stop.is_set() or not rounds[name]:
                if one is not None:
                    one.forget_read()
                assert viewed_tree(one or reopened(repository), kept) == expected
                rounds[name] += 1
        except BaseException as error:
            failed.append(error)

    readers = [
        threading.Thread(target=read, args=("one", reopened(repository))),
        threading.Thread(target=read, args=("new", None)),
    ]
    for reader in readers:
        reader.start()
    for _ in range(6):
        point = make_points(repository, tmp_path / "source", 1)[0][0]
        put_together(repository)
        forget(repository, [point.id])
        put_together(repository, all_of_it=True)
    stop.set()
    for reader in readers:
        reader.join()
    assert failed == []
    assert all(rounds.values())
    assert_whole(repository)


def test_a_backup_goes_on_while_bundles_are_made(repository: Repository, tmp_path: Path) -> None:
    """It holds its lock from before until after; what it knew of moved meanwhile."""
    source = tmp_path / "source"
    make_points(repository, source, 4)
    opened = reopened(repository)
    with opened.lock("shared"):
        known = [opened.archive(name).header for name in opened.archive_ids()]
        put_together(repository)
        assert folders(repository) == []
        read = opened.index_generations()
        opened.settle([header.archives[0] for header in known], {}, read)
        assert [opened.archive(header.archives[0]).header for header in known] == known
    point = the_point(back_up(repository, source))
    assert_comes_back(repository, point, snapshot(source), tmp_path)


def test_what_another_machine_removed_is_opened_where_it_lies_now(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network file systems take a removed file away from whoever has it open."""
    make_versions(repository, tmp_path / "source", 3)
    opened = reopened(repository)
    readers = [opened.archive(name) for name in opened.archive_ids()]
    assert all(reader.header for reader in readers)
    old = {path: path.stat().st_ino for path in Path(os.fsdecode(repository.path)).rglob("index.1")}
    put_together(repository)
    real = LocalObject.read

    def read(self: LocalObject, offset: int, size: int) -> bytes:
        if os.fstat(self._descriptor).st_ino in old.values():
            raise ObjectMissing(f"{self.name}: no such file in the repository")
        return real(self, offset, size)

    monkeypatch.setattr(LocalObject, "read", read)
    assert [len(list(reader.contents())) for reader in readers] == [1, 1, 1]


# Little room


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that has 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_where_there_is_little_room_archives_stay_as_they_are(small: Path, tmp_path: Path) -> None:
    repository = create(small / "repository")
    made = make_versions(repository, tmp_path / "source", 4)
    result = put_together(repository)
    assert (result.bundled, result.failed) == (0, [])
    assert (len(folders(repository)), bundles(repository)) == (4, [])
    forget(repository, [made[0][0].id])
    assert put_together(repository, all_of_it=True).removed == 1
    assert_whole(repository)


def test_a_disk_that_runs_full_while_a_bundle_is_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibtfs.store.removal.bundling.SPARE", -(1 << 40))
    repository = create(small / "repository")
    source = tmp_path / "source"
    source.mkdir()
    points = []
    for number in range(3):
        (source / "file").write_bytes(os.urandom(1_800_000))
        os.utime(source / "file", ns=(10**18 + number, 10**18 + number))
        points.append(the_point(back_up(repository, source)))
    result = put_together(repository)
    assert (result.bundled, result.failed) == (0, [])
    assert (len(folders(repository)), bundles(repository)) == (3, [])
    assert repository.storage.list(layout.BUNDLES, unfinished=True) == []
    assert_whole(repository)
    forget(repository, [point.id for point in points[:1]])
    assert put_together(repository, NEVER).removed == 1
    gc.collect()  # what is still open keeps its room
    assert put_together(repository, SOON).bundled == 2  # in the room of what went
    assert len(content(repository, points[2], b"file")) == 1_800_000
    assert_whole(repository)


def test_of_two_bundles_with_the_same_files_the_one_made_last_counts(
    repository: Repository, tmp_path: Path
) -> None:
    """Whoever made it goes on to remove the other one, and may have slept for hours before."""
    made = make_versions(repository, tmp_path / "source", 6)
    put_together(repository)
    (old,) = bundles(repository)
    os.utime(old, (1_700_000_000, 1_700_000_000))
    kept = tmp_path / "kept"
    shutil.copy2(old, kept)
    for point, _ in made[:2]:
        reopened(repository).points.remove(point.id)
    put_together(repository, all_of_it=True)
    (new,) = bundles(repository)
    assert new != old
    shutil.copy2(kept, old)  # as if it was not removed yet
    held = {one.name: one for one in held_in_bundles(reopened(repository).storage)}
    assert held[f"bundles/{old.name}"].archives > held[f"bundles/{new.name}"].archives
    assert set(held[f"bundles/{old.name}"].live).isdisjoint(held[f"bundles/{new.name}"].live)
    assert held[f"bundles/{new.name}"].dead == 0
    put_together(repository)  # by another one, before the first wakes up and removes the old one
    old.unlink(missing_ok=True)
    assert_whole(repository)
