"""The FUSE adapters, mounted for real through both bindings, over a tree made up in memory."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ibtfs.fuse import MountOptions
from ibtfs.fuse.fuse3 import adapter as lowlevel
from ibtfs.fuse.fuse3 import reclaiming
from ibtfs.fuse.fuse3.nodes import NodeTable
from tests.support.fake_view import BLOB, SPARSE, STRANGE, build, directory
from tests.support.mounts import BINDINGS, Mounted, Mounting, run


@pytest.fixture(scope="module", params=BINDINGS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mounted]:
    place = tmp_path_factory.mktemp(request.param)
    place.chmod(0o755)
    for parent in place.parents:
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
            parent.chmod(0o755)
    mounted = Mounted(place, MountOptions(binding=request.param, allow_other=True))
    yield mounted
    mounted.clean_up()


# What is shown


def test_walk_finds_everything(shared: Mounted) -> None:
    found = {r: (set(d), set(f)) for r, d, f in os.walk(bytes(shared.point))}
    point = build(shared.control).root.lookup(b"point")
    expected = {name for name, _ in point.children()}
    assert set().union(*found[bytes(shared.point)]) == expected
    assert found[bytes(shared.point) + b"/strange"][1] == set(STRANGE)
    assert len(found[bytes(shared.point) + b"/many"][1]) == 5000


@pytest.mark.parametrize(
    "name", ["odd", "device", "fifo", "socket", "twin1", "sparse", "sub", "link"]
)
def test_stat_shows_the_attributes(shared: Mounted, name: str) -> None:
    a = build(shared.control).root.lookup(b"point").lookup(name.encode()).attributes()
    s = os.lstat(shared.point / name)
    assert (s.st_mode, s.st_nlink, s.st_uid, s.st_gid) == (a.mode, a.nlink, a.uid, a.gid)
    assert (s.st_rdev, s.st_size, s.st_blocks) == (a.rdev, a.size, a.blocks)
    assert (s.st_mtime_ns, s.st_atime_ns, s.st_ctime_ns) == (a.mtime_ns, a.mtime_ns, a.ctime_ns)


def test_inode_numbers_are_the_views(shared: Mounted) -> None:
    first, second = (os.stat(shared.point / p) for p in ("twin1", "sub/twin2"))
    assert (first.st_ino, second.st_ino, first.st_nlink) == (4711, 4711, 2)
    assert {e.inode() for e in os.scandir(shared.point) if e.name == "twin1"} == {4711}


def test_times_before_1970_and_after_2106(shared: Mounted) -> None:
    times = shared.point / "times"
    assert os.stat(times / "before").st_mtime_ns == -1_500_000_001
    assert os.stat(times / "before").st_ctime_ns == -1
    assert os.stat(times / "after").st_mtime_ns == 5_000_000_000_123_456_789
    assert os.stat(times / "ancient").st_mtime_ns == -2_000_000_000_000_000_000


def test_names_of_every_kind(shared: Mounted) -> None:
    for name in STRANGE:
        path = bytes(shared.point) + b"/strange/" + name
        with open(path, "rb") as opened:
            assert opened.read() == name
    with pytest.raises(FileNotFoundError):
        os.stat(shared.point / "strange" / "absent")
    with pytest.raises(OSError, match=r"too long|No such"):
        os.stat(bytes(shared.point) + b"/" + b"l" * 256)


def test_links(shared: Mounted) -> None:
    assert os.readlink(bytes(shared.point) + b"/dangling") == b"/nowhere/\xff"
    assert (shared.point / "link").read_bytes() == b"x"
    assert (shared.path / "latest" / "sub" / "deep" / "x").read_bytes() == b"x"


def test_statfs(shared: Mounted) -> None:
    s = os.statvfs(shared.path)
    assert (s.f_bsize, s.f_blocks, s.f_bfree, s.f_bavail) == (4096, 1000, 600, 500)
    assert (s.f_files, s.f_ffree, s.f_namemax) == (2000, 1500, 255)
    assert s.f_flag & os.ST_RDONLY


def test_extended_attributes(shared: Mounted) -> None:
    path = shared.point / "tagged"
    assert set(os.listxattr(path)) == {"user.text", "user.empty", "user.bin"}
    assert os.getxattr(path, "user.empty") == b""
    assert os.getxattr(path, "user.bin") == bytes(range(256))
    with pytest.raises(OSError, match="No data") as caught:
        os.getxattr(path, "user.absent")
    assert caught.value.errno == errno.ENODATA
    with pytest.raises(OSError, match=r"not supported|No data") as caught:
        os.getxattr(path, "security.selinux")  # ls -l asks no more once it is not supported
    where = Path("/sys/fs/selinux")
    assert caught.value.errno == (errno.ENODATA if where.is_dir() else errno.EOPNOTSUPP)
    assert 'user.text="value"' in run("getfattr", "-d", path).stdout
    assert os.listxattr(shared.point / "odd") == []


# Reading


def test_random_ranges(shared: Mounted) -> None:
    dice = random.Random(7)
    with open(shared.point / "blob", "rb", buffering=0) as opened:
        for _ in range(64):
            offset, size = dice.randrange(len(BLOB) + 10), dice.randrange(1, 200_000)
            assert os.pread(opened.fileno(), size, offset) == BLOB[offset : offset + size]


def test_readers_at_once(shared: Mounted) -> None:
    expected = hashlib.sha256(BLOB).hexdigest()
    script = "import hashlib,sys;print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())"

    def digest(_: int) -> str:
        return run(sys.executable, "-S", "-c", script, shared.point / "blob").stdout.strip()

    def listing(_: int) -> int:
        return len(os.listdir(shared.point / "many"))

    Path("/proc/sys/vm/drop_caches").write_text("3")
    with ThreadPoolExecutor(8) as pool:
        digests, lengths = pool.map(digest, range(6)), pool.map(listing, range(6))
        assert set(digests) == {expected}
        assert set(lengths) == {5000}


def test_mmap(shared: Mounted) -> None:
    with (
        open(shared.point / "blob", "rb") as opened,
        mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped,
    ):
        assert mapped[2_000_000:2_000_100] == BLOB[2_000_000:2_000_100]
        assert hashlib.sha256(mapped).digest() == hashlib.sha256(BLOB).digest()


def test_sparse_file(shared: Mounted) -> None:
    with open(shared.point / "sparse", "rb") as opened:
        for start, data in SPARSE.items():
            assert os.pread(opened.fileno(), 100, start) == data[:100]
            assert os.pread(opened.fileno(), 3, start + len(data) + 5000) in (b"\0\0\0", b"")


def test_seek_to_data_and_holes(mounting: Mounting) -> None:
    mounted = mounting(MountOptions(binding="fuse3"))
    with open(mounted.point / "sparse", "rb") as opened:
        number = opened.fileno()
        found = []
        offset = 0
        for _ in SPARSE:
            start = os.lseek(number, offset, os.SEEK_DATA)
            offset = os.lseek(number, start, os.SEEK_HOLE)
            found.append((start, offset))
        assert found == [(start, start + len(data)) for start, data in SPARSE.items()]
        with pytest.raises(OSError, match="No such device or address"):
            os.lseek(number, offset, os.SEEK_DATA)
        assert os.lseek(number, 10_000, os.SEEK_HOLE) == 10_000


def test_damage_costs_only_what_it_hit(shared: Mounted) -> None:
    path = shared.point / "damaged"
    with open(path, "rb", buffering=0) as opened:
        assert opened.read(1000) == BLOB[:1000]
        for _ in range(3):
            with pytest.raises(OSError, match="Input/output") as caught:
                os.pread(opened.fileno(), 4096, 2_000_000)
            assert caught.value.errno == errno.EIO
        assert os.pread(opened.fileno(), 1000, 1000) == BLOB[1000:2000]
    assert (shared.point / "odd").read_bytes() == b"odd"
    said = shared.log.read_text()
    assert said.count("path /damaged, archive a: frame 3 is damaged") == 1
    assert "Traceback" not in said


def test_damaged_entry_is_listed(shared: Mounted) -> None:
    assert sorted(os.listdir(shared.path / "shaky")) == ["broken", "fine"]
    assert (shared.path / "shaky" / "fine").read_bytes() == b"fine"
    with pytest.raises(OSError, match="Input/output"):
        os.stat(shared.path / "shaky" / "broken")


def test_removed_point(shared: Mounted) -> None:
    for act in (os.listdir, lambda p: os.stat(p / "x")):
        with pytest.raises(OSError, match="Stale") as caught:
            act(shared.point / "gone")
        assert caught.value.errno == errno.ESTALE


def test_nothing_can_be_written(shared: Mounted) -> None:
    path, fd = shared.point / "odd", os.O_WRONLY
    acts: list[Callable[[], object]] = [
        lambda: os.open(path, fd),
        lambda: os.open(shared.point / "new", os.O_CREAT | fd),
        lambda: os.unlink(path),
        lambda: os.mkdir(shared.point / "new"),
        lambda: os.rmdir(shared.point / "sub"),
        lambda: os.symlink("a", shared.point / "new"),
        lambda: os.link(path, shared.point / "new"),
        lambda: os.rename(path, shared.point / "new"),
        lambda: os.chmod(path, 0),
        lambda: os.chown(path, 1, 1),
        lambda: os.utime(path),
        lambda: os.truncate(path, 0),
        lambda: os.setxattr(path, "user.a", b""),
        lambda: os.removexattr(shared.point / "tagged", "user.text"),
        lambda: os.mkfifo(shared.point / "new"),
    ]
    for act in acts:
        with pytest.raises(OSError, match="Read-only") as caught:
            act()
        assert caught.value.errno == errno.EROFS


def test_nothing_can_be_written_when_remounted(mounting: Mounting) -> None:
    mounted = mounting(MountOptions(binding="fuse3"))
    if run("mount", "-i", "-o", "remount,rw", mounted.path).returncode != 0:
        pytest.skip("This kernel does not remount FUSE")
    for act in (os.unlink, lambda p: os.truncate(p, 0), os.utime):
        with pytest.raises(OSError, match="Read-only"):
            act(mounted.point / "odd")
    number = os.open(mounted.point / "odd", os.O_WRONLY)  # nobody is asked yet
    with pytest.raises(OSError, match="Read-only"):
        os.write(number, b"x")
    os.close(number)


# Directories


def test_large_directory_by_steps(shared: Mounted) -> None:
    expected = [f"entry{i:05}" for i in range(5000)]
    assert sorted(os.listdir(shared.point / "many")) == expected
    number = os.open(shared.point / "many", os.O_RDONLY)
    try:
        assert sorted(os.listdir(number)) == expected
        assert sorted(os.listdir(number)) == expected  # rewinds
    finally:
        os.close(number)


SEEKER = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
for f in (libc.readdir, libc.telldir, libc.rewinddir): f.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
d = libc.opendir(sys.argv[1].encode())
def name():
    p = libc.readdir(d)
    return ctypes.string_at(p + 19) if p else None
seen, marks = [], []
while True:
    mark = libc.telldir(d); n = name()
    if n is None: break
    seen.append(n); marks.append(mark)
for i in list(range(0, len(seen), 701)) + [3, len(seen) - 1, 0]:
    libc.seekdir(d, marks[i]); assert name() == seen[i], i
libc.rewinddir(d); assert name() == seen[0]
print(len(set(seen)))
"""


def test_seekdir_and_rewinddir(shared: Mounted) -> None:
    result = run(sys.executable, "-S", "-c", SEEKER, shared.point / "many")
    assert result.stdout.strip() == "5002", result.stderr


def test_new_names_appear_and_old_ones_go(shared: Mounted) -> None:
    changing = shared.path / "changing"
    (shared.control / "one").mkdir()
    pause = 1.1 if "fuse2" in str(shared.path) else 0.05
    assert os.listdir(changing) == ["one", "latest"]
    assert os.readlink(changing / "latest") == "one"
    assert not (changing / "two").exists()
    (shared.control / "two").mkdir()
    time.sleep(pause)
    assert (changing / "two").is_dir()
    assert os.readlink(changing / "latest") == "two"
    assert os.listdir(changing) == ["one", "two", "latest"]
    (shared.control / "one").rmdir()
    time.sleep(pause)
    assert not (changing / "one").exists()
    assert os.listdir(changing) == ["two", "latest"]


# Programs


def test_programs(shared: Mounted, tmp_path: Path) -> None:
    listing = run("ls", "-lan", "--time-style=+%s", shared.point)
    assert listing.returncode == 0
    assert "259, 70000" in listing.stdout
    found = run("find", shared.point / "sub", shared.point / "many", "-type", "f")
    assert (found.returncode, len(found.stdout.split())) == (0, 5002)
    copied = run("cp", "-a", shared.point / "sub", shared.point / "tagged", tmp_path)
    assert (copied.returncode, copied.stderr) == (0, "")
    assert os.getxattr(tmp_path / "tagged", "user.bin") == bytes(range(256))
    assert os.lstat(tmp_path / "sub/twin2").st_mtime_ns == 10**18 + 7
    copied = run("cp", "-a", shared.point / "strange", shared.point / "fifo", tmp_path)
    assert (copied.returncode, len(os.listdir(tmp_path / "strange"))) == (0, len(STRANGE))
    assert run("du", "-s", shared.point / "many").returncode == 0


def test_owners_and_acls_count_for_others(shared: Mounted) -> None:
    if run("setpriv", "--version").returncode != 0:
        pytest.skip("No setpriv")

    def cat(name: str, uid: int) -> str:
        who = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        return run("setpriv", *who, "cat", shared.point / name).stdout

    assert cat("twin1", 65534) == "one content"
    assert cat("private", 65534) == ""
    assert cat("guarded", 4242) == ""
    if "fuse3" in str(shared.path):
        assert cat("guarded", 65534) == "secret"


def test_without_xattrs(mounting: Mounting) -> None:
    mounted = mounting(MountOptions(xattrs=False))
    assert run("ls", "-la", mounted.point).returncode == 0
    with pytest.raises(OSError, match="not supported") as caught:
        os.listxattr(mounted.point / "tagged")
    assert caught.value.errno == errno.EOPNOTSUPP


def test_without_xattrs_acls_still_count(mounting: Mounting) -> None:
    mounted = mounting(MountOptions(xattrs=False, allow_other=True))
    assert os.listxattr(mounted.point / "tagged") == []
    assert os.getxattr(mounted.point / "guarded", "system.posix_acl_access")


def test_nodes_are_forgotten(mounting: Mounting) -> None:
    mounted = mounting(MountOptions(binding="fuse3"))

    def held() -> int:
        return int(os.getxattr(mounted.path, "user.held"))

    for _ in range(3):
        run("ls", "-lR", mounted.path)
        run("find", mounted.path, "-name", "nothing")
    assert held() > 5000
    for _ in range(100):
        if held() <= 20:
            break
        Path("/proc/sys/vm/drop_caches").write_text("2")
        time.sleep(0.05)
    assert held() <= 20
    assert len(os.listdir(mounted.point / "many")) == 5000


def test_what_was_not_used_for_long_is_taken_back(
    mounting: Mounting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclaiming, "MOST", 1000)
    monkeypatch.setattr(reclaiming, "PAUSE_SECONDS", 0.01)
    mounted = mounting(MountOptions(binding="fuse3"))
    with (mounted.point / "blob").open("rb") as opened:
        first = os.lstat(mounted.point / "odd")
        for _ in range(3):
            run("ls", "-lR", mounted.path)
        for _ in range(100):
            if (held := int(os.getxattr(mounted.path, "user.held"))) <= 1000:
                break
            os.listdir(mounted.point / "sub")
            time.sleep(0.05)
        assert held <= 1000
        assert opened.read() == BLOB
    assert os.lstat(mounted.point / "odd") == first
    assert len(os.listdir(mounted.point / "many")) == 5000
    assert (mounted.point / "blob").read_bytes() == BLOB


def test_folders_that_are_gone_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reclaiming, "SPARE", 10)
    nodes = NodeTable(directory({}))
    reclaimer = reclaiming.Reclaimer(nodes, lambda *_: True)
    for _ in range(100):
        folder = directory({})
        (number,) = nodes.remember([folder], [id(folder)])
        reclaimer.used(number)
        nodes.forget([(number, 1)])
    assert len(reclaimer._folders) <= 14


def test_kernel_that_wants_open(mounting: Mounting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowlevel, "CAP_NO_OPEN", 0)
    monkeypatch.setattr(lowlevel, "CAP_NO_OPENDIR", 0)
    mounted = mounting(MountOptions(binding="fuse3"))
    assert len(os.listdir(mounted.point / "many")) == 5000
    for _ in range(2):
        assert (mounted.point / "blob").read_bytes() == BLOB
