"""Real commands in processes of their own, each of whose system calls that change something fails.

A `Job` is a command and a repository that it is for: `Job.examine` lets one call kill it or fail,
looks at all points that must be whole, and lets it end what it began.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import is_unfinished
from tests.support import Entry, differences, snapshot
from tests.support.cut_removal import edited
from tests.support.faulty import Scene
from tests.support.killing import Call, read_trace, run, tracing
from tests.support.protecting import assert_protected, deleted, flips, overwritten, protected
from tests.support.purging import make_scene, random_history
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import reopened, restored, restored_tree, settle

KILLED, EIO, ENOSPC = "killed", "EIO", "ENOSPC"
FAULTS = (KILLED, EIO, ENOSPC)
CHANGING = frozenset({
    "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat",
    "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "truncate", "ftruncate",
})  # fmt: skip
ENDED = (-signal.SIGKILL, 128 + signal.SIGKILL)
Tree = dict[bytes, Entry]
_LOW_BOUNDS = """
import sys
from functools import partialmethod
from ibtfs.actions.prune.run import PruneOptions
from ibtfs.store.removal.bundling import Bounds
low = Bounds(least=2, age=-3600, tiers=(64 << 20,))  # any, however young
PruneOptions.__init__ = partialmethod(PruneOptions.__init__, bundles=low)
from ibtfs.cli.main import main
main()
"""
_BUNDLING = (sys.executable, "-c", _LOW_BOUNDS)
"""The command, which puts any two archives into a bundle."""


@dataclass
class Job:
    """A command, below *path*: its repository, what its points must hold, when it is done.

    *trees* are what the points that must stay restore to, by sequence; until it is done the paths
    *hurt* may be missing, in all points, and the points that are *gone* be there or not.  *done*
    raises AssertionError unless it has done its work.  *compared* counts points that were looked
    at, *borne* errors after which it said that it had done its work.
    """

    path: Path
    words: Sequence[str]
    done: Callable[[Repository], None]
    trees: dict[int, Tree]
    gone: frozenset[int] = frozenset()
    hurt: frozenset[bytes] = frozenset()
    launch: Sequence[str] = (sys.executable, "-m", "ibtfs")
    compared: int = field(default=0, init=False)
    borne: Counter[str] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        self._kept = self.path / "kept"
        for name in ("repository", "cache"):
            (self.path / name).mkdir(exist_ok=True)
            shutil.copytree(self.path / name, self._kept / name)

    @property
    def repository(self) -> Repository:
        """As somebody opens it who knows nothing yet."""
        return Repository.open(os.fsencode(self.path / "repository"))

    @property
    def command(self) -> list[str]:
        return [*self.launch, *self.words]

    def reset(self) -> None:
        """As it was before the command was run."""
        for name in ("repository", "cache"):
            folder = self.path / name  # which may be a link to where it lies
            for there in folder.iterdir():
                shutil.rmtree(there) if there.is_dir() else there.unlink()
            shutil.copytree(self._kept / name, folder, dirs_exist_ok=True)

    def calls(self) -> list[Call]:
        """The calls that change something, of a run that nothing disturbs."""
        self.reset()
        code, said = self._run()
        assert code == 0, said
        calls = [call for call in read_trace(self.path / "trace") if self._counts(call)]
        assert calls
        return calls

    def _counts(self, call: Call) -> bool:
        is_change = call.name in CHANGING or (call.name == "openat" and "O_CREAT" in call.text)
        return is_change and call.path.startswith((f"{self.path}/repository", f"{self.path}/cache"))

    def _place(self, call: Call) -> str:
        """Where a call works, without what is unique."""
        inside = os.path.relpath(call.path, self.path)
        return "/".join(inside.split("/")[:2])

    def _run(self, *injected: str) -> tuple[int, str]:
        return run(self.command, self.path / "cache", tracing(self.path / "trace", *injected))

    def fail(self, call: Call, fault: str) -> bool:
        """Let one call fail; whether it came to that.  All points have to be whole then."""
        what = "signal=KILL" if fault == KILLED else f"error={fault}"
        code, said = self._run(f"{call.name}:{what}:when={call.number}")
        where = f"exit {code}: {said.strip()[-1500:]}"
        if fault == KILLED:
            met = code in ENDED
        else:
            met = "(INJECTED)" in (self.path / "trace").read_text(errors="replace")
            assert "Traceback" not in said, where
            assert "bug" not in said, where
            if code:
                assert code in (1, 3), where
                assert said.strip(), where
        if code == 0:
            self.done(self.repository)
            self.borne[f"{call.name} {self._place(call)}"] += met
        self.look()
        return met

    def look(self, hurt: frozenset[bytes] | None = None) -> None:
        """Each point that must be there is, and holds what it held."""
        hurt = self.hurt if hurt is None else hurt
        repository = self.repository
        points = {point.sequence: point for point in repository.points.all().points}
        assert set(self.trees) <= set(points) <= set(self.trees) | self.gone
        if not hurt:
            assert_whole(repository)
        for sequence, tree in self.trees.items():
            back = self.path / "back"
            restored(repository, points[sequence], back)
            found = snapshot(back)
            shutil.rmtree(back)
            unlike = differences(
                _without(tree, hurt), _without(found, hurt), ignore=("directory_nlink",)
            )
            assert unlike == [], (sequence, unlike)
            self.compared += 1

    def go_on(self) -> None:
        """The next run ends it."""
        code, said = run(self.command, self.path / "cache")
        assert code == 0, f"the next run: exit {code}: {said}"
        self.done(self.repository)
        self.look(frozenset())
        left = [path.name for path in (self.path / "repository" / "locks").iterdir()]
        # who was killed with a shared lock, or while he made one, leaves it to the next backup or
        # prune
        assert all(name.startswith("shared") or is_unfinished(name) for name in left), left

    def examine(self, call: Call, fault: str, again: tuple[Call, str] | None = None) -> list[bool]:
        """One fault, another one in the next run if there is *again*, and the end.

        Of each whether it came to it.
        """
        self.reset()
        met = [self.fail(call, fault)]
        if again is not None:
            met.append(self.fail(*again))
        self.go_on()
        return met


def _without(tree: Tree, paths: frozenset[bytes]) -> Tree:
    return {path: entry for path, entry in tree.items() if path not in paths}


# ---- the commands ---------------------------------------------------------------------------


def _scene(path: Path, seed: int, points: int) -> tuple[Scene, dict[str, Tree]]:
    """A repository of a file that is edited and others; what its points restore to."""
    scene = Scene(path, seed, points, edited)
    trees = {}
    for point_id in [*scene.stay, *scene.gone]:
        restored(scene.repository, reopened(scene.repository).points.get(point_id), path / "back")
        trees[point_id] = snapshot(path / "back")
        shutil.rmtree(path / "back")
    shutil.rmtree(path / "kept")
    return scene, trees


def _by_sequence(scene: Scene, trees: dict[str, Tree], ids: Sequence[str]) -> dict[int, Tree]:
    points = reopened(scene.repository).points
    return {points.get(point_id).sequence: trees[point_id] for point_id in ids}


def _forgotten(gone: Sequence[str], repository: Repository) -> None:
    assert set(repository.points.ids()).isdisjoint(gone)
    assert set(repository.points.forgotten()) <= set(gone)
    assert not any(repository.points.tags(point_id) for point_id in gone)


def _pruned(repository: Repository) -> None:
    """There is nothing more to do."""
    assert list(Path(os.fsdecode(repository.path)).rglob("*.part")) == []
    more = pruned(repository, dry_run=True)
    assert (more.removed, more.rewritten, more.failed, more.damages) == (0, 0, [], [])
    archives = Path(os.fsdecode(repository.path)) / "archives"
    bundled = repository.storage.bundles.archives()
    left = {path.parent.name for path in archives.glob("*/removed")}
    assert left <= set(bundled), "what was removed is not swept"
    files = [path.with_suffix("") for path in _archive_files(repository)]
    assert len(files) == len(set(files)), "an earlier generation is left"


def _archive_files(repository: Repository) -> list[Path]:
    return list(Path(os.fsdecode(repository.path)).glob("archives/*/*.*"))


def _healed(repository: Repository) -> None:
    assert_whole(repository)
    assert repository.damage.contents() == set()


def _forget_job(path: Path, seed: int, points: int, *, prune: bool) -> Job:
    """By ids; with *prune* by a rule, for a prune that has done its work knows them no more."""
    scene, trees = _scene(path, seed, points)
    for point_id in scene.gone:
        scene.repository.points.add_tag(point_id, "goes")
    for point_id in scene.stay:
        scene.repository.points.add_tag(point_id, "stays")
    kept = _by_sequence(scene, trees, scene.stay)
    gone = frozenset(_by_sequence(scene, trees, scene.gone))
    what = ["--prune", "--keep-tag", "stays"] if prune else scene.gone

    def done(repository: Repository) -> None:
        _forgotten(scene.gone, repository)
        if prune:
            _pruned(repository)

    launch = _BUNDLING if prune else Job.launch
    return Job(
        path, ["forget", "--quiet", str(scene.place), *what], done, kept, gone, launch=launch
    )


def _prune_job(path: Path, seed: int, points: int) -> Job:
    scene, trees = _scene(path, seed, points)
    kept = _by_sequence(scene, trees, scene.stay)
    forget(scene.repository, scene.gone)
    words = ["prune", "--quiet", str(scene.place)]
    return Job(path, words, _pruned, kept, launch=_BUNDLING)


def _purge_job(path: Path, seed: int, points: int) -> Job:
    scene = make_scene(path)
    random_history(scene, random.Random(seed), max(points - 2, 2))
    trees = {number: scene.without(tree) for number, tree in scene.expected.items()}
    words = ["purge", "--quiet", "--yes", str(path / "repository"), *map(os.fsdecode, scene.names)]

    def done(repository: Repository) -> None:
        assert not any(map(scene.is_secret, scene.all_paths()))
        assert list(scene.partial_payloads()) == []
        _pruned(repository)

    secrets = frozenset(path for tree in scene.expected.values() for path in tree
                        if scene.is_secret(path))  # fmt: skip
    return Job(path, words, done, trees, hurt=secrets)


def _repair_job(path: Path, seed: int, points: int, by: str) -> Job:
    """What is damaged is healed *by* parity, from a copy, or from the source."""
    scene, trees = _scene(path, seed, points)
    root = scene.place
    largest = sorted((root / "archives").glob("*/*.1"), key=lambda path: path.stat().st_size)
    words = ["check", "--quiet", "--repair", str(root)]
    if by == "parity":
        assert protected(scene.repository) == []
        for file in largest[-2:]:
            flips(file)
        deleted(min((root / "points").iterdir()))
    elif by == "copy":
        shutil.copytree(root, path / "copy")
        deleted(largest[-1])
        overwritten(largest[-2])
        deleted(min((root / "points").iterdir()))
        words = ["repair", "--quiet", str(root), "--from", str(path / "copy")]
    else:
        newest = reopened(scene.repository).points.all().points[-1].id
        files = (root / "archives").glob(f"{newest}.*/*.1")
        overwritten(max(files, key=lambda path: path.stat().st_size))
    ids = [*scene.stay, *scene.gone]
    points = reopened(scene.repository).points.all().points
    there = {point.id for point in points}
    lost = [point_id for point_id in ids if point_id not in there]
    kept = {point.sequence: trees[point.id] for point in points}
    gone = frozenset(range(1, len(ids) + 1)) - set(kept)
    hurt: set[bytes] = set()
    for point in points:
        restored(reopened(scene.repository), point, path / "back")
        hurt.update(set(trees[point.id]) - set(snapshot(path / "back")))
        shutil.rmtree(path / "back")
    assert hurt

    def done(repository: Repository) -> None:
        assert set(lost) <= set(repository.points.ids())
        _healed(repository)

    return Job(path, words, done, kept, gone, frozenset(hurt))


def _backup_job(path: Path, seed: int, points: int) -> Job:
    scene, trees = _scene(path, seed, points)
    source, rng = path / "source", random.Random(seed)
    (source / "another").write_bytes(rng.randbytes(150_000))
    (source / "more").mkdir()
    for number in range(20):
        (source / "more" / f"{number}").write_bytes(rng.randbytes(10_000))
    settle()
    newest = snapshot(source)
    words = ["backup", "--quiet", "--tag", "new", str(source), str(scene.place)]

    def done(repository: Repository) -> None:
        last = repository.points.all().points[-1]
        assert repository.points.tags(last.id) == ["new"]
        assert differences(newest, restored_tree(repository, last, path / "back")) == []

    # each run that comes to its end makes a point
    new = frozenset(range(points + 1, points + 4))
    return Job(path, words, done, _by_sequence(scene, trees, [*scene.stay, *scene.gone]), new)


def _protect_job(path: Path, seed: int, points: int) -> Job:
    scene, trees = _scene(path, seed, points)
    kept = _by_sequence(scene, trees, [*scene.stay, *scene.gone])
    words = ["protect", "--quiet", "--redundancy", "10%", str(scene.place)]
    return Job(path, words, assert_protected, kept)


JOBS: dict[str, Callable[[Path, int, int], Job]] = {
    "backup": _backup_job,
    "forget": partial(_forget_job, prune=False),
    "forget --prune": partial(_forget_job, prune=True),
    "prune": _prune_job,
    "purge": _purge_job,
    "check --repair, parity": partial(_repair_job, by="parity"),
    "check --repair, source": partial(_repair_job, by="source"),
    "repair --from": partial(_repair_job, by="copy"),
    "protect": _protect_job,
}
"""What makes each job below a folder, by a seed, in a repository of so many points."""
