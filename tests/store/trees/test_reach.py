"""The one walk over stored trees: its order, what it passes over, what it reads, and damage."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.entry import HASH_SIZE
from ibtfs.format.index import Reference
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.paths import walk
from ibtfs.store.trees.reach import Visit, needed_archives, reach
from ibtfs.store.trees.trail import DEPTH_LIMIT, PATH_LIMIT
from tests.support import hostile
from tests.support.repositories import Backup, reopened, the_point
from tests.support.states import ID, Trees


def visits(trees: Trees, root: StateRef, path: bytes = b"", **options: Any) -> Iterator[Visit]:
    return reach(trees, root, path, **options)  # type: ignore[arg-type]


def paths(trees: Trees, root: StateRef, path: bytes = b"", **options: Any) -> list[bytes]:
    """The paths in the order of the walk; no visit is asked for anything."""
    return [visit.path for visit in visits(trees, root, path, **options)]


TREE = {
    b"b": {b"y": {b"deep": {}}, b"x": {}, b"file": None},
    b"a": {b"z": {}},
    b"c": {},
    b"f": None,
}
BEFORE = [b"", b"a", b"a/z", b"b", b"b/x", b"b/y", b"b/y/deep", b"c"]
AFTER = [b"a/z", b"a", b"b/x", b"b/y/deep", b"b/y", b"b", b"c", b""]


# Order


@pytest.mark.parametrize(("after", "expected"), [(False, BEFORE), (True, AFTER)])
def test_the_walk_goes_depth_first_in_order_of_name(after: bool, expected: list[bytes]) -> None:
    trees = Trees()
    root = trees.tree(TREE)
    assert paths(trees, root, after=after) == expected
    assert paths(trees, root, after=after, seen=set()) == expected


def test_names_are_in_order_within_their_folder_not_paths() -> None:
    trees = Trees()
    root = trees.tree({b"a": {b"x": {}}, b"a.b": {}, b"a b": {}})
    assert paths(trees, root) == [b"", b"a", b"a/x", b"a b", b"a.b"]


def test_the_root_lies_where_the_caller_says() -> None:
    trees = Trees()
    found = list(visits(trees, trees.tree(TREE), b"at/here"))
    assert [v.path for v in found][:3] == [b"at/here", b"at/here/a", b"at/here/a/z"]
    assert [v.depth for v in found] == [0, 1, 2, 1, 2, 2, 3, 1]


@pytest.mark.parametrize("paged", [False, True])
def test_a_visit_gives_its_rows_with_their_paths(paged: bool) -> None:
    trees = Trees()
    empty = trees.folder({})
    rows = {b"%02d" % n: empty if n % 4 == 0 else None for n in range(10)}
    (visit, *_) = visits(trees, trees.folder(rows, paged=paged), b"top")
    assert [path for path, _ in visit.entries()] == [b"top/%02d" % n for n in range(10)]
    assert [entry.name for _, entry in visit.entries()] == [b"%02d" % n for n in range(10)]
    assert [entry.name for entry in visit.folders()] == [b"00", b"04", b"08"]
    assert [len(page.page.stamps) for page in visit.pages()] == ([3, 3, 3, 1] if paged else [10])


# Each state once, or each path


def test_a_state_that_has_several_paths_comes_at_each_of_them() -> None:
    trees = Trees()
    shared = trees.tree({b"in": {}})
    root = trees.folder({b"a": shared, b"b": trees.folder({b"c": shared})})
    assert paths(trees, root) == [b"", b"a", b"a/in", b"b", b"b/c", b"b/c/in"]


@pytest.mark.parametrize(
    ("after", "expected"),
    [(False, [b"", b"a", b"a/in", b"b"]), (True, [b"a/in", b"a", b"b", b""])],
)
def test_with_seen_it_comes_at_the_first(after: bool, expected: list[bytes]) -> None:
    trees = Trees()
    shared = trees.tree({b"in": {}})
    root = trees.folder({b"a": shared, b"b": trees.folder({b"c": shared})})
    seen: set[Reference] = set()
    assert paths(trees, root, after=after, seen=seen) == expected
    assert len(seen) == 4


def test_seen_is_kept_from_one_root_to_the_next() -> None:
    trees = Trees()
    shared = trees.tree({b"in": {}})
    one, two = trees.folder({b"a": shared}), trees.folder({b"b": shared, b"new": trees.folder({})})
    seen: set[Reference] = set()
    assert paths(trees, one, seen=seen) == [b"", b"a", b"a/in"]
    assert paths(trees, two, seen=seen) == [b"", b"new"]
    assert paths(trees, two, seen=seen) == []
    assert set(trees.read.values()) == {1}


def test_after_comes_when_all_that_it_leads_to_was_there_also_what_others_share() -> None:
    """So a dict of what was made of each state is complete for whoever comes next."""
    trees = Trees()
    shared = trees.tree({b"in": {}})
    root = trees.folder({b"a": trees.folder({b"c": shared}), b"b": shared, b"c": shared})
    done: set[Reference] = set()
    for visit in visits(trees, root, seen=set(), after=True):
        assert {entry.state.ref for entry in visit.folders() if entry.state} <= done
        done.add(visit.state.ref)
    assert root.ref in done


@pytest.mark.parametrize("after", [False, True])
def test_only_what_the_caller_lets_pass_is_gone_into(after: bool) -> None:
    trees = Trees()
    root = trees.tree(TREE)
    found = paths(trees, root, after=after, enter=lambda entry: entry.name != b"b")
    assert sorted(found) == [b"", b"a", b"a/z", b"c"]
    assert paths(trees, root, enter=lambda _: False) == [b""]


# What it costs


@pytest.mark.parametrize("after", [False, True])
def test_each_state_is_read_once(after: bool) -> None:
    trees = Trees()
    for visit in visits(trees, trees.tree(TREE), after=after):
        list(visit.pages())
        visit.entries()
        visit.folders()
    assert trees.read == dict.fromkeys(range(8), 1)


def test_pages_are_read_when_their_turn_comes_and_not_again_for_the_walk() -> None:
    trees = Trees(cache_bytes=0)
    empty = trees.folder({})
    root = trees.folder({b"%02d" % n: empty for n in range(9)}, paged=True)
    first, second, third = range(1, 4)
    walking = visits(trees, root, seen=set())
    pages = next(walking).pages()
    assert trees.read == {}
    next(pages)
    assert trees.read == {root.ref.number: 1, first: 1}
    assert len(list(pages)) == 2
    assert next(walking).path == b"00"
    assert trees.read == {root.ref.number: 1, first: 1, second: 1, third: 1}


@pytest.mark.parametrize("after", [False, True])
def test_a_tree_may_be_as_deep_as_it_wants(after: bool) -> None:
    trees = Trees()
    root = trees.folder({})
    for _ in range(5000):
        root = trees.folder({b"d": root})
    found = [v.depth for v in visits(trees, root, after=after)]
    assert found == sorted(range(5001), reverse=after)


# Damage


def test_the_walk_goes_on_beside_what_cannot_be_read() -> None:
    trees = Trees()
    bad = trees.tree({b"lost": {}})
    trees.damaged.add(bad.ref.number)
    root = trees.folder({b"a": trees.tree({b"in": {}}), b"b": bad, b"c": trees.tree({b"in": {}})})
    found, damaged = [], []
    for visit in visits(trees, root):
        found.append(visit.path)
        try:
            visit.entries()
        except FormatDamaged:
            damaged.append(visit.path)
    assert found == [b"", b"a", b"a/in", b"b", b"c", b"c/in"]
    assert damaged == [b"b"]


def test_damage_that_the_caller_does_not_ask_for_ends_the_walk() -> None:
    trees = Trees()
    bad = trees.folder({})
    trees.damaged.add(bad.ref.number)
    walking = visits(trees, trees.folder({b"a": bad, b"b": trees.folder({})}))
    assert [next(walking).path, next(walking).path] == [b"", b"a"]
    with pytest.raises(FormatDamaged, match="state 0"):
        next(walking)


def test_after_what_cannot_be_read_says_so_when_it_comes() -> None:
    trees = Trees()
    bad = trees.tree({b"lost": {}})
    trees.damaged.add(bad.ref.number)
    root = trees.folder({b"a": bad, b"b": trees.folder({})})
    found: list[tuple[bytes, bool]] = []
    for visit in visits(trees, root, after=True):
        found.append((visit.path, can_be_read(visit)))
        trees.damaged.clear()  # what was damaged when the walk was there stays so
    assert found == [(b"a", False), (b"b", True), (b"", True)]


def can_be_read(visit: Visit) -> bool:
    try:
        return bool(list(visit.pages()))
    except IntegrityError:
        return False


@pytest.mark.parametrize("after", [False, True])
def test_a_damaged_page_hides_nothing_of_the_others(after: bool) -> None:
    trees = Trees()
    empty = trees.folder({})
    bad = trees.folder({b"%02d" % n: empty for n in range(9)}, paged=True)
    root = trees.folder({b"bad": bad, b"c": empty})
    trees.damaged.add(2)
    readable = [b"bad/" + name for name in (b"00", b"01", b"02", b"06", b"07", b"08")]
    found = []
    for visit in visits(trees, root, after=after):
        found.append(visit.path)
        rows = [path for path, _ in visit.readable()]
        if visit.path != b"bad":
            assert visit.failures == []
            continue
        assert rows == readable
        (error,) = visit.failures
        assert "state 2: 3 of 9 entries cannot be read, after '02' up to '05'" in str(error)
        with pytest.raises(FormatDamaged, match="state 2"):
            visit.entries()
        with pytest.raises(FormatDamaged, match="state 2"):
            visit.folders()
    assert sorted(found) == [b"", b"bad", *readable, b"c"]


# What no backup wrote


@pytest.mark.damaged
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("seen", [False, True])
def test_a_directory_that_holds_itself_is_damaged_where_it_comes_again(
    repository: Repository, after: bool, seen: bool
) -> None:
    point = hostile.entangled(repository)
    told = {}
    root = StateRef(point.state, point.digest)
    for visit in reach(reopened(repository), root, seen=set() if seen else None, after=after):
        told[visit.path] = can_be_read(visit)
    assert told == {b"": True, b"a": True, b"a/b": False}


@pytest.mark.parametrize(("name", "levels"), [(b"d", DEPTH_LIMIT), (b"d" * 255, PATH_LIMIT // 256)])
def test_a_walk_goes_so_deep_and_no_deeper(name: bytes, levels: int) -> None:
    trees = Trees()
    root = trees.folder({})
    for _ in range(levels + 5):
        root = trees.folder({name: root})
    found = [(visit.depth, can_be_read(visit)) for visit in visits(trees, root)]
    assert found == [*((depth, True) for depth in range(levels + 1)), (levels + 1, False)]


def test_a_caller_that_stops_reading_misses_nothing_below() -> None:
    trees = Trees()
    root = trees.folder({b"%02d" % n: trees.folder({}) for n in range(9)}, paged=True)
    found = []
    for visit in visits(trees, root):
        found.append(visit.path)
        next(visit.pages())
    assert found == [b"", *(b"%02d" % n for n in range(9))]


def test_a_directory_that_holds_itself_ends_no_walk_in_a_circle() -> None:
    trees = Trees()
    trees.folder({b"again": StateRef(Reference(ID, 0), bytes(HASH_SIZE))})
    with pytest.raises(FormatDamaged, match="holds itself"):
        list(visits(trees, StateRef(Reference(ID, 0), b"")))


# Entries by path, as ls -R shows them


def listed(tree: Mapping[bytes, Any], folder: bytes = b"") -> list[bytes]:
    """The paths of a literal as they should come."""
    found = []
    for name, inside in sorted(tree.items()):
        found.append(folder + name)
        found += listed(inside, folder + name + b"/") if inside is not None else []
    return found


def some_tree(rng: random.Random, depth: int) -> dict[bytes, Any]:
    names = rng.sample([b"a", b"a.", b"a b", b"b", b"B", b"a\xff", b"-", b"c"], rng.randrange(8))
    return {n: some_tree(rng, depth - 1) if depth and rng.random() < 0.6 else None for n in names}


@pytest.mark.parametrize("seed", range(8))
def test_entries_come_in_order_of_name_and_folders_before_what_they_hold(seed: int) -> None:
    tree = some_tree(random.Random(seed), 4)
    trees = Trees()
    root = trees.tree(tree)
    found = list(entries(trees, root, recursive=True))
    assert [path for path, _ in found] == listed(tree)
    assert all(os.path.basename(path) == entry.name for path, entry in found)
    assert [path for path, _ in entries(trees, root, recursive=False)] == sorted(tree)


def entries(trees: Trees, root: StateRef, *, recursive: bool) -> Iterator[tuple[bytes, Entry]]:
    return walk(trees, trees.point("id", root), b"", recursive=recursive)  # type: ignore[arg-type]


def test_entries_come_up_to_the_folder_that_is_damaged() -> None:
    trees = Trees()
    bad = trees.tree({b"x": None})
    trees.damaged.add(bad.ref.number)
    root = trees.folder({b"a": None, b"b": trees.tree({b"c": None}), b"d": bad, b"e": None})
    found: list[bytes] = []
    with pytest.raises(FormatDamaged):
        found.extend(path for path, _ in entries(trees, root, recursive=True))
    assert found == [b"a", b"b", b"b/c", b"d"]


# Archives


def test_needed_archives_are_those_that_manifests_and_indexes_name(
    repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").write_bytes(b"1" * 5000)
    assert needed_archives(repository) == set()
    first = the_point(backup_of(source))
    (source / "two").write_bytes(b"2" * 5000)
    second = the_point(backup_of(source))
    assert needed_archives(reopened(repository)) == {first.state.archive, second.state.archive}


@pytest.mark.damaged
@pytest.mark.parametrize("pattern", ["points/*", "archives/*/index.1"])
def test_nobody_knows_which_archives_are_needed_if_one_cannot_be_read(
    repository: Repository, backup_of: Backup, tmp_path: Path, pattern: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").write_bytes(b"1" * 5000)
    backup_of(source)
    (found,) = Path(os.fsdecode(repository.path)).glob(pattern)
    found.write_bytes(bytes(found.stat().st_size))
    assert needed_archives(reopened(repository)) is None
