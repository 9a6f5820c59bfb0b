"""A source that changes under a backup: between two looks, while it is read, within a tick."""

from __future__ import annotations

import os
import shutil
import stat
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.backup.tree import TreeOptions
from ibtfs.actions.source import filesystems
from ibtfs.actions.source import opening as source_file
from ibtfs.actions.source.chunks import Chunk, FileSource
from ibtfs.format.entry import INODE, MTIME, UNSTABLE
from ibtfs.store.repository import Repository
from tests.support import differences, snapshot
from tests.support.faking import Patch, after_listing, change_stamps
from tests.support.realdata import mixed
from tests.support.repositories import (
    Backup,
    assert_comes_back,
    back_up,
    content,
    names,
    reopened,
    restored_tree,
    row,
    settle,
    the_point,
)
from tests.support.trees import Fifo, File, Hardlink, Sparse, Symlink, make_tree
from tests.support.views import viewed_tree

MIB = 1 << 20


@pytest.mark.parametrize(
    ("kind", "seconds_ago", "noticed"),
    [("ext4", 0.0, True), ("ext4", 1.0, False), ("vfat", 1.0, True), ("vfat", 5.0, False)],
)
def test_a_rewrite_of_the_same_size_within_one_tick(
    kind: str, seconds_ago: float, noticed: bool, source: Path, repository: Repository,
    backup_of: Backup, monkeypatch: Patch,
) -> None:  # fmt: skip
    """Where it is not noticed the stamps tell a lie that no file system does: a control."""
    tick = time.time_ns() - int(seconds_ago * 1e9)
    change_stamps(monkeypatch, lambda stamp: (*stamp[:MTIME], tick, tick, *stamp[INODE:]))
    monkeypatch.setattr(filesystems.FileSystems, "kind", lambda *_: kind)
    (source / "file").write_bytes(b"before")
    (source / "other").write_bytes(b"stays")
    backup_of(source)
    with (source / "file").open("r+b") as file:
        file.write(b"after!")
    second = backup_of(source, tree=TreeOptions(inodes=True))
    assert content(repository, the_point(second), b"file") == (b"after!" if noticed else b"before")
    assert second.tally.counts["bytes_read"] == (11 if noticed else 0)


@pytest.mark.parametrize("wait", [True, False])
def test_an_inode_that_is_used_again_within_one_scan(
    wait: bool, source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch,
    tmp_path: Path,
) -> None:  # fmt: skip
    make_tree(source, {"a": {"one": File(b"1" * 5000, mtime_ns=5), "two": Hardlink("a/one")}})
    (source / "b").mkdir()
    if wait:
        settle()
    monkeypatch.setattr(source_file.os, "fstat", same_inodes(os.fstat))
    change_stamps(monkeypatch, lambda stamp: (*stamp[:INODE], 4711, *stamp[INODE + 1 :]))
    links = {"one": File(b"2" * 5000, mtime_ns=5), "two": Hardlink("one")}
    after_listing(monkeypatch, b"a", lambda: make_tree(source / "b", links))
    result = backup_of(source)
    monkeypatch.undo()
    expected, found = snapshot(source), viewed_tree(reopened(repository), the_point(result))
    assert differences(expected, found) == []
    back = restored_tree(repository, the_point(result), tmp_path / "restored")
    assert differences(expected, back) == []


def same_inodes(fstat: Callable[[int], os.stat_result]) -> Callable[[int], Any]:
    def changed(descriptor: int) -> Any:
        found = fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink < 2:
            return found
        fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return types.SimpleNamespace(**{**fields, "st_ino": 4711})

    return changed


REPLACEMENTS: dict[str, Callable[[Path, Path], object]] = {
    "fifo": lambda path, _: os.mkfifo(path),
    "symlink": lambda path, secret: path.symlink_to(secret / "secret"),
    "symlink to a fifo": lambda path, secret: path.symlink_to(secret / "fifo"),
    "socket": lambda path, _: os.mknod(path, stat.S_IFSOCK | 0o600),
    "other file": lambda path, _: path.write_bytes(b"other"),
    "folder": lambda path, _: path.mkdir(),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [10, 5 * MIB])
@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_a_file_that_is_replaced_between_listing_and_opening(
    kind: str, size: int, source: Path, repository: Repository, backup_of: Backup,
    monkeypatch: Patch, tmp_path: Path,
) -> None:  # fmt: skip
    secret = tmp_path / "secret"
    make_tree(secret, {"secret": b"secret", "fifo": Fifo()})
    make_tree(source, {"victim": bytes(range(250)) * (size // 250 + 1), "beside": b"x"})

    def replace() -> None:
        (source / "victim").unlink()
        (source / "taken").write_bytes(b"so that the inode is not used again")
        REPLACEMENTS[kind](source / "victim", secret)
        (source / "taken").unlink()

    after_listing(monkeypatch, b"", replace)
    result = backup_of(source)
    point, expected = the_point(result), snapshot(source)
    if kind == "folder":
        assert [path for path, _ in result.tally.problems] == [b"victim"]
        assert names(repository, point) == {b"beside"}
    else:
        assert result.tally.problems == []
        found = viewed_tree(reopened(repository), point)
        assert differences(expected, found, ignore=("mtime_ns",)) == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", ["symlink", "fifo", "file", "gone"])
def test_a_folder_that_is_replaced_between_listing_and_opening(
    kind: str, known: bool, source: Path, repository: Repository, backup_of: Backup,
    monkeypatch: Patch, tmp_path: Path,
) -> None:  # fmt: skip
    secret = tmp_path / "secret"
    make_tree(secret, {"secret": b"secret"})
    make_tree(source, {"victim": {"inside": b"x"}, "beside": b"x"})
    if known:
        backup_of(source)

    def replace() -> None:
        shutil.rmtree(source / "victim")
        if kind == "symlink":
            (source / "victim").symlink_to(secret)
        elif kind == "fifo":
            os.mkfifo(source / "victim")
        elif kind == "file":
            (source / "victim").write_bytes(b"")

    after_listing(monkeypatch, b"", replace)
    result = backup_of(source)
    found = names(repository, the_point(result))
    assert [path for path, _ in result.tally.problems] == [b"victim"]
    assert not any(b"secret" in path for path in found)
    assert (b"victim" in found) == (kind != "gone")
    monkeypatch.undo()
    again = the_point(backup_of(source))
    assert differences(snapshot(source), viewed_tree(reopened(repository), again)) == []


def test_what_vanishes_is_reported_and_left_out(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch
) -> None:
    make_tree(source, {"file": b"1", "link": Symlink("x"), "known": b"2", "stays": b"3"})
    os.rename(source / "file", source / "new")
    backup_of(source)
    make_tree(source, {"file": b"1"})
    (source / "known").write_bytes(b"changed")

    def vanish() -> None:
        for name in ("file", "link", "known"):
            (source / name).unlink()
        os.symlink("y", source / "late")

    os.utime(source / "link", ns=(1, 1), follow_symlinks=False)
    after_listing(monkeypatch, b"", vanish)
    result = backup_of(source)
    assert {path for path, _ in result.tally.problems} == {b"file", b"link", b"known"}
    assert all("vanished" in message for _, message in result.tally.problems)
    assert names(repository, the_point(result)) == {b"stays", b"new"}


@pytest.mark.parametrize("times", [1, 100])
@pytest.mark.parametrize("grows", [True, False])
def test_a_file_that_changes_while_it_is_read(
    grows: bool, times: int, source: Path, repository: Repository, backup_of: Backup,
    monkeypatch: Patch, tmp_path: Path,
) -> None:  # fmt: skip
    """The short way gives up; it is read twice more at most, kept as it was read, reported,
    and looked at next time."""
    (source / "log").write_bytes(b"0" * 1000)
    settle()
    pread, reads = os.pread, []

    def read_and_change(descriptor: int, size: int, offset: int) -> bytes:
        data = pread(descriptor, size, offset)
        if os.readlink(f"/proc/self/fd/{descriptor}") != str(source / "log"):
            return data
        reads.append(data)
        if len(reads) <= times:
            with (source / "log").open("r+b") as file:
                file.seek(0, os.SEEK_END if grows else os.SEEK_SET)
                file.write(b"%d" % len(reads))
        return data

    monkeypatch.setattr(os, "pread", read_and_change)
    result = backup_of(source)
    monkeypatch.undo()
    point = the_point(result)
    assert len(reads) == (2 if times == 1 else 3)
    stored = row(repository, point, b"log")
    assert content(repository, point, b"log") == reads[-1][: stored.size]
    if times == 1:
        assert result.tally.problems == []
        assert_comes_back(repository, point, snapshot(source), tmp_path)
    else:
        [(path, message)] = result.tally.problems
        assert (path, result.tally.counts["problems"]) == (b"log", 1)
        assert "changed while it was read" in message
        assert (stored.flags, stored.ctime_ns) == (UNSTABLE, 0)
    settle()
    again = backup_of(source)
    assert_comes_back(repository, the_point(again), snapshot(source), tmp_path)
    assert row(repository, the_point(again), b"log").flags == 0


def test_a_large_file_that_changes_while_it_is_read(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch, tmp_path: Path
) -> None:
    path = source / "database"
    path.write_bytes(mixed(1, 6 * MIB))
    backup_of(source)
    chunk, reads = FileSource.chunk, []

    def read_and_change(self: FileSource, position: int) -> Chunk:
        data = chunk(self, position)
        reads.append(position)
        with path.open("r+b") as file:
            file.seek(5 * MIB)
            file.write(b"%08d" % len(reads))
        return data

    path.touch()
    monkeypatch.setattr(FileSource, "chunk", read_and_change)
    result = backup_of(source)
    monkeypatch.undo()
    assert [path for path, _ in result.tally.problems] == [b"database"]
    assert reads.count(0) == 2
    entry = row(repository, the_point(result), b"database")
    assert (entry.flags, entry.ctime_ns) == (UNSTABLE, 0)
    stored = content(repository, the_point(result), b"database")  # its digest is compared
    assert stored[: 5 * MIB] == path.read_bytes()[: 5 * MIB]
    again = backup_of(source)
    assert_comes_back(repository, the_point(again), snapshot(source), tmp_path)


def test_a_large_file_that_is_emptied_while_it_is_read(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch
) -> None:
    make_tree(source, {"log": mixed(1, 5 * MIB), "beside": b"x"})
    chunk = FileSource.chunk

    def empty(self: FileSource, position: int) -> Chunk:
        os.truncate(source / "log", 0)
        return chunk(self, position)

    monkeypatch.setattr(FileSource, "chunk", empty)
    result = backup_of(source)
    assert row(repository, the_point(result), b"log").size == 0
    assert content(repository, the_point(result), b"beside") == b"x"


def test_a_hole_that_is_written_to_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             repository: Repository) -> None:  # fmt: skip
    source = tmp_path / "source"
    make_tree(source, {"image": Sparse(8 << 20, {0: b"x" * 4096})})
    pread, done = os.pread, []

    def late(descriptor: int, size: int, offset: int) -> bytes:
        if not done and size >= 1 << 20 and offset == 0:
            done.append(True)
            with open(source / "image", "r+b") as file:
                file.seek(500_000)
                file.write(b"written late")
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", late)
    back_up(repository, source)
    assert done
