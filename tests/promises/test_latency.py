"""What a repository far away costs: requests, and how many of them one after the other.

A source of 2,000 files, with a file that every run changes a little, is backed up 24 times, and
used through :class:`FarStorage`, which counts.  Each step has an upper bound in BOUNDS: requests in
all, and rounds, each of which is waited for (with 50 ms added to a request, a round costs 50 ms).
Of what is asked for at once there are more rounds where threads begin late, so half is allowed.

``IBTFS_TEST_COUNTS=show pytest -s tests/promises/test_latency.py`` prints each step's requests by
kind.  When a bound is broken, look at what is asked for before raising it; when a count went down,
lower its bound.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.observer import Observer
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalStorage
from ibtfs.view.node import Node
from ibtfs.view.tree import RepositoryView
from tests.conftest import in_memory
from tests.support.far import FarStorage, Requests
from tests.support.repositories import HOST, back_up, create, settle, the_point
from tests.support.trees import make_tree
from tests.support.views import SECOND, node_at

RUNS, FOLDERS, FILES = 24, 40, 50
CHANGED = "folder00/changed"
PIECE = 4096
DELAY = 0.02
"""So that what is asked for at the same time is so, and can be told from what is not."""

BOUNDS: dict[str, tuple[int, int]] = {
    # requests, rounds
    "mount": (28, 12),
    "ls -R": (24, 12),
    "4 KiB": (2, 2),
    "browsed again": (0, 0),
    "4 KiB at once": (26, 14),
    "mount, cached": (4, 4),
    "ls -R, cached": (0, 0),
    "4 KiB, cached": (2, 2),
    "48 MiB": (30, 20),
    "unchanged backup": (20, 18),
    "incremental backup": (29, 26),
    "1,000 points": (1003, 100),
    "1,000 points, cached": (3, 3),
}
SHOW = os.environ.get("IBTFS_TEST_COUNTS") == "show"


def edit(source: Path, number: int) -> None:
    """Change a piece of one file, and a few small ones."""
    rng = random.Random(number)
    with (source / CHANGED).open("r+b") as file:
        file.seek(number * 50_000)
        file.write(rng.randbytes(500))
    for one in range(3):
        folder, name = rng.randrange(FOLDERS), rng.randrange(FILES)
        (source / f"folder{folder:02}" / f"file{name:02}").write_bytes(b"%d %d" % (number, one))


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from in_memory(tmp_path_factory.mktemp("latency"))


@pytest.fixture(scope="module")
def built(memory: Path) -> Path:
    """A folder with a source, and its repository of so many runs."""
    place = memory / "far"
    place.mkdir()
    rng = random.Random(0)
    make_tree(place / "source", {
        f"folder{folder:02}": {
            f"file{name:02}": rng.randbytes(rng.randrange(50, 300)) for name in range(FILES)
        } for folder in range(FOLDERS)
    })  # fmt: skip
    (place / "source" / CHANGED).write_bytes(rng.randbytes(2_000_000))
    repository = create(place / "repository")
    for number in range(RUNS):
        edit(place / "source", number)
        back_up(repository, place / "source")
    return place


def seen(repository: Repository) -> RepositoryView:
    """What ``ibtfs mount`` does with a repository."""
    repository.look_around()
    repository.look_ahead()
    view = RepositoryView(repository)
    view.sources()
    repository.points.remember()
    repository.rest()
    repository.require_there()
    return view


class Far:
    """A copy of that repository, far away, with a folder for the local cache; the same source."""

    def __init__(self, built: Path, place: Path) -> None:
        self.source, self.cache = built / "source", place / "cache"
        self.cache.mkdir()
        self.requests = Requests(DELAY)
        shutil.copytree(built / "repository", place / "repository")
        self._folder = os.fsencode(place / "repository")

    def storage(self) -> FarStorage:
        """The storage, as a process that has just begun sees it."""
        return FarStorage(LocalStorage(self._folder), self.requests)

    def opened(self, *, cached: bool) -> Repository:
        """The repository, likewise."""
        cache = os.fsencode(self.cache) if cached else b""
        return Repository.open(self.storage(), cache_folder=cache)

    def mounted(self, *, cached: bool = True) -> RepositoryView:
        """What ``ibtfs mount`` does."""
        repository = self.opened(cached=cached)
        return seen(repository)

    def backed_up(self) -> None:
        """What ``ibtfs backup`` does."""
        repository = self.opened(cached=True)
        assert len(repository.points.all().points) >= RUNS
        options = BackupOptions(HOST, cache=os.fsencode(self.cache))
        time.sleep(1.05)  # of two points of a second one gets another name, which takes longer
        result = backup(repository, os.fsencode(self.source), options, Observer())
        assert result.point is not None
        assert result.tally.problems == []
        repository.points.remember()

    @property
    def content(self) -> bytes:
        """What the changed file holds."""
        return (self.source / CHANGED).read_bytes()


@pytest.fixture
def far(built: Path, tmp_path: Path) -> Far:
    return Far(built, tmp_path)


def latest(view: RepositoryView) -> Node:
    source = view.root.lookup(b"source")
    return source.lookup(source.lookup(b"latest").target())


def listed(node: Node) -> Iterator[Node]:
    """What ``ls -lR`` looks at."""
    for _, child in node.children():
        yield child
        if child.attributes().mode & 0o170000 == 0o040000:
            yield from listed(child)


def count_of(view: RepositoryView) -> int:
    return sum(1 for _ in listed(latest(view)))


def read_piece(view: RepositoryView, far: Far) -> None:
    found = node_at(latest(view), CHANGED).read(700_000, PIECE)
    assert found == far.content[700_000 : 700_000 + PIECE]


class Steps:
    """Steps are judged by what was asked for since the last one."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._above: list[str] = []
        requests.clear()

    def done(self, step: str) -> None:
        """*step* was done."""
        requests, bounds = self._requests, BOUNDS[step]
        requests.wait()
        found = requests.count, requests.rounds
        if SHOW:
            print(f'\n    "{step}": {found},  # {requests.table()}')
        if found[0] > bounds[0] or found[1] > bounds[1]:
            self._above.append(f"{step}: {found}, not {bounds}: {requests.table()}")
        requests.clear()

    def judge(self) -> None:
        """Fail with all that is above its bound."""
        assert not self._above, "\n".join(self._above)


def test_a_mount_that_is_new(far: Far) -> None:
    steps = Steps(far.requests)
    view = far.mounted()
    steps.done("mount")
    assert count_of(view) == FOLDERS + FOLDERS * FILES + 1
    steps.done("ls -R")
    read_piece(view, far)
    steps.done("4 KiB")
    count_of(view)
    steps.done("browsed again")
    view = far.mounted(cached=False)
    far.requests.clear()
    read_piece(view, far)
    steps.done("4 KiB at once")
    steps.judge()


def test_a_mount_with_its_cache(far: Far) -> None:
    view = far.mounted()
    count_of(view)
    read_piece(view, far)
    steps = Steps(far.requests)
    view = far.mounted()
    steps.done("mount, cached")
    count_of(view)
    steps.done("ls -R, cached")
    read_piece(view, far)
    steps.done("4 KiB, cached")
    steps.judge()


@pytest.fixture(scope="module")
def thousand(memory: Path) -> Path:
    """A repository of a thousand points."""
    place = memory / "thousand"
    make_tree(place / "source", {"file": b"contents"})
    repository = create(place / "repository")
    point = the_point(back_up(repository, place / "source"))
    for number in range(999):
        repository.points.put(
            replace(
                point, id=f"20200101T000000Z_copy_{number:010}", sequence=2 + number,
                time_ns=point.time_ns + (number + 1) * 60 * SECOND,
            )
        )  # fmt: skip
    return place / "repository"


def test_a_mount_of_a_thousand_points(thousand: Path, tmp_path: Path) -> None:
    requests = Requests(DELAY)
    (tmp_path / "cache").mkdir()
    steps = Steps(requests)
    for step in ("1,000 points", "1,000 points, cached"):
        place = FarStorage(LocalStorage(os.fsencode(thousand)), requests)
        repository = Repository.open(place, cache_folder=os.fsencode(tmp_path / "cache"))
        assert [len(one.points) for one in seen(repository).sources().values()] == [1000]
        steps.done(step)
    steps.judge()


def test_a_large_file_comes_as_the_link_gives_it(fast_path: Path) -> None:
    """Some pieces are always on their way: what is waited for one after the other are few."""
    size = 48 << 20
    (fast_path / "source").mkdir()
    (fast_path / "source/large").write_bytes(random.Random(1).randbytes(size))
    back_up(create(fast_path / "repository"), fast_path / "source")
    requests = Requests(DELAY)
    place = FarStorage(LocalStorage(os.fsencode(fast_path / "repository")), requests)
    node = node_at(latest(RepositoryView(Repository.open(place))), "large")
    node.read(0, 1)
    steps = Steps(requests)
    read = b"".join(node.read(offset, 128 << 10) for offset in range(0, size, 128 << 10))
    assert read == (fast_path / "source/large").read_bytes()
    assert requests.bytes < 1.05 * size
    steps.done("48 MiB")
    steps.judge()


def test_backups_with_a_cache(far: Far) -> None:
    edit(far.source, RUNS)
    settle()
    far.backed_up()
    steps = Steps(far.requests)
    far.backed_up()
    steps.done("unchanged backup")
    edit(far.source, RUNS + 1)
    settle()
    far.requests.clear()
    far.backed_up()
    steps.done("incremental backup")
    read_piece(far.mounted(), far)
    steps.judge()
