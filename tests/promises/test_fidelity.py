"""A mounted point against the tree that was backed up: byte by byte, by system calls and programs.

One repository and one mount for each binding serve all tests: two points of a tree that has
everything, and copies of the tree as it was at each.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import hashlib
import mmap
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.observer import Observer
from ibtfs.fuse import MountOptions
from ibtfs.store.naming import displayed_names
from ibtfs.store.repository import Repository
from ibtfs.view import inodes
from tests.support import Entry, differences, snapshot
from tests.support.mounts import BINDINGS, mounted
from tests.support.repositories import HOST, back_up, create, restored, the_point
from tests.support.trees import Hardlink, make_tree, nasty_tree

MIB, GIB = 1 << 20, 1 << 30
NOISE = random.Random(3).randbytes(3_000_000)
IMAGE = {5 << 20: NOISE[:100_000], GIB: NOISE[:70_000], 2 * GIB - 4096: NOISE[:4096]}


class Made(NamedTuple):
    """A repository of two points, and copies of what they show."""

    repository: Repository
    copies: list[Path]
    trees: list[dict[bytes, Entry]]


class Shown(NamedTuple):
    """The two points as they are mounted."""

    binding: str
    top: Path
    points: list[Path]


def run(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    words = [os.fsencode(c) if isinstance(c, (bytes, Path)) else str(c) for c in command]
    return subprocess.run(words, capture_output=True, check=False, timeout=240, cwd=cwd)


def quiet(*command: object, cwd: Path | None = None) -> bytes:
    """What a command prints; it must end well, and complain of nothing."""
    result = run(*command, cwd=cwd)
    assert (result.returncode, result.stderr) == (0, b""), result.stdout[-500:]
    return result.stdout


def git(folder: Path, *words: object) -> bytes:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*"]
    return quiet("git", "--no-optional-locks", *who, "-C", folder, *words)


def build_source(source: Path) -> None:
    assert nasty_tree(source / "nasty") == []
    make_tree(source / "project", {"a.txt": b"one\n", "lib": {"b.txt": b"two\n" * 1000}})
    git(source / "project", "init", "-q")
    git(source / "project", "add", ".")
    git(source / "project", "commit", "-qm", "first")
    package = {"__init__.py": b"from shown.part import VALUE\n", "part.py": b"VALUE = 42\n"}
    make_tree(source / "python", {"shown": package})
    with contextlib.closing(sqlite3.connect(source / "base.sqlite")) as base:
        base.execute("create table t (k integer primary key, v text)")
        base.executemany("insert into t (v) values (?)", [(f"row {n}",) for n in range(20_000)])
        base.commit()
    (source / "noise").write_bytes(NOISE)
    groups = {f"{n}": b"%d" % n for n in range(20)}
    links = {f"{n}": Hardlink(f"crowd/links/one/{n}") for n in range(20)}
    deep = {f"d{n}": {"d": {"d": {"f": b"%d" % n}}} for n in range(20)}
    make_tree(source, {"crowd": {"links": {"one": groups, "two": links}, "deep": deep,
                                 "single": {f"{n}": b"x%d" % n for n in range(100)}}})  # fmt: skip
    with (source / "image").open("wb") as image:
        image.truncate(64 << 20)
        image.seek(40 << 20)
        image.write(NOISE[:50_000])


def change_source(source: Path) -> None:
    with (source / "noise").open("r+b") as noise:
        noise.seek(1_234_567)
        noise.write(b"changed in the middle")
    with contextlib.closing(sqlite3.connect(source / "base.sqlite")) as base:
        base.execute("update t set v = 'new' where k % 1000 = 0")
        base.commit()
    (source / "project" / "a.txt").write_bytes(b"one, changed\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("fidelity")
    source = place / "source"
    source.mkdir()
    build_source(source)
    repository = create(place / "repository")
    copies, trees = [], []
    for number in range(2):
        if number:
            change_source(source)
        the_point(backup(repository, os.fsencode(source), BackupOptions(HOST), Observer()))
        copies.append(place / f"copy{number}")
        quiet("cp", "-a", source, copies[-1])
        trees.append(snapshot(source))
    return Made(repository, copies, trees)


@pytest.fixture(scope="module", params=BINDINGS)
def shown(
    request: pytest.FixtureRequest, made: Made, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shown]:
    place = tmp_path_factory.mktemp("shown") / "mnt"
    with mounted(made.repository, place, MountOptions(binding=request.param)) as top:
        names = sorted(set(os.listdir(top / "source")) - {"latest"})
        yield Shown(request.param, top, [top / "source" / name for name in names])


def files_of(tree: dict[bytes, Entry]) -> list[bytes]:
    return [path for path, entry in tree.items() if entry.type == "file"]


def at(folder: Path, path: bytes) -> bytes:
    return os.fsencode(folder) + b"/" + path


# ---- system calls ------------------------------------------------------------------------------


def test_random_ranges_of_every_file(shown: Shown, made: Made) -> None:
    Path("/proc/sys/vm/drop_caches").write_text("1")
    dice = random.Random(11)
    for copy, point, tree in zip(made.copies, shown.points, made.trees, strict=True):
        for path in files_of(tree):
            size = tree[path].size
            with open(at(copy, path), "rb") as one, open(at(point, path), "rb") as other:
                for _ in range(64 if size else 1):
                    offset = dice.randrange(size + 2)
                    length = dice.choice((1, 4096, dice.randrange(1, 200_000)))
                    expected = os.pread(one.fileno(), length, offset)
                    assert os.pread(other.fileno(), length, offset) == expected, path


def test_every_entry_is_as_it_was(shown: Shown, made: Made) -> None:
    for point, tree in zip(shown.points, made.trees, strict=True):
        assert differences(tree, snapshot(point), also=["blocks"]) == []


def test_nanoseconds_lengths_and_blocks(shown: Shown, made: Made) -> None:
    for path, entry in made.trees[0].items():
        found = os.lstat(at(shown.points[0], path))
        assert found.st_mtime_ns == entry.mtime_ns
        if entry.type == "symlink":
            assert found.st_size == len(os.readlink(at(shown.points[0], path)))
        if entry.type == "file":
            assert found.st_blocks == entry.blocks, path
    times = {entry.mtime_ns for entry in made.trees[0].values()}
    assert min(times) < 0 < 2**32 * 10**9 < max(times)


def test_acls_as_getfacl_tells_them(shown: Shown, made: Made) -> None:
    one, other = (
        sorted(quiet("getfacl", "-Rpn", "nasty/xattrs", cwd=folder).split(b"\n\n"))
        for folder in (made.copies[0], shown.points[0])
    )
    assert one == other
    assert b"user:1234:r--" in b"".join(one)
    assert b"default:" in b"".join(one)


def test_inode_numbers_are_the_same_in_another_mount(
    shown: Shown, made: Made, tmp_path: Path
) -> None:
    def numbers(top: Path) -> dict[bytes, int]:
        found = {}
        for folder, folders, files in os.walk(os.fsencode(top)):
            for name in folders + files:
                path = os.path.join(folder, name)
                found[os.path.relpath(path, os.fsencode(top))] = os.lstat(path).st_ino
        return found

    first = numbers(shown.top)
    with mounted(made.repository, tmp_path / "again") as again:
        assert numbers(again) == first
    one, two = (numbers(point) for point in shown.points)
    changed = {path for path in one if one[path] != two[path]}
    assert changed == {b"noise", b"base.sqlite", b"project", b"project/a.txt"}
    assert all(0 < number < 1 << 63 for number in one.values())


def test_listings_tell_the_types_and_numbers_of_stat(shown: Shown) -> None:
    for folder, _, _ in os.walk(os.fsencode(shown.points[0] / "nasty")):
        for item in os.scandir(folder):
            found = os.lstat(item.path)
            assert item.inode() == found.st_ino
            assert item.is_symlink() == stat.S_ISLNK(found.st_mode)
            assert item.is_dir(follow_symlinks=False) == stat.S_ISDIR(found.st_mode)
            assert item.is_file(follow_symlinks=False) == stat.S_ISREG(found.st_mode)


def test_names_are_bytes_and_not_made_alike(shown: Shown) -> None:
    names = shown.points[0] / "nasty" / "names"
    composed, apart = "caf\u00e9".encode(), "cafe\u0301".encode()
    for name in (composed, apart, b"new\nline", b"n" * 255, b"\x80"):
        with open(at(names, name), "rb") as file:
            assert file.read() == name
    assert run("ls", at(names, b"CAF\xc3\xa9")).returncode != 0


def test_memory_maps(shown: Shown, made: Made) -> None:
    for copy, point in zip(made.copies, shown.points, strict=True):
        with (
            open(point / "noise", "rb") as opened,
            mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped,
        ):
            assert mapped[:] == (copy / "noise").read_bytes()


def test_direct_reading(shown: Shown, made: Made) -> None:
    number = os.open(shown.points[1] / "noise", os.O_RDONLY | os.O_DIRECT)
    expected = (made.copies[1] / "noise").read_bytes()
    with mmap.mmap(-1, 1 << 20) as room:
        for offset in (0, 1 << 20, len(expected) & ~4095):
            count = os.preadv(number, [room], offset)
            assert room[:count] == expected[offset : offset + (1 << 20)]
    os.close(number)


def test_sendfile_and_splice(shown: Shown, made: Made, tmp_path: Path) -> None:
    expected = (made.copies[1] / "noise").read_bytes()
    with open(shown.points[1] / "noise", "rb") as one, open(tmp_path / "out", "wb") as out:
        offset = 0
        while sent := os.sendfile(out.fileno(), one.fileno(), offset, 1 << 20):
            offset += sent
    assert (tmp_path / "out").read_bytes() == expected
    assert quiet("sh", "-c", 'cat < "$1" | cat', "-", shown.points[1] / "noise") == expected
    shutil.copyfile(shown.points[1] / "noise", tmp_path / "copied")  # copy_file_range, sendfile
    assert (tmp_path / "copied").read_bytes() == expected


def test_concurrent_readers_of_everything(shown: Shown, made: Made) -> None:
    tree = made.trees[1]
    paths = [path for path in files_of(tree) if tree[path].size < 4 << 20] * 4
    random.Random(5).shuffle(paths)

    def digest(path: bytes) -> str:
        with open(at(shown.points[1], path), "rb", buffering=0) as file:
            return hashlib.sha256(file.readall()).hexdigest()

    Path("/proc/sys/vm/drop_caches").write_text("1")
    with ThreadPoolExecutor(8) as pool:
        for path, found in zip(paths, pool.map(digest, paths), strict=True):
            assert found == tree[path].sha256, path


WRITING = """
import ctypes, errno, mmap, os, stat, sys
point, other = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def c(name, *arguments):
    if getattr(libc, name)(*arguments) < 0: raise OSError(ctypes.get_errno(), name)
file, folder, p = point + "/noise", point + "/project", os.fsencode(point + "/noise")
fd, d = os.open(file, os.O_RDONLY), os.open(folder, os.O_RDONLY)
source = os.open(other, os.O_RDONLY)
calls = {
    "O_RDWR": lambda: os.open(file, os.O_RDWR),
    "O_TRUNC": lambda: os.open(file, os.O_WRONLY | os.O_TRUNC),
    "O_APPEND": lambda: os.open(file, os.O_WRONLY | os.O_APPEND),
    "O_TMPFILE": lambda: os.open(folder, os.O_WRONLY | os.O_TMPFILE),
    "openat": lambda: os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=d),
    "mknod": lambda: os.mknod(folder + "/new", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "exchange": lambda: c("renameat2", -100, p, -100, os.fsencode(folder) + b"/a.txt", 2),
    "rename from outside": lambda: os.replace(folder + "/a.txt", folder + "/lib/b.txt"),
    "fchmod": lambda: os.fchmod(fd, 0o600), "fchown": lambda: os.fchown(fd, 1, 1),
    "futimens": lambda: os.utime(fd), "fsetxattr": lambda: os.setxattr(fd, "user.a", b""),
    "lutimens": lambda: os.utime(file, follow_symlinks=False),
    "lchown": lambda: os.lchown(point + "/nasty/symlinks/dangling", 1, 1),
    "chmod of a folder": lambda: os.chmod(folder, 0o700),
    "acl": lambda: os.setxattr(folder, "system.posix_acl_access", bytes.fromhex(
        "0200000001000700ffffffff04000500ffffffff20000500ffffffff")),
    "unlink of a link": lambda: os.unlink(point + "/nasty/symlinks/loop"),
    "rmdir of an empty one": lambda: os.rmdir(point + "/nasty/empty/a"),
    "mkdir in a source": lambda: os.mkdir(point + "/../new"),
    "rmdir of a point": lambda: os.rmdir(point),
    "mkdir at the top": lambda: os.mkdir(point + "/../../new"),
    "unlink of latest": lambda: os.unlink(point + "/../latest"),
}
wrong = {}
for name, call in calls.items():
    try: call()
    except OSError as error:
        if error.errno != errno.EROFS: wrong[name] = errno.errorcode.get(error.errno)
    else: wrong[name] = "done"
for name, call in {
    "write": lambda: os.write(fd, b"x"), "ftruncate": lambda: os.ftruncate(fd, 0),
    "fallocate": lambda: os.posix_fallocate(fd, 0, 9),
    "copy_file_range": lambda: os.copy_file_range(source, fd, 10),
    "shared mapping": lambda: mmap.mmap(fd, 10, prot=mmap.PROT_WRITE),
}.items():  # there is no descriptor to write to, so the kernel says so
    try: call()
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EINVAL, errno.EACCES, errno.EROFS):
            wrong[name] = errno.errorcode.get(error.errno)
    else: wrong[name] = "done"
print(wrong, len(calls))
"""


def test_every_kind_of_writing_call_is_refused(shown: Shown) -> None:
    result = run(sys.executable, "-S", "-c", WRITING, shown.points[1], __file__)
    assert result.stdout == b"{} 22\n", result.stderr.decode()


# ---- programs ----------------------------------------------------------------------------------


def test_find_goes_everywhere(shown: Shown, made: Made) -> None:
    found = quiet("find", ".", "-print0", cwd=shown.points[0])
    expected = {b"./" + path if path else b"." for path in made.trees[0]}
    assert set(found.rstrip(b"\0").split(b"\0")) == expected
    folders = quiet("find", ".", "-type", "d", "-print0", cwd=shown.points[0])
    assert folders.count(b"\0") == sum(e.type == "directory" for e in made.trees[0].values())


def test_du_counts_as_on_the_disk(shown: Shown, made: Made) -> None:
    for words in (["-s", "--apparent-size"], ["-s"]):
        one, other = (
            int(quiet("du", *words, "-B1", "nasty/sizes", "nasty/links", "-c", cwd=f).split()[-2])
            for f in (made.copies[0], shown.points[0])
        )
        assert one == other


def test_tar_takes_it_all(shown: Shown, made: Made, tmp_path: Path) -> None:
    words = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-S", "--format=posix",
             "--warning=no-timestamp", "--warning=no-file-ignored"]  # fmt: skip
    trees = []
    for number, folder in enumerate((made.copies[0], shown.points[0])):
        archive, out = tmp_path / f"tar{number}", tmp_path / f"out{number}"
        quiet("tar", "-c", *words, "-f", archive, "-C", folder, ".")
        out.mkdir()
        quiet("tar", "-xp", *words, "-f", archive, "-C", out)
        trees.append(snapshot(out))
    assert differences(*trees) == []
    assert len(trees[1]) > 300


def test_cp_takes_it_all(shown: Shown, made: Made, tmp_path: Path) -> None:
    quiet("cp", "-a", shown.points[1], tmp_path / "out")
    found = snapshot(tmp_path / "out")
    assert differences(made.trees[1], found) == []
    assert found[b"image"].blocks == made.trees[1][b"image"].blocks


def test_rsync_finds_no_difference(shown: Shown, made: Made, tmp_path: Path) -> None:
    for copy, point in zip(made.copies, shown.points, strict=True):
        words = ["-aHAX", "--numeric-ids", "--checksum", "--delete", "--itemize-changes"]
        told = quiet("rsync", *words, "--dry-run", f"{point}/", f"{copy}/")
        assert told == b""
    quiet("rsync", *words, f"{shown.points[1]}/", tmp_path / "out")
    assert differences(made.trees[1], snapshot(tmp_path / "out")) == []


def test_diff_and_grep(shown: Shown, made: Made) -> None:
    words = ["-r", "--no-dereference"]
    for part in ("nasty/names", "nasty/sizes", "nasty/symlinks", "nasty/links/a", "project"):
        assert quiet("diff", *words, made.copies[0] / part, shown.points[0] / part) == b""
    told = run("diff", *words, "-q", *shown.points)
    lines = told.stdout.decode(errors="replace").splitlines()
    assert sorted(line.split()[1].rpartition("/")[2] for line in lines if "differ" in line) == [
        "a.txt", "base.sqlite", "noise",
    ]  # fmt: skip
    one, other = (
        quiet("grep", "-rc", "two", "project", cwd=f) for f in (made.copies[0], shown.points[0])
    )
    assert sorted(one.splitlines()) == sorted(other.splitlines())


def test_git_sees_its_repository_as_it_was(shown: Shown) -> None:
    assert git(shown.points[0] / "project", "status", "--porcelain") == b""
    assert git(shown.points[1] / "project", "status", "--porcelain") == b" M a.txt\n"
    assert b"first" in git(shown.points[1] / "project", "log")
    git(shown.points[1] / "project", "fsck", "--full")


def test_sqlite_opens_a_base_that_nobody_can_write(shown: Shown) -> None:
    counts = []
    for point in shown.points:
        with contextlib.closing(
            sqlite3.connect(f"file:{point}/base.sqlite?mode=ro&immutable=1", uri=True)
        ) as base:
            assert base.execute("pragma integrity_check").fetchone() == ("ok",)
            counts.append(base.execute("select count(*) from t where v = 'new'").fetchone()[0])
    assert counts == [0, 20]


def test_python_imports_from_it(shown: Shown) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import shown; print(shown.VALUE)"
    told = quiet(sys.executable, "-c", code, shown.points[0] / "python")
    assert told == b"42\n"


# ---- holes -------------------------------------------------------------------------------------


def extents(path: Path) -> list[tuple[int, int]]:
    found, offset = [], 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while offset < size:
            try:
                start = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            offset = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, offset))
    return found


def test_cp_keeps_the_holes_of_a_large_image(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with (tmp_path / "disk" / "image").open("wb") as image:
        image.truncate(2 * GIB)
        for offset, data in IMAGE.items():
            image.seek(offset)
            image.write(data)
    repository = create(tmp_path / "repository")
    backup(repository, os.fsencode(tmp_path / "disk"), BackupOptions(HOST), Observer())
    with mounted(repository, tmp_path / "mnt", MountOptions(binding="fuse3")) as top:
        image = top / "disk" / "latest" / "image"
        found = extents(image)
        assert [start & ~4095 for start, _ in found] == list(IMAGE)
        assert sum(end - start for start, end in found) < 200_000
        quiet("cp", "-a", image, tmp_path / "copy")
        copied = os.stat(tmp_path / "copy")
        assert (copied.st_size, copied.st_blocks * 512 < 1 << 20) == (2 * GIB, True)
        assert os.stat(image).st_blocks == os.stat(tmp_path / "disk" / "image").st_blocks
        with open(tmp_path / "copy", "rb") as copy:
            for offset, data in IMAGE.items():
                assert os.pread(copy.fileno(), len(data), offset) == data


@pytest.mark.parametrize("size", [3 * MIB, 40 * MIB])
def test_holes_stay_where_they_are_when_something_is_written_into_them(
    tmp_path: Path, size: int
) -> None:
    source, chance = tmp_path / "disk", random.Random(size)
    source.mkdir()
    repository = create(tmp_path / "repository")
    expected = []
    with (source / "image").open("wb") as image:
        image.truncate(size)
        for generation in range(4):
            for _ in range(30):
                place = chance.randrange(size - 20_000)
                data = chance.choice([b"x" * 100, bytes(9000), chance.randbytes(300) + bytes(5000)])
                os.pwrite(image.fileno(), data, place)
            os.fsync(image.fileno())
            expected.append(extents(source / "image"))
            point = back_up(repository, source).point
            assert point, generation
    with mounted(repository, tmp_path / "mnt", MountOptions(binding="fuse3")) as top:
        points = repository.points.all().points
        names = displayed_names(points)
        shown = [top / "disk" / names[point.id] / "image" for point in points]
        assert [extents(image) for image in shown] == expected
    restored(repository, point, tmp_path / "back")
    back = tmp_path / "back" / "image"
    assert extents(back) == expected[-1]
    assert filecmp.cmp(back, source / "image", shallow=False)


# ---- inode numbers that collide ----------------------------------------------------------------


@pytest.mark.parametrize("binding", BINDINGS)
def test_inode_numbers_that_collide_mislead_nobody(
    binding: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inodes, "BITS", 10)
    options = MountOptions(binding=binding)  # type: ignore[arg-type]
    with mounted(made.repository, tmp_path / "mnt", options) as top:
        crowd = top / "source" / "latest" / "crowd"
        found = quiet("find", crowd, "-ls").splitlines()
        numbers = [int(line.split()[0]) for line in found]
        assert max(numbers) < 1 << 11
        assert len(set(numbers)) < len(numbers) - 20  # besides the 20 second links
        Path("/proc/sys/vm/drop_caches").write_text("2")  # numbers outlive what the kernel holds
        assert quiet("find", crowd, "-ls").splitlines() == found
        expected = snapshot(made.copies[1] / "crowd")
        quiet("cp", "-a", crowd, tmp_path / "cp")
        (tmp_path / "tar").mkdir()
        quiet("tar", "-cf", tmp_path / "t", "-C", crowd, ".")
        quiet("tar", "-xpf", tmp_path / "t", "-C", tmp_path / "tar")
        quiet("rsync", "-aH", f"{crowd}/", tmp_path / "rsync")
        for copy in ("cp", "tar", "rsync"):
            ignore = ["mtime_ns"] if copy == "tar" else []  # the format of old has seconds
            assert differences(expected, snapshot(tmp_path / copy), ignore=ignore) == [], copy
