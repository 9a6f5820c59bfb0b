"""Anything in any order: a repository that is written, thinned, cut off and read, beside a model.

The model holds the whole tree of each point, as it was when it was backed up; what a point gives
has to be that, by whichever way, whenever it is looked at.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from ibtfs.actions.backup import run as backup_run
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune import decide as decide_module
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.actions.purge.run import PurgeOptions, purge
from ibtfs.errors import LockLost, NotARepository, StorageFailed, UsageError
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.naming import displayed_names, shown_sources
from ibtfs.store.removal.bundling import BOUNDS, Bounds
from ibtfs.store.repository import Repository
from tests.support import Entry, differences, snapshot
from tests.support.bundles import SOON
from tests.support.crashing import CutOff, Steps
from tests.support.faking import set_clock
from tests.support.grounds import Ground
from tests.support.histories import History
from tests.support.mounts import mounted
from tests.support.protecting import protected, repaired
from tests.support.removal import forget, pruned
from tests.support.repositories import back_up, damages, reopened, restored_tree, the_point
from tests.support.views import viewed_tree

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
HOSTS = ("one", "other")
MOST_POINTS = 12
LITTLE = Bounds(least=3, age=-3600, tiers=(4 << 10, 16 << 10, 64 << 10, 1 << 20))
"""Bundles that become larger ones soon."""


class Machine:
    """A repository, two sources below *path*, and what each point has to be; by *rng* alone.

    The repository lies in *ground*, by default below *path*.  *counts* tells what was done, *log*
    in which order.
    """

    def __init__(
        self,
        path: Path,
        rng: random.Random,
        patch: pytest.MonkeyPatch,
        ground: Ground | None = None,
    ) -> None:
        self._path, self._rng, self._patch = path, rng, patch
        self._ground = ground or Ground()
        self.repository = self._ground.create(path / "repository")
        self._steps = self.STEPS if self._ground.is_here else (*self.ANYWHERE, *self.TROUBLE)
        self._sources = {
            host: History(path / host, rng, max_bytes=1 << 20, max_entries=25) for host in HOSTS
        }
        self.trees: dict[str, dict[bytes, Entry]] = {}
        self._readers: list[Repository] = []
        self._cache = path / "cache"
        self._cache.mkdir()
        self._mount = ExitStack()
        self._is_mounted = False
        self._share = 0
        # half of the time states come together soon
        patch.setattr(backup_run, "STATE_ARCHIVES", rng.choice((32, 32, 8, 4)))
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self._since = 0

    ANYWHERE: tuple[str, ...] = (
        "edit", "edit", "edit", "backup", "backup", "backup", "forget", "forget_many", "undo",
        "prune", "prune", "prune_little", "cut_backup", "cut_prune", "cut_twice", "open_reader",
        "read", "read", "read", "look", "protect", "purge",
    )  # fmt: skip
    STEPS = (
        *ANYWHERE, "open_mount", "read_mount", "read_mount", "copy", "damage", "repair", "repair",
    )  # fmt: skip
    """Those of a repository in a folder."""
    TROUBLE = ("backup_in_trouble", "prune_in_trouble", "read_in_trouble")
    """Those of a server that does not always answer."""

    def step(self) -> None:
        """Do one thing, whichever."""
        name = self._rng.choice(self._steps)
        self.counts[name] += 1
        self.log.append(name)
        step: Callable[[], None] = getattr(self, name)
        step()

    def finish(self) -> None:
        """Look at everything once more."""
        self.read_mount()
        self.close()
        self.look()
        for point in reopened(self.repository).points.all().points:
            self._compare_restored(point)

    # What changes it

    def edit(self) -> None:
        """Change a source."""
        self._sources[self._rng.choice(HOSTS)].step()

    def backup(self) -> None:
        """Back up one of two hosts, whose clocks are a day apart."""
        host = self._rng.choice(HOSTS)
        source = self._path / host
        with self._patch.context() as patch:
            # each run in a second of its own
            self._since += 2 * SECOND
            away = DAY if host == "other" else 0
            set_clock(patch, time.time_ns() + self._since + away)
            full = self._rng.random() < 0.05
            point = the_point(back_up(self.repository, source, host=host, full=full))
        self.trees[point.id] = viewed_tree(reopened(self.repository), point)
        found = restored_tree(self.repository, point, self._path / "restored")
        assert differences(snapshot(source), found) == [], self.log
        while len(self.trees) > MOST_POINTS:
            self._forget([next(iter(self.trees))])

    def _forget(self, ids: list[str]) -> None:
        forget(self.repository, ids)
        for point_id in ids:
            del self.trees[point_id]

    def forget(self) -> None:
        """Remove one point, whichever."""
        if len(self.trees) > 1:
            self._forget([self._rng.choice(sorted(self.trees))])

    def forget_many(self) -> None:
        """Remove several at once."""
        if len(self.trees) > 3:
            self._forget(self._rng.sample(sorted(self.trees), self._rng.randrange(1, 3)))

    def undo(self) -> None:
        """Remove the newest."""
        if len(self.trees) > 1:
            self._forget([list(self.trees)[-1]])

    def prune(self) -> None:
        """Free space, now and then of whatever frees anything."""
        if not self.trees:
            return
        with self._patch.context() as patch:
            if self._rng.random() < 0.5:
                patch.setattr(decide_module, "YOUNG_SECONDS", -1)
            bundles = self._rng.choice((BOUNDS, SOON, LITTLE))
            all_of_it = self._rng.random() < 0.2
            cache = self._rng.choice((b"", os.fsencode(self._cache)))
            result = pruned(self.repository, all_of_it=all_of_it, bundles=bundles, cache=cache)
        assert result.failed == result.damages == [], self.log

    def prune_little(self) -> None:
        """Free space, and write little for it."""
        if self.trees:
            most = self._rng.choice((0, 1000, 50_000))
            written = pruned(self.repository, max_rewrite=most).written
            # it is told before it is compressed
            assert written <= most * 11 // 10, (written, most, self.log)

    def protect(self) -> None:
        """Protect it, by another share, or no more."""
        self._share = self._rng.choice((0, 10, 30))
        assert protected(self.repository, self._share) == [], self.log

    def purge(self) -> None:
        """Take a path out of all points, if nothing that stays has the same bytes."""
        paths = sorted((point_id, path) for point_id in self.trees for path in self.trees[point_id])
        point_id, path = self._rng.choice(paths) if paths else ("", b"")
        if not path or any(parts_links(tree, path) for tree in self.trees.values()):
            return
        point = reopened(self.repository).points.get(point_id)
        word, options = point.root_path + b"/" + path, PurgeOptions()
        try:
            done = purge(reopened(self.repository), [word], options, Observer())
        except UsageError as error:
            if "nothing was purged" not in str(error):
                raise
            self.counts["purge refused"] += 1
            return
        assert done.left == done.prune.failed == done.prune.damages == [], self.log
        assert point_id in done.replaced, self.log
        gone = {
            old: below(tree, path) if old in done.replaced else set()
            for old, tree in self.trees.items()
        }
        self.trees = {
            done.replaced.get(old, old): {name: tree[name] for name in tree.keys() - gone[old]}
            for old, tree in self.trees.items()
        }

    # What cuts it off

    def _cut(self, action: Callable[[], object]) -> bool:
        """Do *action*, cut off after some steps; whether it was."""
        with self._patch.context() as patch:
            last = self._rng.choice((1, 2, 3, 5, 8, 13, 20, 30, 50, 80))
            Steps(patch, last, self._ground.points)
            try:
                action()
            except CutOff:
                pass
            else:
                return False
        self._remove_locks()
        return True

    def _remove_locks(self) -> None:
        """What left them is gone, and with it the flock."""
        for name in self.repository.storage.list(layout.LOCKS):
            self.repository.storage.delete(layout.lock(name))

    def _in_trouble(self, action: Callable[[], object]) -> None:
        """Do *action* while the server does not always answer; it may fail, and say so."""
        self._ground.spoil(self._rng)
        try:
            action()
        except (LockLost, NotARepository, StorageFailed) as error:
            self.counts["failed in trouble"] += 1
            self.log.append(str(error))
        finally:
            self._ground.calm()
        self._remove_locks()

    def _adopt_committed(self) -> None:
        """A run that was cut off behind its commit has left a point."""
        for point in reopened(self.repository).points.all().points:
            if point.id not in self.trees:
                self.trees[point.id] = viewed_tree(reopened(self.repository), point)

    def cut_backup(self) -> None:
        """A backup that ends somewhere."""
        host = self._rng.choice(HOSTS)
        self._cut(lambda: back_up(self.repository, self._path / host, host=host))
        self._adopt_committed()

    def cut_prune(self) -> None:
        """A prune that ends somewhere."""
        if self.trees:
            bundles = self._rng.choice((BOUNDS, SOON))
            options = PruneOptions(all_of_it=self._rng.random() < 0.3, bundles=bundles)
            self._cut(lambda: prune(reopened(self.repository), options, Observer()))

    def cut_twice(self) -> None:
        """And so does the next one."""
        self.cut_prune()
        self.cut_prune()
        self.cut_backup()

    def backup_in_trouble(self) -> None:
        """A backup that its server lets down."""
        host = self._rng.choice(HOSTS)
        self._in_trouble(lambda: back_up(self.repository, self._path / host, host=host))
        self._adopt_committed()

    def prune_in_trouble(self) -> None:
        """A prune that its server lets down."""
        if self.trees:
            options = PruneOptions(bundles=self._rng.choice((BOUNDS, SOON)))
            self._in_trouble(lambda: prune(reopened(self.repository), options, Observer()))

    def read_in_trouble(self) -> None:
        """Read what the server gives now and then."""
        if not self.trees:
            return
        point_id = self._rng.choice(sorted(self.trees))

        def read() -> None:
            reader = reopened(self.repository)
            self._compare(point_id, viewed_tree(reader, reader.points.get(point_id)))

        self._in_trouble(read)

    # What looks at it

    def open_reader(self) -> None:
        """Open the repository, and keep it so, as a mount does."""
        self._readers.append(reopened(self.repository))
        del self._readers[:-3]

    def read(self) -> None:
        """Read a point by one that was opened before."""
        if not (self._readers and self.trees):
            return
        reader = self._rng.choice(self._readers)
        point_id = self._rng.choice(sorted(self.trees))
        seen = viewed_tree(reader, reader.points.get(point_id))
        self._compare(point_id, seen)

    def open_mount(self) -> None:
        """Mount it, and keep it so."""
        if not self._is_mounted:
            self._mount.enter_context(mounted(self.repository, self._path / "mount"))
            self._is_mounted = True

    def close(self) -> None:
        """Unmount it."""
        self._mount.close()
        self._is_mounted = False

    def read_mount(self) -> None:
        """Read a point through the mount."""
        if not (self._is_mounted and self.trees):
            return
        points = reopened(self.repository).points.all().points
        names, sources = displayed_names(points), shown_sources(points)
        point_id = self._rng.choice(sorted(self.trees))
        folder = self._path / "mount" / sources[point_id]
        # it goes on with the name that told the point from another of that second, now removed
        digits = point_id.rpartition("_")[2]
        kept = [n for n in os.listdir(folder) if digits.startswith(n.rpartition("-")[2])]
        seen = snapshot(folder / (kept[0] if kept else names[point_id]))
        self._compare(point_id, seen, "blocks", "directory_size")

    def look(self) -> None:
        """Check all, and restore a point."""
        assert sorted(reopened(self.repository).points.ids()) == sorted(self.trees), self.log
        found = damages(self.repository)
        assert found == [], (found, self.log)
        points = reopened(self.repository).points.all().points
        if points:
            self._compare_restored(self._rng.choice(points))

    def _compare_restored(self, point: Point) -> None:
        found = restored_tree(self.repository, point, self._path / "restored")
        self._compare(point.id, found)

    def _compare(self, point_id: str, found: dict[bytes, Entry], *ignored: str) -> None:
        # a purge may have taken a folder away
        ignored += ("directory_nlink",)
        wrong = differences(self.trees[point_id], found, ignore=ignored)
        assert wrong == [], (point_id, wrong, self.log)

    def copy(self) -> None:
        """Go on with a copy of it."""
        self.close()
        here, there = self._path / "repository", self._path / "copied"
        shutil.copytree(here, there, symlinks=True)
        shutil.rmtree(here)
        os.rename(there, here)
        self._readers.clear()

    def damage(self) -> None:
        """Change a byte: check tells of it, or nobody needs it; then it is changed back."""
        path = self._any_file()
        if path is None:
            return
        before = self._flip(path)
        found = damages(self.repository)
        newest = max(int(p.suffix[1:]) for p in path.parent.glob(f"{path.stem}.*"))
        exists = reopened(self.repository).is_whole(path.parent.name)
        counts = exists and int(path.suffix[1:]) == newest
        assert found or not counts, (path, self.log)
        path.write_bytes(before)
        self._forget_damage()

    def repair(self) -> None:
        """Change a bit, and let it heal by parity if there is any, or else from a copy."""
        path = self._any_file()
        if path is None:
            return
        copy = self._path / "to-repair-from"
        # a run that was cut off may have written none
        has_parity = any(path.parent.glob(f"{path.name}.parity.*"))
        if not has_parity:
            shutil.copytree(self._path / "repository", copy, symlinks=True)
        before = self._flip(path)
        is_hurt = damages(self.repository) != []
        other = None if has_parity else self._opened(copy)
        left = repaired(self.repository, other=other).left
        assert left is not None
        assert left.damages == [], (path, self.log)
        assert damages(self.repository) == [], (path, self.log)
        if is_hurt:
            assert path.read_bytes() == before or not path.exists(), (path, self.log)
        elif path.exists():
            path.write_bytes(before)
        shutil.rmtree(copy, ignore_errors=True)
        self._forget_damage()

    def _opened(self, path: Path) -> Repository:
        """A copy of the repository."""
        unlocked = self.repository.unlocked if self.repository.config.is_sealed else None
        return Repository.open(os.fsencode(path), unlock=lambda *_: unlocked)

    def _any_file(self) -> Path | None:
        """A file of an archive, whichever."""
        files = sorted(
            path
            for path in (self._path / "repository").glob("archives/*/*")
            if layout.parse_archive_file(path.name) is not None
        )
        return self._rng.choice(files) if files else None

    def _flip(self, path: Path) -> bytes:
        """Change one bit of a file; the bytes that it had."""
        before = path.read_bytes()
        data, place = bytearray(before), self._rng.randrange(len(before))
        data[place] ^= 1 << self._rng.randrange(8)
        path.write_bytes(data)
        return before

    def _forget_damage(self) -> None:
        for note in (self._path / "repository" / "damaged").iterdir():
            note.unlink()


def below(tree: dict[bytes, Entry], path: bytes) -> set[bytes]:
    """The paths of *tree* that are *path*, or below it."""
    return {name for name in tree if name == path or name.startswith(path + b"/")}


def parts_links(tree: dict[bytes, Entry], path: bytes) -> bool:
    """Whether *path* has some of the hard links to something, and not all of them.

    What is left of them goes on to say how many there were.
    """
    gone = below(tree, path)
    return any(tree[name].links - gone for name in gone)
