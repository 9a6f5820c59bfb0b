"""A repository that changes under its mount: backups, removed points, archives that go."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ibtfs.errors import RepositoryError
from ibtfs.fuse import MountOptions, serve
from ibtfs.fuse import process as background
from ibtfs.fuse.fuse3 import adapter as lowlevel
from ibtfs.fuse.fuse3 import structures
from ibtfs.store.repository import Repository
from ibtfs.view.tree import RepositoryView
from tests.support.mounts import BINDINGS, mounted
from tests.support.repositories import back_up, create, damages, reopened, the_point

SIZE = 3_000_000
GONE = {errno.ESTALE, errno.EIO}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create(tmp_path / "repository")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    (folder / "sub").mkdir(parents=True)
    (folder / "large").write_bytes(os.urandom(SIZE))
    (folder / "sub" / "small").write_bytes(b"small")
    return folder


@pytest.fixture(params=BINDINGS)
def top(
    request: pytest.FixtureRequest, repository: Repository, source: Path, tmp_path: Path
) -> Iterator[Path]:
    """A mount with one point."""
    back_up(repository, source)
    with mounted(repository, tmp_path / "mnt", MountOptions(binding=request.param)) as path:
        yield path


def number_of(read: Callable[[], object]) -> int:
    """The errno of what *read* raises; 0 if it raises nothing."""
    try:
        read()
    except OSError as error:
        return error.errno or -1
    return 0


def soon(holds: Callable[[], bool], seconds: float = 1) -> None:
    """At one of 100 looks *holds*: in a second, or longer where the machine has much to do."""
    for _ in range(round(100 * seconds)):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("It does not come to hold")


def remove_point(repository: Repository, point_id: str) -> None:
    os.unlink(Path(os.fsdecode(repository.path)) / "points" / point_id)


def points(folder: object) -> list[str]:
    return sorted(set(os.listdir(folder)) - {"latest"})  # type: ignore[call-overload]


def test_points_come_and_go_for_those_who_are_inside(
    top: Path, repository: Repository, source: Path, tmp_path: Path
) -> None:
    folder = top / "documents"
    handle = os.open(folder, os.O_RDONLY)  # of a directory that stays open meanwhile
    inside = subprocess.Popen(
        [sys.executable, "-S", "-uc", "import os\nwhile input(): print(sorted(os.listdir('.')))"],
        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def seen_inside() -> list[str]:
        assert inside.stdin is not None
        assert inside.stdout is not None
        inside.stdin.write("x\n")
        inside.stdin.flush()
        found: list[str] = eval(inside.stdout.readline())
        return sorted(set(found) - {"latest"})

    try:
        (first,) = points(folder)
        assert points(handle) == seen_inside() == [first]
        second = the_point(back_up(repository, source))
        ways = (lambda: points(folder), lambda: points(handle), seen_inside)
        for way in ways:
            soon(lambda: len(way()) == 2)
        (name,) = set(points(folder)) - {first}
        soon(lambda: os.readlink(folder / "latest") == name)
        assert (folder / name / "sub" / "small").read_bytes() == b"small"
        soon(lambda: os.stat(folder).st_nlink == 4)
        remove_point(repository, second.id)
        soon(lambda: not (folder / name).exists())
        for way in ways:
            soon(lambda: way() == [first])
        soon(lambda: os.readlink(folder / "latest") == first)
    finally:
        os.close(handle)
        inside.communicate("\n")


def test_sources_come_and_go(top: Path, repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert os.listdir(top) == ["documents"]
    point = the_point(back_up(repository, tmp_path / "photos"))
    soon((top / "photos" / "latest").is_dir)
    soon(lambda: sorted(os.listdir(top)) == ["documents", "photos"])
    remove_point(repository, point.id)
    soon(lambda: not (top / "photos").exists())
    soon(lambda: os.listdir(top) == ["documents"])


def test_a_name_that_was_looked_for_before_it_is_there(
    top: Path, repository: Repository, source: Path
) -> None:
    (first,) = points(top / "documents")
    for name in (f"{first}-2", "photos"):
        assert not (top / "documents" / name).exists()
    (source / "sub" / "small").write_bytes(b"newer")
    second = the_point(back_up(repository, source))
    soon(lambda: len(points(top / "documents")) == 2)
    (name,) = set(points(top / "documents")) - {first}
    assert (top / "documents" / name / "sub" / "small").read_bytes() == b"newer"
    assert (top / "documents" / first / "sub" / "small").read_bytes() == b"small"
    assert second.parent


def read(number: int, size: int, offset: int) -> bytes | None:
    """What is read; None when it is said to be gone."""
    try:
        return os.pread(number, size, offset)
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None


def test_a_file_that_is_open_while_its_point_is_removed(
    top: Path, repository: Repository, source: Path, tmp_path: Path
) -> None:
    expected = (source / "large").read_bytes()
    (source / "large").write_bytes(os.urandom(SIZE))  # another content, in its place
    (point,) = repository.points.all().points
    with open(top / "documents" / "latest" / "large", "rb", buffering=0) as opened:
        number = opened.fileno()
        assert os.pread(number, 1000, 0) == expected[:1000]
        archives = Path(os.fsdecode(repository.path)) / "archives"
        remove_point(repository, point.id)
        for archive in archives.iterdir():
            shutil.move(archive, tmp_path)
        back_up(repository, source)
        Path("/proc/sys/vm/drop_caches").write_text("1")
        answers = {}
        for offset in range(0, SIZE, 250_000):
            found = answers[offset] = read(number, 5000, offset)
            assert found is None or found == expected[offset : offset + 5000]
    assert len(answers) == 12
    # under the name that the removed one had
    new = (source / "large").read_bytes()
    soon(lambda: (top / "documents" / "latest" / "large").read_bytes() == new)
    assert damages(repository) == []


def test_a_removed_point_says_so(top: Path, repository: Repository, tmp_path: Path) -> None:
    (point,) = repository.points.all().points
    (name,) = points(top / "documents")
    folder = os.open(top / "documents" / name, os.O_RDONLY)
    archives = Path(os.fsdecode(repository.path)) / "archives"
    remove_point(repository, point.id)
    for archive in archives.iterdir():
        shutil.move(archive, tmp_path)

    def look() -> None:
        number = os.open("large", os.O_RDONLY, dir_fd=folder)
        os.pread(number, 10, 2_000_000)

    # libfuse 2 goes by path, and the path leads nowhere by now
    with pytest.raises(OSError, match=r"Stale|error|No such file"):
        look()
    os.close(folder)


def test_backups_and_checks_beside_readers(top: Path, repository: Repository, source: Path) -> None:
    """Nobody waits for anybody: the mount holds no lock, and the others see all of it."""
    script = "import sys\nwhile True:\n for line in open(sys.argv[1], 'rb'): pass\n"
    path = (top / "documents" / "latest").resolve() / "large"
    with subprocess.Popen([sys.executable, "-S", "-c", script, path]) as reader:
        try:
            assert os.listdir(Path(os.fsdecode(repository.path)) / "locks") == []
            for number in range(3):
                (source / "sub" / "small").write_bytes(b"%d" % number)
                back_up(repository, source)
                assert damages(repository) == []
                soon(lambda: (top / "documents/latest/sub/small").read_bytes() == b"%d" % number)
            assert reader.poll() is None
        finally:
            reader.kill()


def test_listing_points_opens_no_archive(
    top: Path, repository: Repository, source: Path, tmp_path: Path
) -> None:
    """A file manager that looks at all points must not load them."""
    for number in range(3):
        (source / "sub" / "small").write_bytes(b"%d" % number)
        back_up(repository, source)
    shutil.move(Path(os.fsdecode(repository.path)) / "archives", tmp_path / "away")
    try:
        soon(lambda: len(points(top / "documents")) == 4)
        for name in points(top / "documents"):
            found = os.stat(top / "documents" / name)
            assert (found.st_nlink, found.st_uid) == (3, os.getuid())
        with pytest.raises(OSError, match="error"):
            os.listdir(top / "documents" / "latest")
    finally:
        shutil.move(tmp_path / "away", Path(os.fsdecode(repository.path)) / "archives")
    assert sorted(os.listdir(top / "documents" / "latest")) == ["large", "sub"]


INTERRUPTED = """
import hashlib, os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: counted.append(1))
counted, digest = [], hashlib.sha256()
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
number = os.open(sys.argv[1], os.O_RDONLY)
while data := os.read(number, 10_000): digest.update(data)
signal.setitimer(signal.ITIMER_REAL, 0)
print(digest.hexdigest(), len(counted) > 0)
"""


def test_signals_do_not_spoil_reading(top: Path, source: Path) -> None:
    Path("/proc/sys/vm/drop_caches").write_text("1")
    path = top / "documents" / "latest" / "large"
    command = [sys.executable, "-S", "-c", INTERRUPTED, path]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told == f"{hashlib.sha256((source / 'large').read_bytes()).hexdigest()} True\n"


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the kernel asked what, of a mount in this process."""
    counted: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., None]) -> object:
        def count(*arguments: object) -> None:
            counted[name] += 1
            function(*arguments)

        return structures.callback(name, count)

    monkeypatch.setattr(lowlevel, "callback", counting)
    return counted


@pytest.fixture
def counted_top(repository: Repository, source: Path, tmp_path: Path) -> Iterator[Path]:
    back_up(repository, source)
    place = tmp_path / "mnt"
    place.mkdir()
    ready = threading.Event()
    thread = threading.Thread(
        target=serve, args=(RepositoryView(reopened(repository)), os.fsencode(place)),
        kwargs={"options": MountOptions(binding="fuse3"), "on_ready": ready.set},
    )  # fmt: skip
    thread.start()
    assert ready.wait(60)
    yield place
    background.unmount(os.fsencode(place), lazy=True)
    thread.join(60)
    assert not thread.is_alive()


def kept(look: Callable[[], Counter[str]]) -> Counter[str]:
    """A look that read nothing again; now and then the kernel drops a page between two looks."""
    for _ in range(4):
        found = look()
        if found["read"] == found["readdirplus"] == 0:
            return found
    raise AssertionError(f"Read again each time: {found}")


def test_the_kernel_keeps_what_is_in_a_point(
    requests: Counter[str], counted_top: Path, repository: Repository, source: Path
) -> None:
    # from within the point: names above it are asked for again and again, by the clock
    script = "import os, sys\nos.chdir(sys.argv[1])\nfor f, _, names in os.walk('.'):\n"
    script += " for n in names:\n  os.stat(f + '/' + n); open(f + '/' + n, 'rb').read()\n"
    for folder in ("one", "two", "three"):
        (source / folder).mkdir()
        for number in range(50):
            (source / folder / f"{number}").write_bytes(b"x")
    back_up(repository, source)
    point = counted_top / "documents" / points(counted_top / "documents")[-1]

    def look() -> Counter[str]:
        requests.clear()
        subprocess.run([sys.executable, "-S", "-c", script, point], check=True)
        return Counter(requests)

    first = look()
    folders, files = 5, 152
    assert first["readdirplus"] == 2 * folders
    assert first["read"] < files + 10  # the large one takes more than one
    assert first["lookup"] + first["getattr"] < 10  # listings bring what stat shows
    assert kept(look).total() < 10
    back_up(repository, source)  # another point does not change that
    assert kept(look).total() < 10


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_disk_that_comes_back_as_another_device(
    binding: str, repository: Repository, source: Path, tmp_path: Path
) -> None:
    """The repository lies on a file system whose server is killed and started anew."""
    (source / "other").write_bytes(os.urandom(SIZE))
    back_up(repository, source)
    below, disk = create(tmp_path / "below"), tmp_path / "disk"
    back_up(below, tmp_path / "repository")
    path = disk / "repository" / "latest"

    def lose() -> None:
        os.kill(int((tmp_path / "disk.pid").read_text()), signal.SIGKILL)
        subprocess.run(["umount", "-l", disk], check=True)

    with mounted(below, disk):
        inner = mounted(
            Repository.open(bytes(path)), tmp_path / "mnt", MountOptions(binding=binding)
        )
        top = inner.__enter__()
        try:
            assert (top / "documents/latest/large").read_bytes() == (source / "large").read_bytes()
            lose()
            assert number_of((top / "documents/latest/other").read_bytes) == errno.EIO
            with mounted(below, disk):
                found = (top / "documents/latest/other").read_bytes()
                assert found == (source / "other").read_bytes()
                lose()
        finally:
            inner.__exit__(None, None, None)


def test_another_repository_in_its_place_is_told(
    top: Path, repository: Repository, source: Path, tmp_path: Path
) -> None:
    place, away = tmp_path / "repository", tmp_path / "away"
    assert os.listdir(top) == ["documents"]
    place.rename(away)
    soon(lambda: number_of(lambda: os.listdir(top)) == errno.EIO)
    other = create(place)
    back_up(other, source)
    for _ in range(2):
        time.sleep(0.2)  # longer than it is thought to be changing
        assert number_of(lambda: os.listdir(top)) == errno.EIO
    with pytest.raises(RepositoryError, match="is another repository by now"):
        repository.require_there()
    assert not repository.is_there()
    place.rename(tmp_path / "other")
    away.rename(place)
    soon(lambda: os.listdir(top) == ["documents"])
    assert (top / "documents/latest/sub/small").read_bytes() == b"small"


@pytest.mark.parametrize("binding", BINDINGS)
def test_what_could_not_be_read_for_a_moment_is_shown_afterwards(
    binding: str, repository: Repository, source: Path, tmp_path: Path
) -> None:
    (source / "sub" / "gone").write_bytes(b"gone")
    back_up(repository, source)
    (source / "sub" / "gone").unlink()
    back_up(repository, source)
    archives, away = tmp_path / "repository" / "archives", tmp_path / "away"
    whole = {".versions": ["large", "sub"], ".versions/sub": ["gone", "small"],
             ".deleted": ["sub"], ".deleted/sub": ["gone"]}  # fmt: skip
    with mounted(repository, tmp_path / "mnt", MountOptions(binding=binding)) as mount:
        top = mount / "documents"

        def listed(name: str) -> list[str]:
            try:
                return sorted(os.listdir(top / name))
            except OSError:
                return ["?"]

        assert len(os.listdir(top)) == 3
        archives.rename(away)
        archives.mkdir()
        for name, names in whole.items():
            assert listed(name) != names
        archives.rmdir()
        away.rename(archives)
        soon(lambda: {name: listed(name) for name in whole} == whole, seconds=10)
        assert (top / ".deleted/sub/gone").read_bytes() == b"gone"
