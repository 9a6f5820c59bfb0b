"""Backups, removals and readers at the same time: two sources, one who frees, a mount.

Two processes edit a source each and back it up, again and again; one forgets points and frees
their space; two read through a real mount whatever points there are, and compare each with what its
source was, contents and metadata. Only a point that was removed meanwhile may not be found.
At the end all points are compared once more, and checked with all their data. Needs FUSE.
"""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import pickle
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from screen import say

from campaigns.base import working_folder
from campaigns.command import Failure, Ibtfs
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.cli.exit_codes import LOCKED
from ibtfs.store.lock import SHARED
from tests.support import Entry, differences, snapshot
from tests.support.bundles import NEVER, SOON
from tests.support.histories import History
from tests.support.mounts import mounted
from tests.support.removal import assert_whole
from tests.support.repositories import create, reopened

SOURCES = READERS = 2
KEPT = 4
GONE = (errno.ENOENT, errno.ESTALE)
Truth = dict[bytes, Entry]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    parser.add_argument("--seconds", type=float, default=600, help="how long [600]")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn [1]")
    parser.add_argument("--work", help="folder to work in [where temporary files go]")


def run(options: argparse.Namespace) -> int:
    """Do it all; 1 if anything was wrong."""
    with working_folder("crowd", options.work) as work:
        crowd = Crowd(work, options.seed, options.seconds)
        with mounted(crowd.repository, work / "mnt"):
            crowd.work_together()
            if crowd.counts["points"]:
                crowd.do("the last look", crowd.compare_all)
        crowd.do("check", lambda: assert_whole(crowd.repository))
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(crowd.counts.items()))
    say(told)
    wrong = len(crowd.wrong)
    say(f"{wrong} times something was wrong" if wrong else "nothing was lost or wrong")
    return 1 if wrong or not crowd.counts["files read"] else 0


class Crowd:
    """A repository below *path*, and all that happens to it in so many *seconds*."""

    def __init__(self, path: Path, seed: int, seconds: float) -> None:
        self._path, self._seed = path, seed
        self._until = time.monotonic() + seconds
        self.repository = create(path / "repository")
        self._place = Path(os.fsdecode(self.repository.path))
        (path / "truth").mkdir()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def work_together(self) -> None:
        """Let all of them work, each in a process of its own, until the time is over."""
        context = multiprocessing.get_context("fork")
        told: SimpleQueue[tuple[Counter[str], list[str]]] = context.SimpleQueue()
        jobs: list[tuple[Callable[..., None], int]] = [(self._free, 0)]
        jobs += [(self._back_up, number) for number in range(SOURCES)]
        jobs += [(self._read, number) for number in range(READERS)]
        processes = []
        for place, (job, number) in enumerate(jobs):
            rng = random.Random(self._seed * 100 + place)
            process = context.Process(target=self._job, args=(told, job, number, rng))
            process.start()
            processes.append(process)
        for _ in processes:
            counts, wrong = told.get()
            self.counts.update(counts)
            self.wrong += wrong
        for process in processes:
            process.join()

    def _job(
        self,
        told: SimpleQueue[tuple[Counter[str], list[str]]],
        job: Callable[..., None],
        number: int,
        rng: random.Random,
    ) -> None:
        """Do one job again and again, in a process of its own, and tell what came of it."""
        state: dict[str, Any] = {}
        while time.monotonic() < self._until:
            self.do(job.__name__.strip("_"), lambda: job(number, rng, state))
        told.put((self.counts, self.wrong))

    def do(self, name: str, action: Callable[[], object]) -> None:
        """Do *action*; what it raises is wrong."""
        try:
            action()
        except Exception:
            text = f"{name}: {traceback.format_exc(limit=-4)}"
            self.wrong.append(text)
            say(f"WRONG: {text}")

    # What each of them does once

    def _back_up(self, number: int, rng: random.Random, state: dict[str, Any]) -> None:
        """Edit a source and back it up; what it was is known before anybody can read it."""
        source = self._path / f"source{number}"
        if "history" not in state:
            state["history"] = History(source, rng, max_bytes=4 << 20, max_entries=50)
        state["history"].step()
        truth = snapshot(source)
        began = time.monotonic()
        try:
            (point,) = Ibtfs().points("backup", source, self._place)
        except Failure as failure:
            if f"exit code {LOCKED}:" not in str(failure):
                raise
            self.counts["backups that found it locked"] += 1
            return
        part = self._path / f"part{number}"
        part.write_bytes(pickle.dumps((f"{source.name}/{point['name']}", truth)))
        part.rename(self._path / "truth" / point["id"])
        self.counts["backups"] += 1
        time.sleep(max(0.0, began + 1.1 - time.monotonic()))  # names of points tell seconds

    def _free(self, _: int, rng: random.Random, state: dict[str, Any]) -> None:
        """Remove the old points and one of the others, then free the space of all of them."""
        time.sleep(rng.random())
        ids = reopened(self.repository).points.ids()
        if len(ids) <= SOURCES * KEPT:
            return
        Ibtfs().run("forget", "--keep-last", str(KEPT), self._place)
        opened = reopened(self.repository)
        with opened.lock(SHARED):
            opened.points.remove(rng.choice(ids))
        options = PruneOptions(all_of_it=rng.random() < 0.3, bundles=rng.choice((SOON, NEVER)))
        done = prune(reopened(self.repository), options, Observer())
        assert done.failed == done.damages == []
        self.counts["prunes"] += 1
        self.counts["archives removed"] += done.removed
        self.counts["archives rewritten"] += done.rewritten

    def _read(self, _: int, rng: random.Random, state: dict[str, Any]) -> None:
        """Compare one point, whichever."""
        ids = os.listdir(self._path / "truth")
        if not ids:
            time.sleep(0.1)
            return
        self._compare(rng.choice(ids))

    def compare_all(self) -> None:
        """Compare each point that is there."""
        for point_id in reopened(self.repository).points.ids():
            self._compare(point_id)
        assert not self.wrong

    def _compare(self, point_id: str) -> None:
        """Compare what the mount shows of a point with what its source was."""
        truth = self._path / "truth" / point_id
        try:
            shown, expected = pickle.loads(truth.read_bytes())
        except FileNotFoundError:
            return
        top = self._path / "mnt" / shown
        try:
            forget_pages(os.fsencode(top), expected)
            found = snapshot(top)
        except OSError as error:
            if error.errno not in GONE or self._is_there(point_id):
                raise
            truth.unlink(missing_ok=True)
            self.counts["points gone"] += 1
            return
        lines = differences(expected, found, limit=5)
        assert lines == [], f"{shown}, its point there: {self._is_there(point_id)}: {lines}"
        self.counts["points"] += 1
        self.counts["files read"] += sum(entry.type == "file" for entry in found.values())

    def _is_there(self, point_id: str) -> bool:
        return point_id in reopened(self.repository).points.ids()


def forget_pages(top: bytes, tree: Truth) -> None:
    """Let the kernel forget what it has of the files of *tree* at *top*: the mount is asked."""
    for path, entry in tree.items():
        if entry.type == "file":
            descriptor = os.open(os.path.join(top, path), os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
