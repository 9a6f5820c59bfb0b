"""Copies of indexes of a repository far away: they hide nothing, and are used for nothing else."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.observer import Observer
from ibtfs.actions.purge import run as purging
from ibtfs.actions.purge.run import PurgeOptions, purge
from ibtfs.errors import FormatDamaged
from ibtfs.format.frames import CONTENTS, HEADER, STATES
from ibtfs.format.point import Point
from ibtfs.store.removal.known_marks import discard_marks
from ibtfs.store.repository import Repository
from ibtfs.store.storage import prefetching
from ibtfs.store.storage.local import LocalStorage
from ibtfs.view.tree import RepositoryView
from tests.support import Entry, differences, snapshot
from tests.support.bundles import bundles, put_together
from tests.support.far import FarStorage
from tests.support.protecting import protected, repaired
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import HOST, back_up, create, damages, reopened, settle, the_point
from tests.support.sealing import create_sealed
from tests.support.trees import make_tree
from tests.support.views import viewed_tree

STREAMS = {"header": HEADER, "states": STATES, "contents": CONTENTS}
Tree = dict[bytes, Entry]


class Client:
    """A machine that uses a repository far away, with a cache of its own."""

    def __init__(self, repository: Repository, cache: Path) -> None:
        cache.mkdir()
        self._repository, self._cache = repository, cache

    def opened(self, *, cached: bool = True) -> Repository:
        """The repository, as a process that has just begun sees it."""
        unlocked = self._repository.unlocked if self._repository.config.is_sealed else None
        place = FarStorage(LocalStorage(self._repository.path))
        return Repository.open(
            place, cache_folder=os.fsencode(self._cache) if cached else b"",
            unlock=lambda *_: unlocked,
        )  # fmt: skip

    def backed_up(self, source: Path) -> Point:
        settle()
        options = BackupOptions(HOST, cache=os.fsencode(self._cache))
        return the_point(backup(self.opened(), os.fsencode(source), options, Observer()))

    def seen(self, point: Point, *, cached: bool = True) -> Tree:
        """The tree of a point, as a mount that has just begun shows it.  Raises what it raises."""
        opened = self.opened(cached=cached)
        opened.only_look()
        opened.look_around()
        RepositoryView(opened).sources()
        return viewed_tree(opened, point)

    def copies(self) -> list[Path]:
        return sorted(self._cache.glob("*.indexes/*"))


def made_source(place: Path) -> Path:
    make_tree(place, {
        f"d{folder}": {f"f{name}": os.urandom(300) for name in range(20)} for folder in range(5)
    })  # fmt: skip
    return place


@pytest.fixture
def source(fast_path: Path) -> Path:
    return made_source(fast_path / "source")


@pytest.fixture(params=["plain", "sealed"])
def made(request: pytest.FixtureRequest, fast_path: Path) -> Repository:
    place = fast_path / "made"
    return create(place) if request.param == "plain" else create_sealed(place)


@pytest.fixture
def client(made: Repository, fast_path: Path) -> Client:
    return Client(made, fast_path / "cache")


@contextmanager
def times_kept(path: Path) -> Iterator[None]:
    """What a disk spoils does not show in the times of a file."""
    found = path.stat()
    yield
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def index_of(repository: Repository, point: Point) -> Path:
    return Path(os.fsdecode(repository.path), "archives", point.state.archive, "index.1")


def spoil(repository: Repository, point: Point, stream: int) -> None:
    """Change a byte of a frame of the index that has the tree of *point*."""
    table = repository.archive(point.state.archive).file("index").table(stream)
    path = index_of(repository, point)
    data = bytearray(path.read_bytes())
    data[table.offsets[0] + 30] ^= 1
    with times_kept(path):
        path.write_bytes(data)


def test_copies_are_what_is_stored(client: Client, made: Repository, source: Path) -> None:
    """So those of a sealed repository are sealed."""
    point = client.backed_up(source)
    tree = snapshot(source)
    assert differences(tree, client.seen(point)) == []
    stored = [path.read_bytes() for path in Path(os.fsdecode(made.path)).glob("archives/*/index.*")]
    assert client.copies()
    for copy in client.copies():
        assert any(copy.read_bytes().endswith(data) for data in stored)
        assert b"f19" not in copy.read_bytes() or not made.config.is_sealed
    assert differences(tree, client.seen(point)) == []


@pytest.mark.damaged
@pytest.mark.parametrize("what", STREAMS)
def test_what_rotted_is_not_hidden(
    client: Client, made: Repository, source: Path, what: str
) -> None:
    point = client.backed_up(source)
    tree = client.seen(point)
    spoil(made, point, STREAMS[what])
    assert differences(tree, client.seen(point)) == []  # so far nobody knows
    assert damages(made)
    with pytest.raises(FormatDamaged):
        client.seen(point)
    later = client.backed_up(source)
    assert later.state != point.state
    assert differences(tree, client.seen(later, cached=False)) == []
    again = client.backed_up(source)
    assert differences(tree, client.seen(again, cached=False)) == []


@pytest.mark.damaged
@pytest.mark.parametrize("what", ["header", "states"])
def test_backups_build_on_no_old_copy(
    client: Client, made: Repository, source: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then what rotted is found without any check, and stored anew."""
    point = client.backed_up(source)
    spoil(made, point, STREAMS[what])
    monkeypatch.setattr(prefetching, "COPY_SECONDS", -1.0)
    assert differences(snapshot(source), client.seen(point)) == []
    later = client.backed_up(source)
    assert differences(snapshot(source), client.seen(later, cached=False)) == []


@pytest.mark.damaged
def test_a_mount_that_is_open_sees_what_was_noted(
    client: Client, made: Repository, source: Path
) -> None:
    point = client.backed_up(source)
    client.seen(point)
    opened = client.opened()
    reader = opened.archive(point.state.archive)
    found = reader.state(point.state.number)
    spoil(made, point, STATES)
    damages(made)
    assert reader.state(point.state.number) == found
    opened.look_around()
    with pytest.raises(FormatDamaged):
        reader.state(point.state.number)


@pytest.mark.damaged
def test_a_copy_of_what_rotted_does_not_stay(
    client: Client, made: Repository, source: Path
) -> None:
    """What was fetched while it was damaged is fetched again, though its times be the same."""
    point = client.backed_up(source)
    path = index_of(made, point)
    good = path.read_bytes()
    for copy in client.copies():
        copy.unlink()
    spoil(made, point, STATES)
    with pytest.raises(FormatDamaged):
        client.seen(point)
    assert client.copies()
    with times_kept(path):
        path.write_bytes(good)
    assert differences(snapshot(source), client.seen(point)) == []


@pytest.mark.damaged
def test_what_is_healed_is_used_again(client: Client, made: Repository, source: Path) -> None:
    if made.config.is_sealed:
        pytest.importorskip("cryptography")
    point = client.backed_up(source)
    tree = client.seen(point)
    assert protected(made) == []
    spoil(made, point, STATES)
    damages(made)
    assert made.damage.all().indexes == {point.state.archive}
    assert repaired(made).left.damages == []
    assert not any(made.damage.all())
    for copy in client.copies():
        copy.unlink()
    assert differences(tree, client.seen(point)) == []
    assert client.copies()
    assert differences(tree, client.seen(client.backed_up(source))) == []


def test_removal_by_others(client: Client, made: Repository, source: Path, fast_path: Path) -> None:
    """Archives that went, or are of another generation now, beside copies of what they were."""
    other = Client(made, fast_path / "other")
    rng, trees = random.Random(3), dict[str, Tree]()
    points = []
    for turn in range(9):
        for name in range(8):
            (source / f"d{rng.randrange(5)}/f{name}").write_bytes(rng.randbytes(400))
        one = (client, other)[turn % 2]
        points.append(one.backed_up(source))
        trees[points[-1].id] = snapshot(source)
        if turn % 3 == 2:
            opened = client.opened()
            viewed_tree(opened, points[-1])
            gone = points.pop(rng.randrange(len(points) - 1))
            forget(made, [gone])
            assert pruned(made, all_of_it=True).failed == []
            opened.look_around()
            opened.drop_replaced()
            for point in points:
                assert differences(trees[point.id], viewed_tree(opened, point)) == []
    for point in points:
        assert differences(trees[point.id], client.seen(point)) == []
        assert differences(trees[point.id], other.seen(point)) == []
    if not made.config.is_sealed:
        assert_whole(made)
    assert damages(made) == []


def test_what_is_put_together_by_others(client: Client, made: Repository, source: Path) -> None:
    """An archive whose index lies in a bundle is the same one."""
    points = []
    for number in range(6):
        (source / "new").write_bytes(b"%d" % number)
        points.append((client.backed_up(source), snapshot(source)))
    opened = client.opened()
    viewed_tree(opened, points[-1][0])
    put_together(made)
    assert bundles(made)
    for point, tree in points:
        assert differences(tree, viewed_tree(opened, point)) == []
        assert differences(tree, client.seen(point)) == []
    back_up(made, source)


def holders(client: Client, secret: bytes) -> list[str]:
    """The copies that have *secret*."""
    return [path.name for path in client.copies() if secret in path.read_bytes()]


def test_purged_bytes_leave_all_copies(fast_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that a mount reads meanwhile; those of another machine by its next run."""
    made = create(fast_path / "made")
    client, other, third = (Client(made, fast_path / name) for name in ("cache", "other", "third"))
    secret = os.urandom(200)
    source = fast_path / "source"
    make_tree(source, {"secret": secret, "stays": os.urandom(300)})
    point = client.backed_up(source)
    other.seen(point)
    third.seen(point)
    looking = third.opened()
    looking.look_around()
    looking.storage.known_names(point.state.archive)
    assert [bool(holders(one, secret)) for one in (client, other, third)] == [True] * 3
    mounted = client.opened()
    mounted.look_around()
    mounted.storage.expect([])
    mounted.storage.known_names(point.state.archive)
    read = []

    def decided(folder: bytes, repository: bytes) -> None:
        discard_marks(folder, repository)
        if not read:
            read.append(viewed_tree(mounted, point))  # before the sweep, and behind the first time
            assert holders(client, secret)

    monkeypatch.setattr(purging, "discard_marks", decided)
    options = PurgeOptions(cache=os.fsencode(fast_path / "cache"))
    result = purge(reopened(made), [os.fsencode(source / "secret")], options, Observer())
    assert result.left == []
    assert read
    assert not holders(client, secret)
    (source / "secret").unlink()
    looking.drop_replaced()
    assert not holders(third, secret)
    other.backed_up(source)
    assert other.copies()
    assert not holders(other, secret)


def test_a_cache_that_does_not_go_keeps_no_purged_bytes_in_the_repository(fast_path: Path) -> None:
    made = create(fast_path / "made")
    secret = os.urandom(200)
    source = fast_path / "source"
    make_tree(source, {"secret": secret, "stays": os.urandom(300)})
    client = Client(made, fast_path / "cache")
    client.backed_up(source)
    for path in (fast_path / "cache").glob("*.sqlite"):
        path.unlink()
    (fast_path / "cache" / f"{made.id.hex()}.sqlite").mkdir()
    options = PurgeOptions(cache=os.fsencode(fast_path / "cache"))
    result = purge(reopened(made), [os.fsencode(source / "secret")], options, Observer())
    assert [".sqlite" in line for line in result.left] == [True]
    assert not client.copies()
    stored = [path.read_bytes() for path in Path(os.fsdecode(made.path)).glob("archives/*/*.?")]
    assert stored
    assert not any(secret in data for data in stored)
