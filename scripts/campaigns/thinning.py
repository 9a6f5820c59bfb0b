"""Remove half of many points over many files, free their space, and measure both.

A tree of small files is backed up again and again, some files changed each time; every second point
goes. Told are the processor time of marking, the time of pruning, and how large the repository is
afterwards beside one that only ever had the points that stay. What is left is checked, with its
data. Times depend on the machine: nothing else should run on it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from screen import say

from campaigns.base import working_folder
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.decide import decide
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.store.removal.known_marks import mark_on
from ibtfs.store.removal.marking import mark_points
from ibtfs.store.repository import Repository
from tests.support.removal import forget, stored_bytes
from tests.support.repositories import back_up, create, damages, reopened

Value = TypeVar("Value")
A_FOLDER = 60
MIB = 1 << 20
SLACK = 1.10
"""How much larger than the one that only ever had what stays it may be."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    parser.add_argument("--files", type=int, default=100_000, help="files [100000]")
    parser.add_argument("--points", type=int, default=1000, help="backup points [1000]")
    parser.add_argument("--changes", type=int, default=20, help="files changed a point [20]")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn [1]")
    parser.add_argument("--made", metavar="FOLDER", type=Path,
                        help="where both repositories are kept for another measurement; made "
                             "there if FOLDER does not exist")  # fmt: skip
    parser.add_argument("--work", help="folder to work in, best in memory [/dev/shm]")


def run(options: argparse.Namespace) -> int:
    """Do it all; 1 if anything was wrong or too large."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with working_folder("thinning", options.work or memory) as work:
        made = options.made or work / "made"
        if not made.exists():
            make(made, options)
        copied, cache = work / "copied", work / "cache"
        cache.mkdir()
        shutil.copytree(made / "repository", copied)
        return measure(
            os.fsencode(cache),
            *(Repository.open(os.fsencode(path)) for path in (copied, made / "kept")),
        )


def make(made: Path, options: argparse.Namespace) -> None:
    """Make below *made* a repository with all points and one with those that will stay."""
    under_way = made.with_name(f"{made.name}.part")
    tree = Tree(under_way / "source", options.files, random.Random(options.seed))
    repository = create(under_way / "repository")
    only_kept = create(under_way / "kept")
    began = time.monotonic()
    for number in range(options.points):
        if number:
            tree.change(options.changes)
        cache = os.fsencode(under_way / "cache")
        back_up(repository, under_way / "source", cache=cache)
        if number % 2:
            cache = os.fsencode(under_way / "cache-of-kept")
            back_up(only_kept, under_way / "source", cache=cache)
        if number % 50 == 49:
            say(f"{number + 1:,} points, {time.monotonic() - began:.0f} s")
    under_way.rename(made)


def measure(cache: bytes, repository: Repository, only_kept: Repository) -> int:
    """Thin the one, and compare it with the one that only ever had what stays."""
    before = stored_bytes(repository)
    points = sorted(reopened(repository).points.all().points, key=lambda point: point.order)
    ids = [point.id for point in points]
    roots = [point.state for point in points]
    used, _ = timed(lambda: mark_points(reopened(repository), roots))
    mark_on(reopened(repository), roots[:-1], cache)
    newer, _ = timed(lambda: mark_on(reopened(repository), roots, cache))
    say(f"marking: {used:.2f} s of processor time; if one point is new: {newer:.2f} s")
    foretold = decide(reopened(repository), without=ids[::2]).freed
    forget(repository, ids[::2])
    used, result = timed(lambda: prune(reopened(repository), PruneOptions(), Observer()))
    after, kept = stored_bytes(repository), stored_bytes(only_kept)
    say(f"pruning: {used:.2f} s of processor time, {result.written / MIB:.1f} MiB written, "
        f"{result.removed:,} archives removed, {result.rewritten:,} written anew")  # fmt: skip
    say(f"size: {before / MIB:.1f} MiB before, {after / MIB:.1f} after; {kept / MIB:.1f} with "
        f"only what stays ({after / kept:.3f}); freed {result.freed / MIB:.2f} MiB, foretold "
        f"{foretold / MIB:.2f}")  # fmt: skip
    used, _ = timed(lambda: prune(reopened(repository), PruneOptions(), Observer()))
    say(f"pruning again: {used:.2f} s of processor time")
    wrong = damages(repository)
    for line in wrong[:10]:
        say(f"WRONG: {line}")
    is_large = after > SLACK * kept
    say("Too large" if is_large else "All is whole, and small" if not wrong else "Damaged")
    return 1 if wrong or is_large else 0


def timed(work: Callable[[], Value]) -> tuple[float, Value]:
    """The processor time that *work* takes, seconds, and what it gives."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


class Tree:
    """Small files below *root*, of random bytes."""

    def __init__(self, root: Path, files: int, rng: random.Random) -> None:
        self._rng = rng
        self._paths: list[Path] = []
        for number in range(files):
            folder = root / f"{number // A_FOLDER:05}"
            if number % A_FOLDER == 0:
                folder.mkdir(parents=True)
            path = folder / f"{number:06}.txt"
            path.write_bytes(rng.randbytes(rng.randrange(50, 1500)))
            self._paths.append(path)

    def change(self, count: int) -> None:
        """Append to some files."""
        for path in self._rng.sample(self._paths, min(count, len(self._paths))):
            with open(path, "ab") as file:
                file.write(self._rng.randbytes(200))
