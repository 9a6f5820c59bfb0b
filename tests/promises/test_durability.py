"""What is durable when: traced system calls, and disks that fail.

Whatever a manifest refers to is synced before the manifest appears: files, their folders, and the
parents of new folders.  An error in any write or sync fails the run, and never leaves a point that
is not whole.  Needs strace.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import snapshot
from tests.support.killing import Call, Scene, make_scene

MIB = 1 << 20


# ---- a model of what a disk has durably ----------------------------------------------------


class Disk:
    """What of the files and folders below *root* would be lost if the power went now."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.dirty: set[str] = set()
        self.names: dict[str, set[str]] = defaultdict(set)
        self.wrong: list[str] = []
        self.shown: list[str] = []

    def run(self, calls: Sequence[Call]) -> None:
        for call in calls:
            if call.result >= 0 and call.path.startswith(self.root):
                self._apply(call)

    def _apply(self, call: Call) -> None:
        if call.name == "openat" and "O_CREAT" in call.text:
            self.dirty.add(call.path)
            self._named(call.path)
        elif call.name in ("write", "pwrite64"):
            self.dirty.add(call.path)
        elif call.name in ("fsync", "fdatasync"):
            self.dirty.discard(call.path)
            self.names.pop(call.path, None)
        elif call.name in ("mkdir", "mkdirat"):
            self._named(call.path)
        elif call.name in ("unlink", "unlinkat"):
            self._gone(call.path)
        elif call.target:
            self._shows(call.path, call.target)
            self._named(call.target)
            if call.name.startswith("rename"):
                self._gone(call.path)

    def _named(self, path: str) -> None:
        folder, name = os.path.split(path)
        self.names[folder].add(name)

    def _gone(self, path: str) -> None:
        folder, name = os.path.split(path)
        self.names[folder].discard(name)
        self.dirty.discard(path)

    def _shows(self, path: str, target: str) -> None:
        """A file gets its real name."""
        relative = os.path.relpath(target, self.root).removeprefix("repository/")
        if relative.startswith("locks/"):
            return
        self.shown.append(relative)
        if path in self.dirty:
            self.wrong.append(f"{relative} gets its name before it is synced")
        kind = os.path.basename(target)
        if kind.startswith(("sigs", "index")):
            pending = self.names[os.path.dirname(target)] - {kind}
            self.wrong += [f"{relative} appears before {name} is durable"
                           for name in ("data.1", "sigs.1") if name in pending]  # fmt: skip
        if relative.startswith("points/"):
            self.wrong += [f"{lost} is not durable when a manifest appears"
                           for lost in self.lost() if "/points/" not in lost]  # fmt: skip

    def lost(self) -> list[str]:
        """Files and names that are not durable; locks and parts do not matter."""
        found = {f"the bytes of {path}" for path in self.dirty}
        found |= {f"the name {folder}/{name}" for folder, names in self.names.items()
                  for name in names}  # fmt: skip
        kept = (text for text in found if "/locks/" not in text and not text.endswith(".part"))
        return sorted(kept)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Two earlier points; the next backup writes data, sigs and index files, and a tag."""
    scene = make_scene(tmp_path_factory.mktemp("durable"), MIB, seed=5, options=("--tag", "weekly"))
    with open(scene.source / "sparse", "wb") as file:  # so many slabs that sigs has a file
        file.write(b"x")
        file.truncate(200 * MIB)
    scene.newest = snapshot(scene.source)
    return scene


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """No repository yet; its folder is made by the backup."""
    return make_scene(tmp_path_factory.mktemp("first"), 100_000, seed=6, earlier=0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("small"), 300_000, seed=7, options=("--tag", "a"))


def kinds(disk: Disk) -> list[str]:
    """The files that appeared, without what is unique in their names."""
    return [name.split("/")[-1] if name.startswith("archives/") else name.split("/")[0]
            for name in disk.shown]  # fmt: skip


def test_all_is_synced_before_the_manifest_appears(scene: Scene) -> None:
    trial = scene.trial()
    code, calls = trial.trace()
    assert code == 0, trial.said
    disk = Disk(trial.repository)
    disk.run(calls)
    assert disk.wrong == []
    shown = kinds(disk)
    assert [n for n in shown if n != "tags"] == ["data.1", "sigs.1", "index.1", "points"]
    assert shown.index("tags") < shown.index("points")
    assert disk.lost() == [], "the manifest itself"
    assert trial.verify() == []


def test_all_is_synced_in_a_first_backup(first: Scene) -> None:
    trial = first.trial()
    code, calls = trial.trace()
    assert code == 0, trial.said
    disk = Disk(trial.place)  # the repository's own name, too
    disk.run([call for call in calls if not call.path.startswith(str(trial.cache))])
    assert disk.wrong == []
    assert disk.lost() == []


def test_what_a_killed_run_left_is_made_durable_too(first: Scene) -> None:
    """A dead run's folders, and its archives that are adopted, may never have been synced."""
    wrong = []
    for number in numbers_of(first, "fsync"):
        trial = first.trial()
        _, killed = trial.trace(f"fsync:signal=KILL:when={number}")
        _, after = trial.trace()
        disk = Disk(trial.place)
        disk.run([c for c in (*killed, *after) if not c.path.startswith(str(trial.cache))])
        wrong += [f"killed before fsync {number}: {line}" for line in disk.wrong]
        shutil.rmtree(trial.place)
    assert wrong == []


# ---- disks that fail -------------------------------------------------------------------------


def failing(scene: Scene, call: str, error: str, numbers: Sequence[int]) -> None:
    """Let the n-th *call* fail with *error*: the run fails, and no point is less than whole."""
    for number in numbers:
        trial = scene.trial()
        where = f"{error} at {call} {number}"
        code, calls = trial.trace(f"{call}:error={error}:when={number}")
        if number == max(numbers) > sum(done.name == call for done in calls):
            continue  # a manifest takes one more if its second has another's
        assert code == 1, f"{where}: exit {code}: {trial.said}"
        assert len(trial.said.strip().splitlines()) == 1, f"{where}: {trial.said}"
        assert "Traceback" not in trial.said, where
        assert "bug" not in trial.said, f"{where}: {trial.said}"
        assert trial.verify() == [], where


def numbers_of(scene: Scene, name: str) -> list[int]:
    """Which calls of *name* work on the repository, their failing is no matter of taste."""
    return [c.number for c in scene.calls if c.name == name and "/repository" in c.path]


@pytest.mark.parametrize(
    ("call", "error"),
    [("write", "ENOSPC"), ("write", "EIO"), ("fsync", "EIO"), ("fsync", "ENOSPC"),
     ("linkat", "EIO"), ("mkdirat", "ENOSPC")],
)  # fmt: skip
def test_an_error_of_the_disk_fails_the_run(small: Scene, call: str, error: str) -> None:
    numbers = numbers_of(small, call)
    assert numbers
    failing(small, call, error, numbers[:: -(-len(numbers) // 4)])


@pytest.mark.parametrize(("call", "error"), [("fsync", "EIO"), ("write", "ENOSPC")])
def test_an_error_of_the_disk_fails_a_first_backup(first: Scene, call: str, error: str) -> None:
    failing(first, call, error, numbers_of(first, call)[::2])
