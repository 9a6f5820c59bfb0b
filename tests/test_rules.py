"""The rules of DESIGN.md, section 3, each as the failure that it is there to prevent."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import stat
import subprocess
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    Backup,
    Recorder,
    back_up,
    create,
    damages,
    reopened,
    restored,
    restored_tree,
    the_point,
    viewed_tree,
)
from support import Entry, differences, snapshot
from support.realdata import mixed
from support.trees import Fifo, File, Hardlink, Sparse, Symlink, make_tree

from ibtfs.actions.backup import classify
from ibtfs.actions.backup import entry as store_file
from ibtfs.actions.backup import small as store_small
from ibtfs.actions.backup import tree as backup_tree
from ibtfs.actions.backup.tree import TreeOptions
from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer
from ibtfs.actions.source import filesystems
from ibtfs.actions.source import opening as source_file
from ibtfs.actions.source.chunks import Chunk, FileSource
from ibtfs.actions.source.scan import Exclusions, Listing
from ibtfs.errors import IntegrityError, SourceError, UsageError
from ibtfs.format.entry import INODE, KEPT, MODE, MTIME, NAME, NOT_READ, UNSTABLE, Stamp
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.contents.reader import Contents
from ibtfs.store.naming import displayed_names, select_point
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory as StoredDirectory
from ibtfs.store.trees.directory import Entry as Row
from ibtfs.store.trees.paths import find_entry
from ibtfs.store.writing import run as run_writer
from ibtfs.store.writing.catalog import Catalog
from ibtfs.store.writing.run import RunWriter
from ibtfs.view.entry_node import point_node
from ibtfs.view.tree import RepositoryView

KIB, MIB = 1 << 10, 1 << 20
YEAR_NS = 365 * 86_400 * 10**9
NOBODY = 65_534
Patch = pytest.MonkeyPatch


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


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


# What happens between two looks at the source


def after_listing(patch: Patch, path: bytes, change: Callable[[], object]) -> None:
    """Make *change* just after the folder at *path* was listed, once."""
    listing, waiting = backup_tree.list_folder, [change]

    def list_folder(descriptor: int, folder: bytes, exclusions: Exclusions) -> Listing:
        found = listing(descriptor, folder, exclusions)
        if folder == path and waiting:
            waiting.pop()()
        return found

    patch.setattr(backup_tree, "list_folder", list_folder)


def change_stamps(patch: Patch, change: Callable[[Stamp], Stamp]) -> None:
    """Show regular files with other stamps, listed or opened."""
    listing, stamp_of = backup_tree.list_folder, store_file.stamp_of

    def changed(stamp: Stamp) -> Stamp:
        return change(stamp) if stat.S_ISREG(stamp[MODE]) else stamp

    def list_folder(descriptor: int, folder: bytes, exclusions: Exclusions) -> Listing:
        found = listing(descriptor, folder, exclusions)
        return found._replace(stamps=[changed(stamp) for stamp in found.stamps])

    patch.setattr(backup_tree, "list_folder", list_folder)
    patch.setattr(store_file, "stamp_of", lambda *given: changed(stamp_of(*given)))


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


# What cannot be read


def as_ordinary_user(run: Callable[[], Any]) -> Any:
    """What *run* gives, as JSON allows, done by a user who is not root."""
    if os.geteuid() != 0:
        return json.loads(json.dumps(run()))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, json.dumps(run()).encode())
        except BaseException as error:
            os.write(writing, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said)


@pytest.fixture
def open_path(fast_path: Path) -> Path:
    """A folder that an ordinary user can reach, and owns."""
    if os.geteuid() == 0:
        for parent in (fast_path, *fast_path.parents):
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        os.chown(fast_path, NOBODY, NOBODY)
    return fast_path


def owned(path: Path) -> None:
    if os.geteuid() == 0:
        subprocess.run(["chown", "-hR", f"{NOBODY}:{NOBODY}", str(path)], check=True)


def test_an_unreadable_folder_does_not_look_deleted(open_path: Path) -> None:
    source = open_path / "source"
    make_tree(source, {"shut": {"deep": {"file": b"1"}, "file": b"2"}, "beside": b"3",
                       "secret": b"4", "new": {}})  # fmt: skip
    owned(source)
    expected = snapshot(source)
    as_ordinary_user(lambda: str(create(open_path / "repository").path))
    repository = Repository.open(os.fsencode(open_path / "repository"))

    def run() -> list[Any]:
        result = back_up(repository, source)
        found = sorted([path.decode(), said] for path, said in result.tally.problems)
        return [the_point(result).id, found]

    assert as_ordinary_user(run)[1] == []
    make_tree(source / "new", {"shut": {"x": b"5"}, "secret": b"6"})
    owned(source)
    for path in ("shut", "secret", "new/shut", "new/secret"):
        (source / path).chmod(0)
    (source / "beside").write_bytes(b"changed")
    point_id, problems = as_ordinary_user(run)
    assert [path for path, _ in problems] == ["new/secret", "new/shut", "secret", "shut"]
    assert {said for _, said in problems} == {"cannot be read: Permission denied"}
    point = reopened(repository).point(point_id)
    found = viewed_tree(reopened(repository), point)
    for path in (b"shut", b"shut/deep", b"shut/deep/file", b"shut/file", b"secret"):
        assert differences({path: expected[path]}, {path: found[path]}) == [], path
    assert content(repository, point, b"beside") == b"changed"
    assert b"new/secret" not in found
    assert found[b"new/shut"].type == "directory"
    flags = [row(repository, point, p).flags for p in (b"shut", b"secret", b"new/shut")]
    assert flags == [KEPT, KEPT, NOT_READ]
    for path in ("shut", "secret", "new/shut", "new/secret"):
        (source / path).chmod(0o755)
    point_id, problems = as_ordinary_user(run)
    assert problems == []
    point = reopened(repository).point(point_id)
    assert differences(snapshot(source), viewed_tree(reopened(repository), point)) == []
    assert {row(repository, point, p).flags for p in (b"shut", b"secret", b"new/shut")} == {0}
    assert damages(repository) == []


def test_a_folder_that_opens_and_cannot_be_listed(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch, tmp_path: Path
) -> None:
    make_tree(source, {"bad": {"file": b"1", "deep": {"file": b"2"}}, "beside": b"3"})
    expected = snapshot(source)
    backup_of(source)
    listing = backup_tree.list_folder

    def list_folder(descriptor: int, folder: bytes, exclusions: Exclusions) -> Listing:
        if folder == b"bad":
            raise SourceError("cannot be read: Input/output error")
        return listing(descriptor, folder, exclusions)

    monkeypatch.setattr(backup_tree, "list_folder", list_folder)
    result = backup_of(source)
    assert [path for path, _ in result.tally.problems] == [b"bad"]
    assert_comes_back(repository, the_point(result), expected, tmp_path)
    assert row(repository, the_point(result), b"bad").flags == KEPT


def test_a_source_that_cannot_be_read_makes_no_point(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    backup_of(source)
    source.rename(source.with_name("elsewhere"))
    with pytest.raises(SourceError):
        backup_of(source)
    assert len(reopened(repository).point_ids()) == 1
    assert os.listdir(os.path.join(repository.path, b"locks")) == []


# Order and time


def set_clock(patch: Patch, moment_ns: int) -> None:
    """Let runs begin at a moment; leases go by the clock of the disk, and are left alone."""
    began, gmtime = time.monotonic_ns(), time.gmtime

    def now() -> int:
        return moment_ns + time.monotonic_ns() - began

    patch.setattr(time, "time_ns", now)
    patch.setattr(time, "gmtime", lambda seconds=None: gmtime(seconds or now() / 1e9))


def test_a_run_looks_at_points_and_notes_once(
    source: Path, backup_of: Backup, monkeypatch: Patch
) -> None:
    looks: list[str] = []

    def counted(name: str) -> None:
        real = getattr(Repository, name)
        monkeypatch.setattr(Repository, name, lambda self: looks.append(name) or real(self))

    counted("points")
    counted("damaged_contents")
    (source / "file").write_bytes(b"contents")
    backup_of(source)
    assert sorted(looks) == ["damaged_contents", "points"]


def test_a_clock_that_jumps_harms_nothing(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch, tmp_path: Path
) -> None:
    made = []
    for number, shift in enumerate((0, -YEAR_NS, YEAR_NS, 0, -YEAR_NS)):
        set_clock(monkeypatch, time.time_ns() + shift)
        (source / "file").write_bytes(mixed(7, 50_000) + b"%d" % number)
        expected = snapshot(source)
        made.append((the_point(backup_of(source)), expected))
        monkeypatch.undo()
    points = reopened(repository).points().points
    assert [point.id for point in points] == [point.id for point, _ in made]
    assert [point.sequence for point in points] == [1, 2, 3, 4, 5]
    assert [point.parent for point in points] == ["", *(point.id for point, _ in made[:-1])]
    moment = datetime.now()
    assert select_point(points, "latest", moment) is points[4]
    assert select_point(points, "latest~2", moment) is points[2]
    assert select_point(points, "@latest~2", moment) is points[2]
    assert select_point(points, "2d", moment) is points[4]  # the later of two of that time
    for point, tree in made:
        assert_comes_back(repository, point, tree, tmp_path)


def test_two_points_in_one_second(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch
) -> None:
    made, moment = [], time.time_ns() // 10**9 * 10**9
    for part in (1, 2, 3):
        set_clock(monkeypatch, moment + part * 100_000_000)
        made.append(the_point(backup_of(source)))
        monkeypatch.undo()
    assert len({point.time_ns // 10**9 for point in made}) == 1
    shown = displayed_names(reopened(repository).points().points)
    first, second, third = (shown[point.id] for point in made)
    assert (second, third) == (f"{first}-2", f"{first}-3")
    assert len({point.id for point in made}) == 3


def test_a_run_that_changes_nothing_writes_a_manifest_only(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {"a": {"b": b"1"}, "c": b"2"})
    settle()
    backup_of(source)
    archives = reopened(repository).archive_ids()
    result = backup_of(source)
    assert reopened(repository).archive_ids() == archives
    assert (result.tally.counts["bytes_read"], result.tally.counts["unchanged"]) == (0, 2)
    assert result.tally.counts["bytes_stored"] < 2000


# Epochs


def large_and_small(source: Path, number: int) -> None:
    """Change a tree so that its newest state has full contents and deltas of several points."""
    data = bytearray(mixed(3, 6 * MIB))
    for n in range(number + 1):
        data[n * 700_000 : n * 700_000 + 100] = b"%0100d" % n
    (source / "database").write_bytes(data)
    (source / "same").write_bytes(mixed(4, 200_000))
    (source / "notes").write_bytes(mixed(5, 100_000) + b"%d" % number)
    make_tree(source / "folder", {f"{number}": mixed(number, 1000)})


def test_after_a_full_all_that_is_older_can_be_lost(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    made = []
    for number in range(7):
        large_and_small(source, number)
        expected = snapshot(source)
        made.append((the_point(backup_of(source, full=number == 4)), expected))
    assert [point.epoch for point, _ in made] == [0, 0, 0, 0, 1, 1, 1]
    assert [point.full for point, _ in made] == [True, *[False] * 3, True, *[False] * 2]
    opened, root = reopened(repository), Path(os.fsdecode(repository.path))
    for archive_id in opened.archive_ids():
        if opened.archive(archive_id).header.epoch == 0:
            shutil.rmtree(root / "archives" / archive_id)
    for point, _ in made[:4]:
        (root / "points" / point.id).unlink()
    assert damages(repository) == []
    for point, expected in made[4:]:
        assert_comes_back(repository, point, expected, tmp_path)


def test_sources_that_never_asked_for_a_full_share_with_it(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    large_and_small(source, 0)
    make_tree(other, {"x": b"x"})
    backup_of(other)
    full = backup_of(source, full=True)
    shutil.copytree(source, other / "copy")
    shared = backup_of(other)
    assert (the_point(full).epoch, the_point(shared).epoch) == (1, 0)
    assert shared.tally.counts["bytes_added"] == 0
    again = backup_of(source, full=True)
    assert the_point(again).epoch == 2
    assert again.tally.counts["bytes_added"] > 6 * MIB


@pytest.mark.damaged
def test_check_finds_a_reference_to_an_older_epoch(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch
) -> None:
    large_and_small(source, 0)
    backup_of(source)
    find = Catalog._find
    monkeypatch.setattr(Catalog, "_find", lambda self, *what: find(self, *what[:2], 0))
    monkeypatch.setattr(RunWriter, "allows", lambda *_: True)
    result = backup_of(source, full=True)
    assert result.tally.counts["bytes_added"] == 0
    assert any("older epoch" in line for line in damages(repository, read_data=False))


# Hard links


def test_hard_link_groups_are_kept(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    tree = {
        "a": {"one": File(b"same" * 1000, mtime_ns=5), "own": File(b"same" * 1000, mtime_ns=5)},
        "b": {"two": Hardlink("a/one"), "deep": {"three": Hardlink("a/one")}},
        "link": Symlink("x"), "link too": Hardlink("link"),
        "pipe": Fifo(), "pipe too": Hardlink("pipe"), "empty": b"", "empty too": Hardlink("empty"),
        "hole": Sparse(100_000), "hole too": Hardlink("hole"),
    }  # fmt: skip
    make_tree(source, tree)
    made = [(the_point(backup_of(source)), snapshot(source))]
    settle()
    made.append((the_point(backup_of(source)), snapshot(source)))
    os.link(source / "a/own", source / "late")
    os.link(source / "b/two", source / "fourth")
    made.append((the_point(backup_of(source)), snapshot(source)))
    with (source / "fourth").open("ab") as file:
        file.write(b"more")
    settle()
    made.append((the_point(backup_of(source)), snapshot(source)))
    shutil.copy2(source / "fourth", source / "new")
    os.replace(source / "new", source / "fourth")
    made.append((the_point(backup_of(source)), snapshot(source)))
    for point, expected in made:
        assert_comes_back(repository, point, expected, tmp_path)


def test_links_in_folders_that_are_written_in_different_runs(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    large = {"user.large": b"\x01\xff" * 300}
    make_tree(source, {"a": {"one": File(b"x", xattrs=large)}, "b": {"two": Hardlink("a/one")}})
    settle()
    inodes = set()
    for number in range(3):
        make_tree(source / "b", {f"{number}": File(b"1", xattrs={"user.n": b"%d" % number * 400})})
        settle()
        point = the_point(backup_of(source))
        assert_comes_back(repository, point, snapshot(source), tmp_path)
        node = point_node(RepositoryView(reopened(repository)), b"", point)
        inodes.add(node.lookup(b"a").lookup(b"one").attributes().ino)
        inodes.add(node.lookup(b"b").lookup(b"two").attributes().ino)
    assert len(inodes) == 1


def test_links_whose_content_was_stored_twice(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch, tmp_path: Path
) -> None:
    make_tree(source, {"a": {"one": b"content" * 100}, "b": {"two": Hardlink("a/one")}})
    settle()
    backup_of(source)
    monkeypatch.setattr(RunWriter, "find", lambda *_: None)  # as if two runs went on at once
    monkeypatch.setattr(store_small, "_usable", lambda *_: None)
    listing = classify.same_stamp
    monkeypatch.setattr(
        classify,
        "same_stamp",
        lambda s, *r, **o: s[0] != b"two" and listing(s, *r, **o),
    )
    (source / "b/new").write_bytes(b"")
    point = the_point(backup_of(source))
    refs = {row(repository, point, path).content for path in (b"a/one", b"b/two")}
    assert len(refs) == 2
    assert_comes_back(repository, point, snapshot(source), tmp_path)


def test_what_is_appended_to_needs_no_reading_of_what_was_there(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch, tmp_path: Path
) -> None:
    make_tree(source, {"grows": b"0123456789" * 100, "differs": b"abcdefghij" * 100})
    settle()
    backup_of(source)
    (source / "grows").write_bytes(b"0123456789" * 100 + b"more")
    (source / "differs").write_bytes(b"Abcdefghij" * 100 + b"more")
    settle()
    read, sizes = Contents.read, []

    def counted(self: Contents, ref: Reference, offset: int, size: int) -> bytes:
        sizes.append(size)
        return read(self, ref, offset, size)

    monkeypatch.setattr(Contents, "read", counted)
    result = backup_of(source)
    monkeypatch.undo()
    point = the_point(result)
    assert sizes == [1000]  # of the one that differs
    ref = row(repository, point, b"grows").content
    assert ref is not None
    record = Contents(reopened(repository)).record(ref)
    assert (record.length, record.depth) == (4, 1)
    assert_comes_back(repository, point, snapshot(source), tmp_path)


def test_a_file_that_was_only_touched_keeps_its_content(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    make_tree(source, {"one": b"1" * 1000, "two": b"2" * 1000})
    settle()
    first = the_point(backup_of(source))
    os.utime(source / "one", ns=(1, 1))
    settle()
    result = backup_of(source)
    second = the_point(result)
    assert result.tally.counts["bytes_added"] == 0
    rows = [row(repository, point, b"one") for point in (first, second)]
    assert rows[0].content == rows[1].content
    assert rows[1].mtime_ns == 1
    assert_comes_back(repository, second, snapshot(source), tmp_path)


# What a run that died leaves to the next


class Died(BaseException):
    pass


def dying(monkeypatch: Patch, source: Path, repository: Repository) -> None:
    with pytest.raises(Died):
        back_up(repository, source)
    monkeypatch.undo()
    opened = reopened(repository)
    assert opened.point_ids() == []
    assert len(opened.archive_ids()) > 2
    assert os.listdir(os.path.join(repository.path, b"locks")) == []


def test_a_run_that_died_is_adopted_by_the_next(
    source: Path, repository: Repository, monkeypatch: Patch, tmp_path: Path
) -> None:
    for number in range(20):
        (source / f"{number:02}").write_bytes(random.Random(number).randbytes(300_000))
    store = store_file.FileStorer.store

    def store_or_die(self: Any, stamp: Stamp, *rest: Any) -> Any:
        if stamp[NAME] == b"17":
            raise Died
        return store(self, stamp, *rest)

    monkeypatch.setattr(run_writer, "ARCHIVE_BYTES", MIB)
    monkeypatch.setattr(store_file.FileStorer, "store", store_or_die)
    dying(monkeypatch, source, repository)
    result = back_up(repository, source)
    assert result.tally.counts["bytes_added"] <= 6 * 300_000
    assert_comes_back(repository, the_point(result), snapshot(source), tmp_path)


@pytest.mark.parametrize("change", [False, True])
def test_the_parts_of_a_large_file_are_adopted(
    change: bool, source: Path, repository: Repository, monkeypatch: Patch, tmp_path: Path
) -> None:
    (source / "image").write_bytes(random.Random(1).randbytes(16 * MIB))
    chunk = FileSource.chunk

    def read_or_die(self: FileSource, position: int) -> Chunk:
        if position >= 13 * MIB:
            raise Died
        return chunk(self, position)

    monkeypatch.setattr(run_writer, "ARCHIVE_BYTES", 2 * MIB)
    monkeypatch.setattr(FileSource, "chunk", read_or_die)
    dying(monkeypatch, source, repository)
    if change:
        with (source / "image").open("r+b") as file:
            file.seek(7 * MIB + 77)
            file.write(b"changed")
    result = back_up(repository, source)
    assert result.tally.counts["bytes_added"] <= 6 * MIB
    assert_comes_back(repository, the_point(result), snapshot(source), tmp_path)


# What is left out


def tree_of(**options: Any) -> TreeOptions:
    return TreeOptions(exclusions=Exclusions(**options))


def test_the_exclude_file_of_a_source(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {
        ".exclude": b"*.tmp\n/build/\n!keep.tmp\n# comment\n\n", "a.tmp": b"", "keep.tmp": b"",
        "build": {"x": b""}, "sub": {"build": {"y": b""}, "b.tmp": b""}, ".git": {"HEAD": b""},
    })  # fmt: skip
    recorder = Recorder()
    result = backup_of(source, observer=recorder)
    assert names(repository, the_point(result)) == {
        b".exclude", b"keep.tmp", b"sub", b"sub/build", b"sub/build/y", b".git", b".git/HEAD",
    }  # fmt: skip
    assert any(".exclude" in note for note in recorder.notes)
    assert result.tally.counts["excluded"] == 3
    result = backup_of(source, patterns=("!*.tmp", "sub"))
    assert names(repository, the_point(result)) == {
        b".exclude", b"a.tmp", b"keep.tmp", b".git", b".git/HEAD",
    }  # fmt: skip


def test_an_exclude_file_that_would_block_is_no_exclude_file(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {".exclude": Fifo(), "a": b""})
    assert names(repository, the_point(backup_of(source))) == {b".exclude", b"a"}


def test_exclusion_by_tags_and_size(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    signature = b"Signature: 8a477f597d28d172789f06886806bc55 and more"
    make_tree(source, {
        "cache": {"CACHEDIR.TAG": signature, "x": b"", "deep": {"y": b""}},
        "not": {"CACHEDIR.TAG": b"Signature: else", "x": b""},
        "link": {"CACHEDIR.TAG": Symlink("../cache/CACHEDIR.TAG"), "x": b""},
        "marked": {".nobackup": b"", "x": b"", "deep": {"y": b""}},
        "large": b"x" * 101, "fits": b"x" * 100,
    })  # fmt: skip
    everything = names(repository, the_point(backup_of(source)))
    assert len(everything) == 18
    found = names(repository, the_point(backup_of(source, tree=tree_of(caches=True))))
    assert everything - found == {b"cache/x", b"cache/deep", b"cache/deep/y"}
    options = tree_of(if_present=(b"nothing", b".nobackup"))
    found = names(repository, the_point(backup_of(source, tree=options)))
    assert everything - found == {b"marked/x", b"marked/deep", b"marked/deep/y"}
    found = names(repository, the_point(backup_of(source, tree=tree_of(larger_than=100))))
    assert everything - found == {b"large"}


@contextmanager
def another_file_system(path: Path, patch: Patch) -> Iterator[None]:
    """A file system of its own on *path*; an ordinary user has to make do with a faked one."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(path)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", str(path)], check=True)
        return
    fstat, inode = os.fstat, path.stat().st_ino

    def show(descriptor: int) -> Any:
        found = fstat(descriptor)
        fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        other = found.st_ino == inode
        return types.SimpleNamespace(**{**fields, "st_dev": 4242}) if other else found

    patch.setattr(os, "fstat", show)
    yield
    patch.undo()


@pytest.mark.parametrize("stay", [True, False])
def test_one_file_system(
    stay: bool, source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch
) -> None:
    make_tree(source, {"a": b"", "mount": {}, "z": {"b": b""}})
    with another_file_system(source / "mount", monkeypatch):
        make_tree(source / "mount", {"inside": b"x"})
        result = backup_of(source, tree=tree_of(one_file_system=stay))
    found = names(repository, the_point(result))
    assert found - {b"mount/inside"} == {b"a", b"mount", b"z", b"z/b"}
    assert (b"mount/inside" in found) != stay
    assert result.tally.counts["mounts_left_out"] == stay


def test_a_repository_inside_the_source(tmp_path: Path, monkeypatch: Patch) -> None:
    source = tmp_path / "source"
    make_tree(source, {"a": b"1", "backups": {"beside": b"2"}})
    repository, recorder = create(source / "backups/repo"), Recorder()
    point = the_point(back_up(repository, source, observer=recorder))
    assert names(repository, point) == {b"a", b"backups", b"backups/beside", b"backups/repo"}
    assert any("repository itself" in note for note in recorder.notes)
    (tmp_path / "link").symlink_to(source)
    there = Repository.open(os.fsencode(tmp_path / "link/backups/repo"))
    again = back_up(there, source)
    assert len(names(repository, the_point(again))) == 4
    assert damages(repository) == []


# Sources that are not folders


def test_a_source_that_is_a_single_file(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    path = tmp_path / "notes.txt"
    data = mixed(1, 300_000)
    points = []
    for number in range(4):
        path.write_bytes(data + b"%d" % number)
        path.chmod(0o640 + number)
        result = backup_of(path)
        points.append((the_point(result), snapshot(path)[b""]))
        if number:
            assert 0 < result.tally.counts["bytes_added"] < 1000
    settle()
    backup_of(path)
    archives = reopened(repository).archive_ids()
    unchanged = backup_of(path)
    assert (unchanged.tally.counts["unchanged"], unchanged.tally.counts["bytes_read"]) == (1, 0)
    assert reopened(repository).archive_ids() == archives
    for point, expected in points:
        assert (point.single, point.display) == (True, "notes.txt")
        found = viewed_tree(reopened(repository), point)
        assert set(found) == {b"", b"notes.txt"}
        assert differences({b"": expected}, {b"": found[b"notes.txt"]}) == []
        restored(repository, point, tmp_path / "back")
        back = snapshot(tmp_path / "back/notes.txt")
        assert differences({b"": expected}, back) == []
        shutil.rmtree(tmp_path / "back")


def test_a_single_file_behind_a_link(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    (tmp_path / "real").write_bytes(b"content")
    (tmp_path / "link").symlink_to("real")
    point = the_point(backup_of(tmp_path / "link"))
    assert content(repository, point, b"link") == b"content"
    (tmp_path / "real").unlink()
    with pytest.raises(SourceError):
        backup_of(tmp_path / "link")


@pytest.mark.timeout(20)
def test_a_source_that_is_a_fifo_does_not_block(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    os.mkfifo(tmp_path / "pipe")
    point = the_point(backup_of(tmp_path / "pipe"))
    assert viewed_tree(reopened(repository), point)[b"pipe"].type == "fifo"


def test_standard_input_as_a_file(
    tmp_path: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch
) -> None:
    made = []
    for number, size in enumerate((0, 1, 100_000, 5 * MIB + 3, 5 * MIB + 1000)):
        data = mixed(9, size)
        stream = io.BytesIO(data)
        result = backup_of(b"/stdin", stdin_name=b"dump.sql", stream=stream, name="dump")
        made.append((the_point(result), data, result.tally.counts["bytes_added"]))
        assert the_point(result).sequence == number + 1
    for point, data, _ in made:
        assert point.single
        assert content(repository, point, b"dump.sql") == data
        restored(repository, point, tmp_path / "back")
        assert (tmp_path / "back/dump.sql").read_bytes() == data
        shutil.rmtree(tmp_path / "back")
    assert made[-1][2] < 100_000


@pytest.mark.parametrize("options", [{"stdin_name": b"dump"}, {"stream": io.BytesIO(b"data")}])
def test_a_stream_and_its_name_go_together(options: dict[str, Any], backup_of: Backup) -> None:
    with pytest.raises(UsageError, match="a name"):
        backup_of(b"/stdin", **options)


# Contents are stored once


def test_a_file_that_moves_costs_no_content(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    make_tree(source, {"a": {"small": mixed(1, 3000), "large": mixed(2, 7 * MIB)}, "b": {}})
    first = backup_of(source)
    assert first.tally.counts["bytes_added"] == 3000 + 7 * MIB
    os.rename(source / "a/small", source / "b/other")
    os.rename(source / "a/large", source / "large")
    second = backup_of(source)
    os.rename(source / "b", source / "c")
    shutil.copyfile(source / "large", source / "c/copy")
    third = backup_of(source)
    assert second.tally.counts["bytes_added"] == third.tally.counts["bytes_added"] == 0
    assert third.tally.counts["bytes_stored"] < 20_000
    assert_comes_back(repository, the_point(third), snapshot(source), tmp_path)


def test_duplicates_across_sources_and_paths(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    for name in ("one", "two"):
        make_tree(
            tmp_path / name, {"x": mixed(1, 3000), "y": mixed(2, 5 * MIB), "z": mixed(1, 3000)}
        )
    results = [backup_of(tmp_path / name) for name in ("one", "two")]
    assert [result.tally.counts["bytes_added"] for result in results] == [3000 + 5 * MIB, 0]
    assert [the_point(result).display for result in results] == ["one", "two"]
    assert the_point(results[0]).digest != b""
    make_tree(tmp_path / "three", {"own": b"x"})
    other = backup_of(tmp_path / "three", host="elsewhere", name="one")
    assert the_point(other).display == "one@elsewhere"


# Damage heals


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.damaged
@pytest.mark.parametrize("name", [b"small", b"large", b"delta", b"attributes"])
def test_a_damaged_content_heals_at_the_next_backup(
    name: bytes, source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    make_tree(source, {
        "small": random.Random(1).randbytes(5000), "large": random.Random(2).randbytes(5 * MIB),
        "delta": random.Random(3).randbytes(100_000), "other": random.Random(4).randbytes(5000),
        "attributes": File(b"x", xattrs={"user.large": random.Random(5).randbytes(600)}),
    })  # fmt: skip
    backup_of(source)
    with (source / "delta").open("r+b") as file:
        file.write(random.Random(6).randbytes(700))
    settle()
    old = the_point(backup_of(source))
    expected = snapshot(source)
    damage_content(repository, row(repository, old, name))
    [line] = [line for line in damages(repository) if "record" in line or "content" in line][:1]
    result = check(reopened(repository), read_data=True, observer=Observer())
    told = {path for damage in result.damages for path in damage.paths}
    assert name in told, line
    fresh = the_point(backup_of(source))
    assert_comes_back(repository, fresh, expected, tmp_path)
    assert_comes_back(repository, old, expected, tmp_path)
    assert row(repository, fresh, name) != row(repository, old, name)
    settled = backup_of(source)
    assert settled.tally.counts["bytes_read"] == 0


def damage_content(repository: Repository, entry: Row) -> None:
    """Flip a byte of the frame that holds the first byte of the payload of *entry*."""
    ref = entry.content if entry.name != b"attributes" else entry.xattrs_content
    assert ref is not None
    archive = reopened(repository).archive(ref.archive)
    record = archive.content(ref.number)
    opened = archive.file(archive._kind(record.stream))
    table = opened.table(record.stream)
    frame = table.find(record.start)
    path = Path(os.fsdecode(repository.path), opened.name)
    flip(path, table.offsets[frame] + table.sizes[frame] // 2)


@pytest.mark.damaged
def test_what_is_damaged_and_gone_from_the_source_is_named_and_costs_only_itself(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    make_tree(source, {"lost": random.Random(1).randbytes(200_000), "kept": mixed(1, 5000)})
    old = the_point(backup_of(source))
    damage_content(repository, row(repository, old, b"lost"))
    (source / "lost").unlink()
    damages(repository)
    new = the_point(backup_of(source))
    assert_comes_back(repository, new, snapshot(source), tmp_path)
    with pytest.raises(IntegrityError, match="lost"):
        viewed_tree(reopened(repository), old)
    tally = restored(repository, old, tmp_path / "back")
    assert [path for path, _ in tally.problems] == [b"lost"]
    assert sorted(os.listdir(tmp_path / "back")) == ["kept"]


# Size


def stored_bytes(repository: Repository) -> int:
    found = 0
    for folder, _, files in os.walk(repository.path):
        found += sum(os.path.getsize(os.path.join(folder, name)) for name in files)
    return found


@pytest.mark.timeout(300)
def test_one_change_in_a_folder_of_200_000_entries(fast_path: Path) -> None:
    source = fast_path / "source"
    many = source / "many"
    many.mkdir(parents=True)
    for number in range(200_000):
        os.mknod(many / f"file-{number:06}")
    repository = create(fast_path / "repository")
    settle()
    back_up(repository, source)

    def change(number: int) -> None:
        if number == 0:
            (many / "file-100000").write_bytes(b"changed")
        elif number == 1:
            (many / "file-100001").unlink()
        else:
            (many / "file-100001-new").write_bytes(b"new")

    for number in range(3):
        before = stored_bytes(repository)
        change(number)
        result = back_up(repository, source)
        assert stored_bytes(repository) - before < 64 * KIB
        assert result.tally.counts["bytes_stored"] < 64 * KIB
        assert result.tally.counts["files"] == 200_000 - (number == 1)
    opened = reopened(repository)
    stored = StoredDirectory(opened, find_entry(opened, the_point(result), b"many").state.ref)
    found = {entry.name: entry.size for entry in stored.entries()}
    with os.scandir(os.fsencode(many)) as listing:
        assert found == {entry.name: entry.stat().st_size for entry in listing}
    assert damages(repository) == []
