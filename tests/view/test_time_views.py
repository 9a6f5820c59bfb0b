"""The views over many points, held against a plain model: a list of trees, as dicts of values."""

from __future__ import annotations

import os
import random
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtfs.errors import EntryNotFound, IntegrityError, PartlyDamaged, PointGone
from ibtfs.format.point import Point
from ibtfs.store.archives import reader as archive
from ibtfs.store.naming import displayed_names
from ibtfs.store.repository import Repository
from ibtfs.store.trees.compare import KINDS
from ibtfs.store.trees.history import History
from ibtfs.store.trees.patience import Patience
from ibtfs.view import changes, deleted, versions
from ibtfs.view.node import Node
from ibtfs.view.tree import RepositoryView
from tests.support import Entry, snapshot
from tests.support.random_source import RandomSource
from tests.support.repositories import (
    Backup,
    back_up,
    create,
    remove,
    reopened,
    the_point,
    two_points,
)
from tests.support.trees import make_tree
from tests.support.views import SECOND, names_in, node_at

Tree = dict[bytes, Entry]
Shown = dict[bytes, tuple[object, ...]]


def is_folder(node: Node) -> bool:
    return stat.S_ISDIR(node.attributes().mode)


def shown(node: Node) -> Shown:
    """All below *node*, by path; links of folders and lookups are checked on the way."""
    found: Shown = {}
    waiting = [(b"", node)]
    while waiting:
        path, folder = waiting.pop()
        children = folder.children()
        folders = sum(is_folder(child) for _, child in children)
        assert folder.attributes().nlink == 2 + folders, path
        assert len({name for name, _ in children}) == len(children)
        for name, child in children:
            below = path + b"/" + name if path else name
            found[below] = facts(child)
            assert facts(folder.lookup(name)) == found[below]
            if is_folder(child):
                waiting.append((below, child))
    return found


def facts(node: Node) -> tuple[object, ...]:
    a = node.attributes()
    if stat.S_ISDIR(a.mode):
        return ("directory",)
    data = node.read(0, a.size) if stat.S_ISREG(a.mode) else node.target()
    return (a.mode, a.size, a.mtime_ns, data)


# ---- the model ---------------------------------------------------------------------------------


class Model:
    """A source that changes at random, and its points as trees and bytes."""

    def __init__(self, place: Path, rng: random.Random) -> None:
        self.random_source = RandomSource(place / "source", rng)
        self.source = self.random_source.path
        self.trees: list[Tree] = []
        self.data: list[Shown] = []

    def step(self) -> None:
        self.random_source.step()
        self.trees.append(snapshot(self.source))
        self.data.append({path: self._facts(path) for path in self.trees[-1]})

    def _facts(self, path: bytes) -> tuple[object, ...]:
        full = os.fsencode(self.source) + b"/" + path
        found = os.lstat(full)
        if stat.S_ISDIR(found.st_mode):
            return ("directory",)
        is_link = stat.S_ISLNK(found.st_mode)
        data = os.readlink(full) if is_link else Path(os.fsdecode(full)).read_bytes()
        return (found.st_mode, found.st_size, found.st_mtime_ns, data)

    def changes(self, old: int | None, new: int) -> dict[str, set[bytes]]:
        """The paths that were created, updated and deleted."""
        before, after = self.trees[old] if old is not None else {}, self.trees[new]
        same_kind = {
            path for path in before.keys() & after.keys()
            if (before[path].type == "directory") == (after[path].type == "directory")
        }  # fmt: skip
        updated = {path for path in same_kind if path and _differs(before[path], after[path])}
        return {
            "created": after.keys() - same_kind - {b""}, "updated": updated,
            "deleted": before.keys() - same_kind,
        }  # fmt: skip

    def gone(self, folder: bytes = b"") -> Shown:
        """What is gone from *folder*, by path; the last data of each."""
        found: Shown = {}
        newest = self.trees[-1]
        prefix = folder + b"/" if folder else b""
        below = {path[len(prefix) :] for tree in self.trees for path in tree
                 if path and path.startswith(prefix)}  # fmt: skip
        for name in {path.split(b"/")[0] for path in below}:
            path = folder + b"/" + name if folder else name
            now = newest.get(path)
            if now is not None and now.type == "directory":
                inside = self.gone(path)
                found |= {path: ("directory",), **inside} if inside else {}
                continue
            for tree, data in reversed(list(zip(self.trees, self.data))):
                if path in tree and (now is None or tree[path].type == "directory"):
                    within = path + b"/"
                    found |= {p: data[p] for p in tree if p == path or p.startswith(within)}
                    break
        return found

    def versions(self, path: bytes) -> list[tuple[int, int]]:
        """The first point and the number of points of each version that is no folder."""
        found: list[tuple[int, int]] = []
        last: Entry | None = None
        for number, tree in enumerate(self.trees):
            entry = tree.get(path)
            if entry is None or entry.type == "directory":
                continue
            if last is not None and not _differs(last, entry):
                found[-1] = (found[-1][0], found[-1][1] + 1)
            else:
                found.append((number, 1))
            last = entry
        return found


def _differs(old: Entry, new: Entry) -> bool:
    if old.type == new.type == "directory":
        return (old.mode, old.uid, old.gid, old.xattrs) != (new.mode, new.uid, new.gid, new.xattrs)
    return replace(old, blocks=0) != replace(new, blocks=0)


def with_parents(paths: set[bytes]) -> set[bytes]:
    slashes = ((path, end) for path in paths for end, byte in enumerate(path) if byte == ord("/"))
    parents = {path[:end] for path, end in slashes}
    return paths | parents


@pytest.fixture(scope="module")
def patient() -> Iterator[None]:
    """However slow the machine is, views count all that there is."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (changes, deleted, versions):
            for name in ("COUNTING_SECONDS", "LISTING_SECONDS", "LOOKUP_SECONDS"):
                patch.setattr(module, name, 600.0, raising=False)
        yield


@pytest.mark.usefixtures("patient")
@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_views_agree_with_the_model(rng: random.Random, steps: int) -> None:
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    ) as place:
        repository, model = create(Path(place) / "repository"), Model(Path(place), rng)
        points = []
        for _ in range(steps):
            model.step()
            points.append(the_point(back_up(repository, model.source)))
        view = RepositoryView(reopened(repository))
        source = view.root.lookup(b"source")
        names = [name for name, _ in source.children()][:-1]
        check_changes(source, model, names, rng)
        assert shown(source.lookup(b".deleted")) == model.gone()
        check_versions(view, source, model, names)


def check_changes(source: Node, model: Model, names: list[bytes], rng: random.Random) -> None:
    pairs = [(n - 1 if n else None, n, name) for n, name in enumerate(names)]
    one, other = (rng.randrange(len(names)) for _ in range(2))
    pairs.append((one, other, names[one] + b".." + names[other]))
    for old, new, name in pairs:
        expected = model.changes(old, new)
        for kind in KINDS:
            tree = shown(node_at(source, b".changes/" + name + b"/" + kind.encode()))
            assert tree.keys() == with_parents(expected[kind]), (name, kind)
            data = model.data[old] if kind == "deleted" and old is not None else model.data[new]
            assert {p: tree[p] for p in expected[kind]} == {p: data[p] for p in expected[kind]}


def check_versions(view: RepositoryView, source: Node, model: Model, names: list[bytes]) -> None:
    ever = {path for tree in model.trees for path in tree if path}
    tree = shown(source.lookup(b".versions"))
    expected: Shown = {}
    history = view.timeline(b"source").history
    for path in ever:
        versions = model.versions(path)
        expected[path] = ("directory",)
        expected |= {path + b"/" + names[n]: model.data[n][path] for n, _ in versions}
        counted = [v.points for v in history.versions(path, directories=False)]
        assert counted == [points for _, points in versions]
    assert tree == expected


# ---- versions ----------------------------------------------------------------------------------


def test_a_version_whose_name_is_taken_by_what_the_folder_held(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "x").write_bytes(b"a file")
    point = the_point(backup_of(source))
    name = displayed_names([point])[point.id]
    (source / "x").unlink()
    (source / "x" / name).mkdir(parents=True)
    (source / "x" / name / "inside").write_bytes(b"inside")
    backup_of(source)
    folder = node_at(RepositoryView(repository).root, "source/.versions/x")
    assert names_in(folder) == [name, f"{name}.file"]
    assert folder.lookup(f"{name}.file".encode()).read(0, 100) == b"a file"
    assert names_in(node_at(folder, name)) == ["inside"]


def copies(repository: Repository, point: Point, count: int, first: int = 0) -> list[Point]:
    """*count* points like *point*, a minute apart, as if so many backups had found nothing new."""
    made = []
    for number in range(first, first + count):
        made.append(
            replace(
                point, id=f"20200101T000000Z_copy_{number:010}", sequence=1000 + number,
                time_ns=point.time_ns + (number + 1) * 60 * SECOND, parent="",
            )
        )  # fmt: skip
        repository.points.commit(made[-1])
    return made


class StatesRead:
    """Counts the directory states and pages that are decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bodies: list[str] = []
        real = archive.decode_state

        def counted(body: bytes, where: str) -> object:
            self.bodies.append(where)
            return real(body, where)

        monkeypatch.setattr(archive, "decode_state", counted)


@pytest.fixture
def thousand(fast_path: Path) -> Repository:
    """A thousand points with three different trees; two folders, one of which never changes."""
    repository, source = create(fast_path / "repository"), fast_path / "source"
    for folder in ("changing", "still"):
        (source / folder).mkdir(parents=True)
        (source / folder / "file").write_bytes(b"0")
    for number in range(3):
        (source / "changing" / "file").write_bytes(b"%d" % number * (number + 1))
        point = the_point(back_up(repository, source))
        copies(repository, point, 333 if number else 331, 1000 * number)
    return repository


def test_versions_over_a_thousand_points_read_each_state_once(
    thousand: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, read = RepositoryView(thousand), StatesRead(monkeypatch)
    folder = node_at(view.root, "source/.versions/changing/file")
    assert len(view.timeline(b"source").points) == 1000
    assert [node.attributes().size for _, node in folder.children()] == [1, 2, 3]
    # three roots and three folders, for: the way there, their names (counted), the versions
    assert len(read.bodies) <= 12
    assert len(set(read.bodies)) == 6
    read.bodies.clear()
    history = History(reopened(thousand), view.contents, view.timeline(b"source").ordered)
    assert [v.points for v in history.versions(b"still/file", directories=False)] == [1000]
    assert len(read.bodies) == 3 + 1


def test_what_was_listed_is_looked_up_without_reading(
    thousand: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = node_at(RepositoryView(thousand).root, "source/.versions/changing")
    assert names_in(folder) == ["file"]
    read = StatesRead(monkeypatch)
    thousand.cache.drop(lambda _: True)
    assert folder.lookup(b"file").attributes().nlink == 2
    with pytest.raises(EntryNotFound):
        folder.lookup(b"absent")
    assert read.bodies == []


def test_what_is_equal_is_not_read_for_changes(
    thousand: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, read = RepositoryView(thousand), StatesRead(monkeypatch)
    names = list(view.timeline(b"source").points)
    changes = node_at(view.root, "source/.changes")
    assert [child.children() for _, child in node_at(changes, names[5]).children()] == [[], [], []]
    assert read.bodies == []  # the same tree as the point before
    pair = changes.lookup(names[0] + b".." + names[-1])
    assert set(shown(pair.lookup(b"updated"))) == {b"changing", b"changing/file"}
    assert len(read.bodies) == 4


def test_a_folder_is_searched_only_until_something_is_found(
    tmp_path: Path, repository: Repository, backup_of: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    for name in "abcdefgh":
        (source / "top" / name).mkdir(parents=True)
    backup_of(source)
    for name in "abcdefgh":
        (source / "top" / name / "new").write_bytes(b"")
    point = the_point(backup_of(source))
    read, view = StatesRead(monkeypatch), RepositoryView(repository)
    (old, new) = view.timeline(b"source").points.values()
    assert new == point
    states = [node_at(view.root, f"source/{name}").entry.state for name in  # type: ignore[attr-defined]
              (displayed_names([old, new])[p.id] for p in (old, new))]  # fmt: skip
    assert view.comparison.holds("created", *states, Patience(60))
    assert len(read.bodies) == 6  # the roots, top, and one of the eight


@pytest.mark.damaged
def test_damage_hides_only_what_it_hit(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    points = []
    for number in range(3):
        (source / "d" / "file").write_bytes(b"x" * (number + 1))
        points.append(the_point(backup_of(source)))
    damaged = Path(os.fsdecode(repository.path)) / "archives" / points[1].state.archive / "index.1"
    data = damaged.read_bytes()
    damaged.write_bytes(data[: len(data) // 2])
    view = RepositoryView(reopened(repository))
    shown_source = view.root.lookup(b"source")
    names = list(view.timeline(b"source").points)
    versions = node_at(shown_source, ".versions/d/file").children()
    assert [name for name, _ in versions] == names
    assert [versions[n][1].read(0, 10) for n in (0, 2)] == [b"x", b"xxx"]
    with pytest.raises(IntegrityError):
        versions[1][1].attributes()
    assert names_in(node_at(shown_source, ".changes")) == [os.fsdecode(n) for n in names]
    with pytest.raises(IntegrityError):
        node_at(shown_source, b".changes/" + names[1] + b"/updated").children()
    across = names[0] + b".." + names[2]
    assert set(shown(node_at(shown_source, b".changes/" + across + b"/updated"))) == {
        b"d", b"d/file"
    }  # fmt: skip
    with pytest.raises(PartlyDamaged, match="no trailer") as told:
        node_at(shown_source, ".deleted").children()
    assert told.value.found == []  # nobody knows what else was there


def test_a_removed_point_is_told_from_damage(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    _, two = two_points(tmp_path, backup_of, repository)
    view = RepositoryView(repository)
    names = list(view.timeline(b"source").points)
    folder = node_at(view.root, b"source/.changes/" + names[1] + b"/updated")
    hidden = Path(os.fsdecode(repository.path)) / "archives" / two.state.archive
    shutil.move(hidden, tmp_path / "hidden")
    remove(repository, two)
    repository.cache.drop(lambda _: True)
    with pytest.raises(PointGone):
        folder.children()


def test_a_file_keeps_its_inode_and_a_filtered_folder_has_its_own(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    two_points(tmp_path, backup_of, repository)
    root = RepositoryView(repository).root
    second = names_in(root.lookup(b"source"))[1]

    def inode(path: str) -> int:
        return node_at(root, f"source/{path}").attributes().ino

    assert inode(f"{second}/kept") == inode(f".versions/kept/{second}")
    assert inode(f"{second}/kept") == inode(f".changes/{second}/updated/kept")
    places = (second, f".changes/{second}/created", f".changes/{second}/deleted", ".deleted",
              ".versions")  # fmt: skip
    folders = {inode(f"{place}/d") for place in places}
    assert len(folders) == 5


def test_nobody_is_let_in_whom_one_of_the_points_kept_out(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    secret = tmp_path / "source" / "secret"
    secret.mkdir(parents=True)
    for mode in (0o755, 0o700, 0o755):
        secret.chmod(mode)
        (secret / "file").write_bytes(b"%o" % mode)
        backup_of(tmp_path / "source")
    (secret / "file").unlink()
    backup_of(tmp_path / "source")
    view = RepositoryView(repository)
    for path in (".versions/secret", ".deleted/secret"):
        mode = node_at(view.root, f"source/{path}").attributes().mode
        assert stat.S_IMODE(mode) == 0o700


def test_a_folder_of_several_owners_lets_in_none_of_them(
    tmp_path: Path, repository: Repository
) -> None:
    folder = tmp_path / "source" / "folder"
    make_tree(folder, {"gone": b"1", "kept": b"2"})
    folder.chmod(0o700)
    for owner in (4242, 4343):
        os.chown(folder, owner, owner)
        assert back_up(repository, tmp_path / "source").point
        (folder / "gone").unlink(missing_ok=True)
    view = RepositoryView(repository)
    for path in (b".deleted", b".versions"):
        found = view.root.lookup(b"source").lookup(path).lookup(b"folder").attributes()
        assert (found.uid, found.gid, stat.S_IMODE(found.mode)) == (os.getuid(), os.getgid(), 0o700)
