"""Repositories with a history of secrets, purges of them, and whether anything of them is left."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ibtfs.actions.observer import Observer
from ibtfs.actions.purge.run import PurgeOptions, PurgeResult, purge
from ibtfs.format.digests import SLAB
from ibtfs.format.point import Point
from ibtfs.store.contents.slabs import kept_of
from ibtfs.store.repository import Repository
from tests.support.plain import digest, slab_digest

from . import Entry, differences, snapshot
from .histories import History
from .independent_reader import IndependentReader
from .leaks import Needles, leaks
from .repositories import (
    back_up,
    create,
    damages,
    reopened,
    restored_tree,
    settle,
    the_point,
)

Tree = dict[bytes, Entry]
KIB = 1 << 10


@dataclass
class Scene:
    """A repository with the history of a source that has secrets: their names, all their bytes.

    *expected* are the trees of the points, by sequence; *kept* all bytes that other files ever had.
    """

    place: Path
    repository: Repository
    names: list[bytes] = field(default_factory=list)
    secrets: list[bytes] = field(default_factory=list)
    xattrs: list[bytes] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    expected: dict[int, Tree] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return self.place / "source"

    @property
    def cache(self) -> Path:
        return self.place / "cache"

    def needles(self, *, step: int = 1) -> Needles:
        digests = [digest(data) for data in self.secrets]
        slabs = {
            kept_of(slab_digest(data[at : at + SLAB]))
            for data in self.secrets
            for at in range(0, len(data), SLAB)
        }
        shared = {
            kept_of(slab_digest(data[at : at + SLAB]))
            for data in self.kept
            for at in range(0, len(data), SLAB)
        }
        # the local catalog has eight bytes of each
        words = [*self.names, *digests, *(digest[:8] for digest in digests), *(slabs - shared)]
        return Needles([*self.secrets, *self.xattrs], words, self.kept, step=step)

    def back_up(self, **options: object) -> Point:
        settle()
        tree = snapshot(self.source)
        point = the_point(
            back_up(self.repository, self.source, cache=os.fsencode(self.cache), **options)
        )
        self.expected[point.sequence] = tree
        return point

    def is_secret(self, path: bytes) -> bool:
        return any(name in path.split(b"/") for name in self.names)

    def purge(self, *words: bytes) -> PurgeResult:
        options = PurgeOptions(cache=os.fsencode(self.cache))
        return purge(reopened(self.repository), words, options, Observer())

    def assert_is_purged(self, needles: Needles | None = None, *, step: int = 1) -> None:
        """Nothing of the secrets is left, all other paths are as they were."""
        needles = needles or self.needles(step=step)
        assert leaks(self.repository, needles, self.cache) == []
        self.assert_rest_is_whole()
        assert not any(map(self.is_secret, self.all_paths()))
        assert list(self.partial_payloads()) == []

    def assert_rest_is_whole(self) -> None:
        points = reopened(self.repository).points.all().points
        assert [point.sequence for point in points] == sorted(self.expected)
        for point in points:
            expected = self.without(self.expected[point.sequence])
            found = restored_tree(self.repository, point, self.place / "restored")
            ignored = ("directory_nlink",)  # a folder may be gone from it
            assert differences(expected, self.without(found), ignore=ignored) == [], point.id
        assert damages(self.repository) == []
        for told in IndependentReader(os.fsdecode(self.repository.path)).points():
            paths = set()
            for path, entry in told.entries():
                if entry.content is not None:
                    entry.content.whole()
                paths.add(path)
            expected = self.expected[told.values["sequence"]]
            assert set(self.without(dict.fromkeys(paths, expected[b""]))) == set(
                self.without(expected)
            )

    def partial_payloads(self) -> Iterator[str]:
        """The payloads of which only a part is left: where they are, and how long they were."""
        opened = reopened(self.repository)
        for name in opened.archive_ids():
            for number, record in opened.archive(name).contents():
                if record.is_shell and not record.is_plain:
                    yield f"{name}: {number}: {record}"

    def without(self, tree: Tree) -> Tree:
        return {path: entry for path, entry in tree.items() if not self.is_secret(path)}

    def all_paths(self) -> Iterator[bytes]:
        for point in IndependentReader(os.fsdecode(self.repository.path)).points():
            yield from (path for path, _ in point.entries())


def make_scene(place: Path) -> Scene:
    """An empty source, and an empty repository."""
    made = Scene(place, create(place / "repository"))
    made.source.mkdir()
    return made


class Secret:
    """A file that changes, whose bytes are told."""

    def __init__(self, scene: Scene, path: Path, rng: random.Random, size: int) -> None:
        self._scene, self.path, self._rng = scene, path, rng
        path.parent.mkdir(exist_ok=True)
        self.write(rng.randbytes(size))

    def write(self, data: bytes) -> None:
        self.path.write_bytes(data)
        self._scene.secrets.append(data)

    def change(self) -> None:
        data, rng = self.path.read_bytes(), self._rng
        at = rng.randrange(len(data))
        new = rng.randbytes(rng.choice((30, 300, 5000)))
        change = rng.choice(("in place", "insert", "append", "cut", "xattr", "nothing"))
        if change == "in place":
            with open(self.path, "r+b", buffering=0) as file:
                os.pwrite(file.fileno(), new[: len(data) - at], at)
            self._scene.secrets.append(self.path.read_bytes())
        elif change == "insert":
            self.write(data[:at] + new + data[at:])
        elif change == "append":
            self.write(data + new)
        elif change == "cut":
            self.write(data[: max(at, 1000)])
        elif change == "xattr":
            os.setxattr(self.path, "user.note", new[:3000])
            self._scene.xattrs.append(new[:3000])


def random_history(scene: Scene, rng: random.Random, generations: int) -> None:
    """Secrets among other files, some of which have bytes of theirs, and are built on them."""
    names = [b"sEcReT%016x" % rng.getrandbits(64) for _ in range(4)]
    scene.names = names
    text, large, inside, folder = (os.fsdecode(name) for name in names)
    history = History(scene.source / "tree", rng, max_bytes=300 * KIB, max_entries=25)
    secrets = [
        Secret(scene, scene.source / text, rng, 3000),
        Secret(scene, scene.source / "vault" / large, rng, 200 * KIB),
        Secret(scene, scene.source / "vault" / inside, rng, 20 * KIB),
        Secret(scene, scene.source / folder / "id", rng, 700),
    ]
    os.link(secrets[0].path, scene.source / "vault" / f"{folder}")
    derived = scene.source / "derived"
    for generation in range(generations):
        if generation:
            history.step()
            for secret in rng.sample(secrets, 2):
                secret.change()
            if rng.randrange(2):
                # what begins like a secret is built on it
                data = secrets[1].path.read_bytes()
                at = rng.randrange(66 * KIB, max(len(data), 66 * KIB + 1))
                other = data[:at] + rng.randbytes(500) + data[at + 900 :]
                derived.write_bytes(other)
        for path in [derived, *(Path(os.fsdecode(p)) for p in history.files())]:
            if path.exists():
                scene.kept.append(path.read_bytes())
        scene.back_up(tags=(f"tag{generation}",), full=rng.randrange(6) == 0)
