"""A disk that fails, turns read-only or is pulled while somebody works on it: that is told in one
line, nothing that was stored is lost, and when it is there again the next run does its work."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ibtfs.fuse import MountOptions
from ibtfs.store.repository import Repository
from tests.support import Entry, differences, snapshot
from tests.support.cut_removal import edited
from tests.support.disks import Disk, Halted, small_disk
from tests.support.faulty import Scene
from tests.support.killing import environment, run
from tests.support.mounts import BINDINGS, mounted
from tests.support.removal import assert_whole, forget
from tests.support.repositories import restored_tree

MIB = 1 << 20
Loss = Callable[[Disk], None]
LOSSES = [Disk.die, Disk.turn_read_only, Disk.vanish]
TOP = ""  # the repository's folder is the disk's own


@pytest.fixture
def disk(fast_path: Path) -> Iterator[Disk]:
    with small_disk(fast_path, 24 * MIB) as disk:
        yield disk


@pytest.fixture
def cache(fast_path: Path) -> Path:
    path = fast_path / "cache"
    path.mkdir()
    return path


class Stored:
    """A repository on a disk, made elsewhere; what its points hold."""

    def __init__(self, disk: Disk, work: Path, place: str = "repository") -> None:
        (work / "made").mkdir()
        scene = Scene(work / "made", 5, 4, edited)
        self.gone, self.work = scene.gone, work
        self.root = disk.path / place if place else disk.path
        shutil.copytree(scene.place, self.root, dirs_exist_ok=True)
        subprocess.run(["sync", "-f", disk.path], check=True)
        self.trees = {point: self._tree(point) for point in scene.stay}

    @property
    def repository(self) -> Repository:
        return Repository.open(os.fsencode(self.root))

    def _tree(self, point_id: str) -> dict[bytes, Entry]:
        point = self.repository.points.get(point_id)
        return restored_tree(self.repository, point, self.work / "back")

    def assert_kept(self) -> None:
        assert_whole(self.repository)
        for point_id, tree in self.trees.items():
            assert differences(tree, self._tree(point_id)) == []

    def assert_shown(self, points: Path) -> None:
        """In a mount each point holds what it held."""
        shown = [snapshot(path) for path in points.iterdir() if not path.is_symlink()]
        assert len(shown) == len(self.trees) + len(self.gone)
        for tree in self.trees.values():
            assert any(not differences(tree, seen) for seen in shown)


def assert_told(code: int, said: str) -> None:
    assert code == 1, said
    assert len(said.strip().splitlines()) == 1, said
    assert "bug" not in said


def ibtfs(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "ibtfs", *map(str, words)]


@pytest.mark.parametrize(
    ("lose", "place"), [*((lose, "repository") for lose in LOSSES), (Disk.vanish, TOP)]
)
def test_while_a_backup_writes(
    disk: Disk, fast_path: Path, cache: Path, lose: Loss, place: str
) -> None:
    stored = Stored(disk, fast_path, place)
    data = random.Random(1).randbytes(6 * MIB)
    command = ibtfs("backup", "-q", "--stdin-name", "stream", stored.root)
    with subprocess.Popen(
        command, env=environment(cache), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(data[: 4 * MIB])
        process.stdin.flush()
        until = time.monotonic() + 120
        while not any(path.stat().st_size > MIB for path in stored.root.rglob("*.part")):
            assert time.monotonic() < until, "it does not write"
            time.sleep(0.01)
        lose(disk)
        _, said = process.communicate(data[4 * MIB :], timeout=240)
    assert_told(process.returncode, said.decode())
    if lose is Disk.vanish:
        assert list(disk.path.iterdir()) == [], "something was written beside the disk"
    disk.come_back()
    stored.assert_kept()
    (fast_path / "stream").write_bytes(data)
    with open(fast_path / "stream", "rb") as stream:
        subprocess.run(command, env=environment(cache), stdin=stream, check=True)
    stored.assert_kept()
    assert len(stored.repository.points.ids()) == 5
    assert list(stored.root.rglob("*.part")) == []


@pytest.mark.parametrize(
    ("lose", "call", "number"),
    [
        (Disk.die, "linkat", 3),
        (Disk.die, "unlinkat", 6),
        (Disk.turn_read_only, "linkat", 4),
        (Disk.vanish, "linkat", 5),
    ],
)
def test_while_a_prune_frees_space(
    disk: Disk, fast_path: Path, cache: Path, lose: Loss, call: str, number: int
) -> None:
    stored = Stored(disk, fast_path)
    forget(stored.repository, stored.gone)
    before = disk.free()
    command = ibtfs("prune", "-q", stored.root)
    halted = Halted(command, fast_path / "log", environment(cache), call, number)
    lose(disk)
    code, said = halted.go_on()
    assert code in (1, 3), said
    assert 1 <= len(said.strip().splitlines()) <= 6, said
    assert "Traceback" not in said
    assert "bug" not in said
    disk.come_back()
    stored.assert_kept()
    assert run(command, cache) == (0, "")
    stored.assert_kept()
    assert disk.free() > before
    assert list(stored.root.rglob("*.part")) == []


READING = [["list"], ["check", "-q"], ["stats"]]
WRITING = [["prune", "-q"], ["forget", "-q", "--keep-last", "1"], ["undo"]]
BACKUP = ["backup", "-q", "/etc/hostname"]  # the first one, where nothing is, makes a repository


@pytest.mark.parametrize("lose", LOSSES)
def test_what_begins_on_a_disk_that_is_lost(
    disk: Disk, fast_path: Path, cache: Path, lose: Loss
) -> None:
    stored = Stored(disk, fast_path)
    lose(disk)
    for words in [*READING, *WRITING, *([BACKUP] if lose is not Disk.vanish else [])]:
        code, said = run(ibtfs(*words, stored.root), cache)
        if lose is Disk.turn_read_only and words in READING:
            assert (code, said) == (0, ""), words
        else:
            assert code == (10 if lose is Disk.vanish else 1), (words, said)
            assert len(said.strip().splitlines()) == 1, said
            assert "bug" not in said
    disk.come_back()
    stored.assert_kept()


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("lose", [Disk.die, Disk.vanish])
def test_while_it_is_mounted(disk: Disk, fast_path: Path, lose: Loss, binding: str) -> None:
    """What the disk does not give is an error, and when it is back all is read again."""
    stored = Stored(disk, fast_path)
    options = MountOptions(binding=binding)
    with mounted(stored.repository, fast_path / "mnt", options) as top:
        points = top / "source"
        names = sorted(os.listdir(points))
        lose(disk)
        _drop_what_the_kernel_keeps()
        assert {_tried(points / name / "another") for name in names} == {errno.EIO}
        disk.come_back()
        _soon(lambda: sorted(os.listdir(points)) == names)
        stored.assert_shown(points)
    stored.assert_kept()


def test_a_mount_of_a_disk_that_turned_read_only_reads_on(disk: Disk, fast_path: Path) -> None:
    stored = Stored(disk, fast_path)
    with mounted(stored.repository, fast_path / "mnt") as top:
        disk.turn_read_only()
        _drop_what_the_kernel_keeps()
        stored.assert_shown(top / "source")
    disk.come_back()
    stored.assert_kept()


def _drop_what_the_kernel_keeps() -> None:
    Path("/proc/sys/vm/drop_caches").write_text("3")


def _soon(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def _tried(path: Path) -> int:
    """How many bytes a file has, or why it cannot be read."""
    try:
        return len(path.read_bytes())
    except OSError as error:
        return error.errno or -1
