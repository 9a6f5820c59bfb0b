"""A repository in which points are removed and space is freed while its disk fails at some step."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ibtfs.errors import IbtfsError
from ibtfs.store import layout
from ibtfs.store.repository import Repository
from ibtfs.store.storage import local, upload
from ibtfs.store.storage.local import LocalStorage
from tests.support.crashing import CutOff, Steps
from tests.support.histories import History
from tests.support.removal import assert_whole, pruned
from tests.support.repositories import back_up, create, reopened, the_point

CUT, EIO, ENOSPC = "cut off", "EIO", "no space"
FAULTS = (CUT, EIO, ENOSPC)


class Failing:
    """One step on the disk fails, number *number*, and all of them afterwards if it *stays*."""

    def __init__(
        self, patch: pytest.MonkeyPatch, number: int, fault: str, *, stays: bool = False
    ) -> None:
        self.count, self._number, self._stays = 0, number, stays
        self._error = errno.EIO if fault == EIO else errno.ENOSPC
        writing = [(LocalStorage, "create_file"), (upload, "rename_new"), (upload.os, "write")]
        if fault == EIO:
            writing += [(upload, "sync_names"), (local, "sync_names"), (upload.os, "fsync")]
        for owner, name in writing:
            patch.setattr(owner, name, self._counting(getattr(owner, name)))

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self._number or (self._stays and self.count > self._number):
                raise OSError(self._error, os.strerror(self._error))
            return real(*args, **options)

        return step


def anything(repository: Repository, source: Path, count: int, rng: random.Random) -> list[str]:
    """Back up a tree that changes in any way, *count* times; the ids of the points."""
    history = History(source, rng, max_bytes=1 << 20, max_entries=25)
    ids = []
    for _ in range(count):
        history.step()
        ids.append(the_point(back_up(repository, source)).id)
    return ids


class Scene:
    """A repository of some points below *path*, of which some are removed, to be freed again.

    *fill* makes the points, as `anything` does.
    """

    def __init__(
        self,
        path: Path,
        seed: int,
        points: int = 6,
        fill: Callable[[Repository, Path, int, random.Random], list[str]] = anything,
    ) -> None:
        self._path, self._rng = path, random.Random(seed)
        self.repository = create(path / "repository")
        ids = fill(self.repository, path / "source", points, self._rng)
        gone = self._rng.sample(ids, points // 2)
        self.gone = gone
        self.stay = sorted(set(ids) - set(gone))
        self._kept = path / "kept"
        shutil.copytree(self.place, self._kept)

    @property
    def place(self) -> Path:
        """Where the repository lies."""
        return Path(os.fsdecode(self.repository.path))

    def reset(self) -> None:
        """As it was before anything was removed."""
        shutil.rmtree(self.place)
        shutil.copytree(self._kept, self.place)

    def remove(self, patch: pytest.MonkeyPatch, fault: str, number: int) -> bool:
        """Remove points and free their space; whether it met the fault at step *number*."""
        steps: Steps | Failing
        with patch.context() as own:
            if fault == CUT:
                steps = Steps(own, number)
            else:
                steps = Failing(own, number + 1, fault, stays=fault == ENOSPC)
            try:
                for point_id in self.gone:
                    reopened(self.repository).points.remove(point_id)
                pruned(self.repository)
            except (CutOff, IbtfsError):
                pass
        self.release()
        return steps.count > number

    def release(self) -> None:
        """Remove the locks of who was cut off: this process goes on."""
        for name in self.repository.storage.list(layout.LOCKS):
            self.repository.storage.delete(layout.lock(name))

    def look(self) -> None:
        """What is to stay is there and whole; of the rest, whatever is there is whole."""
        ids = set(reopened(self.repository).points.ids())
        assert ids.issuperset(self.stay)
        assert_whole(self.repository)

    def go_on(self) -> None:
        """The next run ends it."""
        points = reopened(self.repository).points
        for point_id in self.gone:
            points.remove(point_id)
        result = pruned(self.repository)
        assert result.failed == result.damages == []
        assert sorted(reopened(self.repository).points.ids()) == self.stay
        assert_whole(self.repository)
        assert not list(self.place.rglob("*.part"))


def examine(
    scene: Scene, patch: pytest.MonkeyPatch, fault: str, number: int, again: int | None = None
) -> bool:
    """One fault, the look afterwards, and the end; with *again* a second fault in the next run.

    Whether the run came so far as to meet the fault.
    """
    scene.reset()
    met = scene.remove(patch, fault, number)
    scene.look()
    if again is not None:
        scene.remove(patch, fault, again)
        scene.look()
    scene.go_on()
    return met
