"""What tests of whole repositories share: a checked repository, backups of it, views, mounts.

`check` runs over every repository at the end of its test, unless the test is marked `damaged`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import TYPES, Entry, snapshot

from ibtfs.actions.backup.run import BackupOptions, BackupResult, backup
from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer, Tally
from ibtfs.actions.restore.run import RestoreOptions, restore
from ibtfs.format.point import Point
from ibtfs.fuse import MountOptions, serve
from ibtfs.fuse import process as background
from ibtfs.store.repository import Repository
from ibtfs.view.entry_node import point_node
from ibtfs.view.node import Node
from ibtfs.view.tree import RepositoryView

SLOW = ("test_rules", "test_big_file", "test_fuse", "test_histories")
"""Modules whose tests come last, in this order."""
HOST = "testhost"
PIECE = 1 << 20


def pytest_configure(config: pytest.Config) -> None:
    # in the background a shell ignores it, and so would the commands that tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "damaged: the repository of this test is damaged on purpose, do not check it"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        name = item.path.stem
        return SLOW.index(name) if name in SLOW else -1

    items.sort(key=rank)


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


# Places


@pytest.fixture
def fast_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one, for what would wait for the disk too often."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 2 << 30:
        yield tmp_path
        return
    path = Path(tempfile.mkdtemp(prefix="ibtfs-", dir=memory))
    try:
        yield path
    finally:
        shutil.rmtree(path)


# Repositories


def create(path: Path) -> Repository:
    return Repository.create(os.fsencode(path), os.urandom(16))


def reopened(repository: Repository) -> Repository:
    """The same repository as another process would see it: nothing is cached."""
    return Repository.open(repository.path)


def damages(repository: Repository, *, read_data: bool = True) -> list[str]:
    """What check finds."""
    result = check(reopened(repository), read_data=read_data, observer=Observer())
    return [f"{d.object}: {d.message} {d.points} {d.paths}" for d in result.damages]


@pytest.fixture
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Repository]:
    """A new repository; checked, with its data, when the test is done."""
    made = create(tmp_path / "repository")
    yield made
    if request.node.get_closest_marker("damaged") is None:
        assert damages(made) == []


def back_up(
    repository: Repository, source: Path | bytes, observer: Observer | None = None, **options: Any
) -> BackupResult:
    """Back up *source* as a command would: with a repository opened anew."""
    chosen = BackupOptions(**{"host": HOST, **options})
    return backup(reopened(repository), os.fsencode(source), chosen, observer or Recorder())


Backup = Callable[..., BackupResult]


@pytest.fixture
def backup_of(repository: Repository) -> Backup:
    """A function that backs up a source into `repository`; options as of BackupOptions."""

    def run(source: Path | bytes, **options: Any) -> BackupResult:
        return back_up(repository, source, **options)

    return run


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


# The mounted tree, looked at without mounting it


Known = dict[object, str]


def viewed_tree(
    repository: Repository, point: Point, known: Known | None = None
) -> dict[bytes, Entry]:
    """*point* as `snapshot` would show it mounted.

    *known* keeps the hashes of contents between calls; each is read once then.
    """
    view = RepositoryView(repository)
    root = point_node(view, b"point", point)
    nodes: dict[bytes, Node] = {}
    waiting = [(b"", root)]
    while waiting:
        path, node = waiting.pop()
        nodes[path] = node
        if TYPES[node.attributes().mode & 0o170000] == "directory":
            children = node.children()
            assert [name for name, _ in children] == sorted({name for name, _ in children})
            waiting += [(path + b"/" + name if path else name, child) for name, child in children]
    groups: dict[int, set[bytes]] = {}
    for path, node in nodes.items():
        groups.setdefault(node.attributes().ino, set()).add(path)
    known = {} if known is None else known
    return {path: _viewed(node, groups, known) for path, node in nodes.items()}


def _viewed(node: Node, groups: Mapping[int, set[bytes]], known: Known) -> Entry:
    found = node.attributes()
    kind = TYPES[found.mode & 0o170000]
    links = frozenset(groups[found.ino])
    return Entry(
        type=kind, mode=found.mode & 0o7777, uid=found.uid, gid=found.gid, size=found.size,
        mtime_ns=found.mtime_ns, nlink=found.nlink, rdev=found.rdev,
        blocks=found.blocks if kind in {"file", "directory"} else 0,
        target=node.target() if kind == "symlink" else None,
        sha256=_hash(node, found.size, known) if kind == "file" else None,
        xattrs={os.fsdecode(name): value for name, value in sorted(node.xattrs().items())},
        links=links if len(links) > 1 else frozenset(),
    )  # fmt: skip


def _hash(node: Node, size: int, known: Known) -> str:
    import hashlib

    content = node.entry.content  # type: ignore[attr-defined]
    if content not in known:
        digest = hashlib.sha256()
        for offset in range(0, size, PIECE):
            data = node.read(offset, PIECE)
            assert len(data) == min(PIECE, size - offset)
            digest.update(data)
        assert node.read(size, PIECE) == b""
        known[content] = digest.hexdigest()
    return known[content]


# Mounts


@contextmanager
def mounted(
    repository: Repository, mountpoint: Path, options: MountOptions | None = None
) -> Iterator[Path]:
    """*repository* mounted on *mountpoint* (made if missing) by a process in the background."""
    mountpoint.mkdir(exist_ok=True)
    path, place = repository.path, os.fsencode(mountpoint)
    started = mountpoint.with_name(mountpoint.name + ".pid")

    def run(on_ready: Callable[[], None]) -> None:
        started.write_text(str(os.getpid()))
        view = RepositoryView(Repository.open(path))
        serve(view, place, options=options or MountOptions(), on_ready=on_ready)

    background.check_mountpoint(place, path)
    background.run_in_background(run)
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", str(mountpoint)], check=False) if os.geteuid() == 0 else None
        if mountpoint.is_mount():
            background.unmount(place, lazy=True)
        _wait_for_end(int(started.read_text()))


def _wait_for_end(process: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
        except FileNotFoundError:
            return
        if state == "Z":  # ended; that init did not look yet is not our matter
            return
        time.sleep(0.01)
    raise AssertionError("The server of a mount goes on after it was unmounted")
