"""Failures that reviewers found: each has its test here."""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import stat
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from conftest import Recorder, back_up, reopened, restored_tree
from support import differences, snapshot
from support.trees import File, Hardlink, Sparse, make_tree, posix_acl

from ibtfs.actions.backup.tree import TreeOptions
from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer
from ibtfs.actions.restore.entry import EntryWriter
from ibtfs.actions.restore.remove import Remover
from ibtfs.actions.restore.run import Overwrite, RestoreOptions, restore
from ibtfs.actions.source.filesystems import COARSE_GRANULARITY_NS, GRANULARITY_NS, FileSystems
from ibtfs.actions.source.scan import Exclusions
from ibtfs.errors import LockLost, RestoreFailed, SourceError, UsageError
from ibtfs.format.acl import GROUP, USER, acl_entries
from ibtfs.format.entry import LEFT_OUT
from ibtfs.format.frames import CONTENTS, LARGE, STATES
from ibtfs.format.patterns import Patterns
from ibtfs.format.point import Point
from ibtfs.store import lock
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.archives.writer import _Lane
from ibtfs.store.contents.reader import Contents
from ibtfs.store.lock import SHARED, Lock
from ibtfs.store.naming import by_source
from ibtfs.store.repository import Repository
from ibtfs.store.storage.durable import StorageFailed
from ibtfs.store.storage.local import LocalObject, LocalStorage
from ibtfs.store.trees.directory import Directory
from ibtfs.view import tree
from ibtfs.view.tree import RepositoryView

SLAB = 64 << 10
ALWAYS, IF_CHANGED, NEVER = Overwrite.ALWAYS, Overwrite.IF_CHANGED, Overwrite.NEVER


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


def test_a_base_is_not_changed_when_copies_of_it_were_kept(
    tmp_path: Path, repository: Repository
) -> None:
    rng = random.Random(1)
    x, y, z = (rng.randbytes(SLAB) for _ in range(3))
    tail = rng.randbytes(80 * SLAB)
    source = tmp_path / "source"
    for number, data in enumerate((bytes(SLAB) + y, x + z, x + y)):
        make_tree(source, {"image": data + tail}) if not number else None
        (source / "image").write_bytes(data + tail)
        expected = snapshot(source)
        point = back_up(repository, source).point
        assert point is not None
        restored = restored_tree(repository, point, tmp_path / f"out{number}")
        assert not differences(expected, restored)


def test_two_sources_that_chose_one_name(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "a/docs", {"one": b"1"})
    make_tree(tmp_path / "b/docs", {"two": b"2"})
    first = back_up(repository, tmp_path / "a/docs").point
    second = back_up(repository, tmp_path / "b/docs").point
    assert first
    assert second
    points = [p if p.id == first.id else type(p)(**{**vars(p), "display": "docs"})
              for p in (first, second)]  # fmt: skip
    shown = by_source(points)
    assert [[p.id for p in mine] for mine in shown.values()] == [[first.id], [second.id]]
    assert len(set(shown)) == 2


def test_a_folder_in_the_place_of_a_file_stays(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"backups": b"a file once"})
    point = back_up(repository, tmp_path / "source").point
    assert point
    out = tmp_path / "out"
    make_tree(out, {"backups": {"precious": b"1"}})
    for overwrite in (ALWAYS, IF_CHANGED):
        told = put_back(repository, point, out, overwrite=overwrite)
        assert len(told.problems) == 1
        assert (out / "backups/precious").read_bytes() == b"1"
    told = put_back(repository, point, out, overwrite=ALWAYS, delete=True)
    assert not told.problems
    assert (out / "backups").read_bytes() == b"a file once"


def test_the_repository_is_never_removed(tmp_path: Path) -> None:
    make_tree(tmp_path / "source", {"backups": b"a file once"})
    repository = Repository.create(os.fsencode(tmp_path / "repo"), os.urandom(16))
    point = back_up(repository, tmp_path / "source").point
    assert point
    make_tree(tmp_path / "out", {"backups": {"below": {}}})
    os.rename(tmp_path / "repo", tmp_path / "out/backups/below/repo")
    moved = Repository.open(os.fsencode(tmp_path / "out/backups/below/repo"))
    told = put_back(moved, point, tmp_path / "out", overwrite=ALWAYS, delete=True)
    assert len(told.problems) == 1
    assert not check(reopened(moved), read_data=True, observer=Observer()).damages


def test_an_incomplete_point_deletes_nothing(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"a": b"1"})
    point = back_up(repository, tmp_path / "source").point
    assert point
    incomplete = type(point)(**{**vars(point), "statistics": {"problems": 1}})
    make_tree(tmp_path / "out", {"more": b"2"})
    with pytest.raises(UsageError, match="not complete"):
        put_back(repository, incomplete, tmp_path / "out", overwrite=ALWAYS, delete=True)


def test_delete_keeps_what_is_excluded_and_a_dry_run_tells_all(
    tmp_path: Path, repository: Repository
) -> None:
    make_tree(tmp_path / "source", {"sub": {"a": b"1"}})
    point = back_up(repository, tmp_path / "source").point
    assert point
    out = tmp_path / "out"
    make_tree(out, {"sub": {"gone": b"", "cache": {"x": b"1"}}})
    options = {"overwrite": ALWAYS, "delete": True, "exclude": Patterns.from_lines(["cache/"])}
    before = snapshot(out)
    told = put_back(repository, point, out, b"sub", dry_run=True, **options)
    assert (b"deleted", b"sub/gone") in [(k.encode(), p) for k, p in told.files]
    assert not differences(before, snapshot(out))
    put_back(repository, point, out, b"sub", **options)
    assert sorted(os.listdir(out / "sub")) == ["a", "cache"]


def test_links_between_paths_and_include_with_paths(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"d": {"a": b"1", "b": Hardlink("d/a"), "c.txt": b"2"}})
    point = back_up(repository, tmp_path / "source").point
    assert point
    put_back(repository, point, tmp_path / "out", b"d/a", b"d/b")
    assert (tmp_path / "out/a").stat().st_nlink == 2
    put_back(repository, point, tmp_path / "some", b"d", include=Patterns.from_lines(["*.txt"]))
    assert os.listdir(tmp_path / "some/d") == ["c.txt"]


def test_acls_that_a_destination_hands_down_are_removed(
    tmp_path: Path, repository: Repository
) -> None:
    make_tree(tmp_path / "source", {"d": {"a": b"1"}})
    point = back_up(repository, tmp_path / "source").point
    assert point
    (tmp_path / "out").mkdir()
    assert os.system(f"setfacl -d -m u:65534:rwx '{tmp_path}/out'") == 0
    assert not differences(snapshot(tmp_path / "source"), _restored(repository, point, tmp_path))


def _restored(repository: Repository, point: Point, tmp_path: Path) -> dict[bytes, object]:
    put_back(repository, point, tmp_path / "out", overwrite=ALWAYS)
    return snapshot(tmp_path / "out")  # type: ignore[return-value]


@pytest.mark.damaged
def test_a_damaged_record_heals(tmp_path: Path, repository: Repository) -> None:
    source = tmp_path / "source"
    make_tree(source, {"d": {f"f{n}": b"%d" % n * 300 for n in range(30)}})
    for path in (source / "d").iterdir():
        settled(path)
    back_up(repository, source)
    (archive,) = repository.archive_ids()
    opened = repository.archive(archive).file("index")
    offset = opened.tables[CONTENTS].offsets[0] + 40
    with open(os.path.join(os.fsdecode(repository.path), opened.name), "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    again = reopened(repository)
    found = check(again, read_data=True, observer=Observer())
    assert len({path for damage in found.damages for path in damage.paths} - {b"d"}) == 30
    (source / "d/new").write_bytes(b"n")
    expected = snapshot(source)
    point = back_up(reopened(repository), source).point
    assert point
    assert not differences(expected, restored_tree(reopened(repository), point, tmp_path / "out"))


def test_an_archive_whose_index_is_missing_keeps_its_data(
    tmp_path: Path, repository: Repository
) -> None:
    make_tree(tmp_path / "source", {"a": random.Random(2).randbytes(300_000)})
    back_up(repository, tmp_path / "source")
    (archive,) = repository.archive_ids()
    index = Path(os.fsdecode(repository.path)) / "archives" / archive / "index.1"
    os.rename(index, tmp_path / "kept")
    make_tree(tmp_path / "other", {"b": b"1"})
    back_up(reopened(repository), tmp_path / "other")
    os.rename(tmp_path / "kept", index)


def test_the_holes_of_equal_contents_differ(tmp_path: Path, repository: Repository) -> None:
    source = tmp_path / "source"
    tree = {
        "dense": bytes(2 << 20),
        "sparse": Sparse(2 << 20, {}),
        "mixed": Sparse(2 << 20, {0: bytes(SLAB)}),
    }
    make_tree(source, tree)
    expected = snapshot(source)
    point = back_up(repository, source).point
    assert point
    restored = restored_tree(repository, point, tmp_path / "out")
    assert not differences(expected, restored, also=["blocks"])


def test_odd_exclude_files(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {".exclude": {"in": b"1"}})
    assert back_up(repository, tmp_path / "source").point


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


def test_what_stays_is_not_linked_to(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"a": b"stored", "b": Hardlink("a"), "c": Hardlink("a")})
    point = back_up(repository, tmp_path / "source").point
    assert point
    out = tmp_path / "out"
    make_tree(out, {"a": b"my own"})
    assert not put_back(repository, point, out, overwrite=NEVER).problems
    assert (out / "a").read_bytes() == b"my own"
    assert (out / "b").read_bytes() == b"stored"
    assert (out / "b").stat().st_ino == (out / "c").stat().st_ino != (out / "a").stat().st_ino


def test_metadata_are_not_set_on_what_took_the_place(
    tmp_path: Path, repository: Repository
) -> None:
    """Who owns a folder may put a link there between two steps of a restore."""
    make_tree(tmp_path / "source", {"file": File(b"data", mode=0o666)})
    point = back_up(repository, tmp_path / "source").point
    assert point
    entry = next(iter(Directory(repository, point.state).entries()))
    make_tree(tmp_path / "out", {"secret": File(b"", mode=0o600), "file": b"data"})
    out = os.open(tmp_path / "out", os.O_RDONLY)
    seen = os.lstat("file", dir_fd=out)
    try:
        with ThreadPoolExecutor(1) as pool:
            writer = EntryWriter(Contents(repository), {}, {}, pool)
            for replace in (os.symlink, os.link):
                os.unlink("file", dir_fd=out)
                replace(tmp_path / "out/secret", tmp_path / "out/file")
                with pytest.raises(RestoreFailed, match="replaced"):
                    writer.metadata_at(entry, out, b"file", seen)
    finally:
        os.close(out)
    assert stat.S_IMODE((tmp_path / "out/secret").stat().st_mode) == 0o600


def test_nothing_is_removed_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "precious", {"below": {"file": b"1"}})
    make_tree(tmp_path / "top", {"x": {"below": {"file": b"1"}, "more": b""}})
    real, seen = os.scandir, []

    def scandir(descriptor: int) -> object:
        found = list(real(descriptor))
        seen.append(descriptor)
        if len(seen) == 2:  # x and x/below were looked at
            os.rename(tmp_path / "top/x", tmp_path / "top/y")
            os.symlink(tmp_path / "precious", tmp_path / "top/x")
        return nullcontext(iter(found))

    monkeypatch.setattr(os, "scandir", scandir)
    top = os.open(tmp_path / "top", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=r"loop|symbolic|directory"):
            Remover((0, 0)).remove(top, b"x")
    finally:
        os.close(top)
    assert len(seen) == 2
    assert (tmp_path / "precious/below/file").read_bytes() == b"1"


def as_user(number: int, group: int, others: list[int], action: Callable[[], object]) -> None:
    """Run *action* in a process of an ordinary user."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups(others)
            os.setgid(group)
            os.setuid(number)
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A folder that everybody may get to."""
    for part in (tmp_path, *tmp_path.parents):
        mode = stat.S_IMODE(part.stat().st_mode)
        if mode & 0o011 != 0o011:
            part.chmod(mode | 0o011)
    return tmp_path


def readable_backup(place: Path) -> tuple[Repository, Point]:
    """A backup of ``place/source`` that everybody may read."""
    repository = Repository.create(os.fsencode(place / "repo"), os.urandom(16))
    point = back_up(repository, place / "source").point
    assert point
    subprocess.run(["chmod", "-R", "a+rX", place / "repo"], check=True)
    put_back(repository, point, place / "warm")  # what is imported late may be out of his reach
    return reopened(repository), point


def test_a_file_that_stays_does_not_become_set_user_id_of_another(open_path: Path) -> None:
    """An ordinary user may not give the file to its owner, and so not the bit either."""
    make_tree(open_path / "source", {"tool": File(b"run", mode=0o4755)})
    repository, point = readable_backup(open_path)
    out = open_path / "out"
    out.mkdir()
    os.chown(out, 4242, 4242)
    for _ in range(2):
        as_user(
            4242, 4242, [], lambda: put_back(repository, point, out / "here", overwrite=IF_CHANGED)
        )
        found = (out / "here/tool").stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (4242, 0o755)


def test_a_user_below_a_set_group_id_folder_gets_his_own_group(open_path: Path) -> None:
    make_tree(open_path / "source", {"private": File(b"mine", mode=0o640), "sub": {"f": b"1"}})
    for path in (open_path / "source", *(open_path / "source").rglob("*")):
        os.chown(path, 4242, 4242)
    repository, point = readable_backup(open_path)
    team = open_path / "team"
    team.mkdir()
    os.chown(team, 4242, 4343)
    team.chmod(0o2775)
    as_user(4242, 4242, [4343], lambda: put_back(repository, point, team / "here"))
    for name in ("private", "sub", "sub/f"):
        assert (team / "here" / name).stat().st_gid == 4242, name


def test_acls_go_by_name_as_owners_do(tmp_path: Path, repository: Repository) -> None:
    acl = posix_acl((1, 6, 2**32 - 1), (2, 6, 1), (4, 4, 2**32 - 1), (8, 4, 12),
                    (16, 6, 2**32 - 1), (32, 0, 2**32 - 1))  # fmt: skip
    make_tree(tmp_path / "source", {"file": b"1", "large": {}})
    os.setxattr(tmp_path / "source/file", "system.posix_acl_access", acl)
    point = back_up(repository, tmp_path / "source").point
    assert point
    assert point.users[1] == "daemon"
    assert point.groups[12] == "man"
    single = back_up(repository, tmp_path / "source/file").point
    assert single
    assert (single.users[1], single.groups[12]) == ("daemon", "man")
    elsewhere = dataclasses.replace(
        point, users={**point.users, 1: "games"}, groups={**point.groups, 12: "mail"}
    )
    for numeric, users in ((False, (5, 8)), (True, (1, 12))):
        out = tmp_path / f"out-{numeric}"
        put_back(repository, elsewhere, out, numeric_ids=numeric)
        found = acl_entries(os.getxattr(out / "file", "system.posix_acl_access"))
        assert found
        assert tuple(e.number for e in found if e.tag in (USER, GROUP)) == users


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_full_seconds_may_hide_a_change(kind: str) -> None:
    device = os.makedev(7, 1)
    systems = FileSystems(b"1 1 7:1 / / rw - %b /dev/x rw\n" % kind.encode())
    assert systems.granularity_ns(device, 5_000_000_000) == COARSE_GRANULARITY_NS
    assert systems.granularity_ns(device, 5_000_000_001) == GRANULARITY_NS


def test_a_folder_whose_xattrs_cannot_be_read_costs_only_itself(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    make_tree(source, {"bad": {"file": b"1"}, "good": {"file": b"2"}})
    assert back_up(repository, source).point
    real, inode = os.listxattr, (source / "bad").stat().st_ino
    before = len(os.listdir("/proc/self/fd"))

    def listxattr(target: int | bytes, **options: bool) -> list[str]:
        if type(target) is int and os.fstat(target).st_ino == inode:
            raise OSError(errno.EIO, "Input/output error")
        return real(target, **options)

    monkeypatch.setattr(os, "listxattr", listxattr)
    os.utime(source / "bad", ns=(1, 1))
    (source / "good/file").write_bytes(b"changed")
    recorder = Recorder()
    point = back_up(repository, source, recorder).point
    assert point
    assert [path for path, _ in recorder.problems] == [b"bad"]
    assert len(os.listdir("/proc/self/fd")) == before
    restore(repository, point, [], os.fsencode(tmp_path / "out"), RestoreOptions(), Observer())
    assert (tmp_path / "out/bad/file").read_bytes() == b"1"
    assert (tmp_path / "out/good/file").read_bytes() == b"changed"
    inode = source.stat().st_ino
    with pytest.raises(SourceError, match="The source itself cannot be read"):
        back_up(repository, source)


@pytest.fixture
def mount_point(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own below the source."""
    place = tmp_path / "source" / "mnt"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        while (
            subprocess.run(["umount", place], check=False, stderr=subprocess.DEVNULL).returncode
            == 0
        ):
            pass


def test_a_mount_that_was_left_out_is_whole_when_it_is_entered(
    mount_point: Path, repository: Repository
) -> None:
    source = mount_point.parent
    (mount_point / "file").write_bytes(b"1")
    settled(mount_point)
    time.sleep(0.2)
    rows = []
    for one_file_system in (True, False):
        chosen = TreeOptions(exclusions=Exclusions(one_file_system=one_file_system))
        point = back_up(repository, source, tree=chosen).point
        assert point
        rows.append((next(iter(Directory(repository, point.state).entries())), point.devices))
    assert [entry.flags & LEFT_OUT for entry, _ in rows] == [LEFT_OUT, 0]
    assert [devices for _, devices in rows] == [(b"",), (b"", b"mnt")]


def test_numbers_of_what_is_mounted_no_more_are_free(
    mount_point: Path, repository: Repository
) -> None:
    source = mount_point.parent
    first = back_up(repository, source).point
    subprocess.run(["umount", mount_point], check=True)
    second = back_up(repository, source).point
    (source / "other").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "other"], check=True)
    try:
        third = back_up(repository, source).point
    finally:
        subprocess.run(["umount", source / "other"], check=True)
    assert first
    assert second
    assert third
    assert first.devices == (b"", b"mnt")
    assert second.devices == (b"",)
    assert third.devices == (b"", b"other")


def test_a_lock_is_kept_fresh_while_a_run_waits(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "REFRESH_SECONDS", 0.05)
    with Lock(repository.storage, SHARED, host="here", process=1, token="0" * 8) as held:
        path = repository.storage.path(f"locks/{held.name}")
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 10
        while os.stat(path).st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert os.stat(path).st_mtime > 2
        held.verify()
        os.unlink(path)
        with pytest.raises(LockLost):
            held.verify()


def test_a_lock_of_a_machine_that_slept_is_lost(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lock(repository.storage, SHARED, host="here", process=1, token="0" * 8) as held:
        held.verify()
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        monkeypatch.setattr(lock, "_now", lambda: now + lock.STALE_SECONDS + 5)
        with pytest.raises(LockLost):
            held.verify()


def test_small_pieces_do_not_keep_what_they_were_cut_from() -> None:
    lane = _Lane(LARGE, lambda *_: None)
    for size, copied in ((4096, True), (64 << 10, False)):
        data = bytearray(1 << 20)
        lane.append(memoryview(data)[:size])
        if copied:
            data.clear()  # a view would forbid it
        else:
            with pytest.raises(BufferError):
                data.clear()
    assert lane.held == (4 << 10) + (64 << 10)


@pytest.mark.damaged
def test_check_names_every_point_that_lost_a_folder(tmp_path: Path, repository: Repository) -> None:
    source = tmp_path / "source"
    make_tree(source, {"a": {"b": {"c": b"1"}}, "n": b""})
    time.sleep(0.3)  # no longer young: the folders are shared by all points
    for number in range(3):
        (source / "n").write_bytes(b"%d" % number)
        assert back_up(repository, source).point
    first = repository.points().points[0]
    assert first.state
    archive = ArchiveReader.file(repository.archive(first.state.archive), "index")
    table = archive.table(STATES)
    path = (
        Path(os.fsdecode(repository.path))
        / "archives"
        / first.state.archive
        / archive.name.rpartition("/")[2]
    )
    data = bytearray(path.read_bytes())
    data[table.offsets[0] + 30] ^= 1
    path.write_bytes(data)
    found = check(reopened(repository), read_data=False, observer=Observer()).damages
    hit = {(point, name) for damage in found for point in damage.points for name in damage.paths}
    assert {point for point, _ in hit} == {point.id for point in repository.points().points}


@pytest.mark.damaged
def test_a_mount_goes_on_beside_a_manifest_that_may_not_be_read(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    make_tree(tmp_path / "source", {"a": b"1"})
    for _ in range(2):
        assert back_up(repository, tmp_path / "source", full=True).point
    newest = repository.points().points[-1].id
    real, refused = LocalStorage.open, [True]

    def opened(storage: LocalStorage, name: str) -> LocalObject:
        if refused[0] and name == f"points/{newest}":
            raise StorageFailed(f"{name}: Permission denied")
        return real(storage, name)

    monkeypatch.setattr(LocalStorage, "open", opened)
    view = RepositoryView(reopened(repository))
    assert len(view.sources()[b"source"].ordered) == 1
    assert len(view.sources()[b"source"].ordered) == 1
    told = [record.message for record in caplog.records if newest in record.message]
    assert len(told) == 1
    with pytest.raises(StorageFailed):
        back_up(repository, tmp_path / "source")
    refused[0] = False
    monkeypatch.setattr(tree, "AGAIN_SECONDS", 0)
    deadline = time.monotonic() + 5
    while len(view.sources()[b"source"].ordered) == 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(view.sources()[b"source"].ordered) == 2


@pytest.mark.damaged
def test_data_that_an_unreadable_manifest_may_need_is_not_left_over(
    tmp_path: Path, repository: Repository
) -> None:
    make_tree(tmp_path / "source", {"a": random.Random(1).randbytes(200_000)})
    point = back_up(repository, tmp_path / "source").point
    assert point
    root = Path(os.fsdecode(repository.path))
    archive = root / "archives" / point.state.archive
    for index in archive.glob("index.*"):
        index.unlink()
    (root / "points" / point.id).write_bytes(b"rubbish")
    assert back_up(repository, tmp_path / "source").point
    assert list(archive.glob("data.*"))


def test_a_folder_of_several_owners_lets_in_none_of_them(
    tmp_path: Path, repository: Repository
) -> None:
    folder = tmp_path / "source" / "folder"
    make_tree(folder, {"gone": b"1", "kept": b"2"})
    folder.chmod(0o700)
    for owner in (4242, 4343):
        os.chown(folder, owner, owner)
        assert back_up(repository, tmp_path / "source").point
        (folder / "gone").unlink(missing_ok=True)
    view = RepositoryView(repository)
    for path in (b".deleted", b".versions"):
        found = view.root.lookup(b"source").lookup(path).lookup(b"folder").attributes()
        assert (found.uid, found.gid, stat.S_IMODE(found.mode)) == (os.getuid(), os.getgid(), 0o700)
