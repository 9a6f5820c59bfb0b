"""How many entries a tree has, without going by path; and walks that would never end."""

from __future__ import annotations

from typing import cast

import pytest

from ibtfs.errors import LimitExceeded
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.compare import Comparison
from ibtfs.store.trees.directory import StateRef
from ibtfs.store.trees.paths import root_entry, walk
from ibtfs.store.trees.totals import ENTRIES_LIMIT, UNCOUNTED, Allowance, count_entries
from tests.support import hostile
from tests.support.repositories import damages, reopened
from tests.support.states import Trees


def repository_of(trees: Trees) -> Repository:
    return cast(Repository, trees)


def test_a_tree_is_counted_by_path_and_read_by_state() -> None:
    trees = Trees()
    shared = trees.tree({b"in": {b"deep": None}, b"file": None})
    root = trees.folder({b"a": shared, b"b": trees.folder({b"c": shared}), b"f": None})
    assert count_entries(repository_of(trees), root) == 3 + 1 + 2 * 3
    assert set(trees.read.values()) == {1}


def test_what_cannot_be_read_counts_as_nothing() -> None:
    trees = Trees()
    bad = trees.tree({b"lost": {}})
    trees.damaged.add(bad.ref.number)
    assert count_entries(repository_of(trees), trees.folder({b"a": bad, b"f": None})) == 2


def test_a_tree_is_counted_when_it_seems_large_and_once() -> None:
    trees = Trees()
    root = trees.folder({b"f": None})
    allowance = Allowance(repository_of(trees), root, None)
    allowance.spend(UNCOUNTED)
    assert trees.read == {}
    for _ in range(3):
        allowance.spend(1)
    assert trees.read == {root.ref.number: 1}


def test_equal_folders_at_ten_thousand_paths_are_honest(repository: Repository) -> None:
    """They share one state, so such a tree takes next to nothing."""
    with hostile.archive(repository, 0) as writer:
        inside = hostile.folder(writer, {b"file": None, b"other": None})
        names = [{b"%05d" % n: inside for n in range(k, k + 2500)} for k in range(0, 10_000, 2500)]
        root = hostile.paged_folder(writer, names)
    point = hostile.commit(repository, root)
    found = list(walk(reopened(repository), point, b"", recursive=True))
    assert len(found) == 30_000
    assert found[2] == (b"00000/other", found[2][1])
    assert count_entries(reopened(repository), root) == 30_000


def test_a_thousand_levels_are_honest(repository: Repository) -> None:
    with hostile.archive(repository, 0) as writer:
        root = hostile.doubling(writer, 1000, {b"file": None}, width=1)
    point = hostile.commit(repository, root)
    *_, (path, entry) = walk(reopened(repository), point, b"", recursive=True)
    assert (path.count(b"/"), entry.name) == (1000, b"file")


@pytest.mark.damaged
def test_a_walk_by_path_ends_where_there_are_more_than_can_be(repository: Repository) -> None:
    point = hostile.boundless(repository)
    root = StateRef(point.state, point.digest)
    assert count_entries(reopened(repository), root) == ENTRIES_LIMIT + 1
    opened = reopened(repository)
    changes = Comparison(opened, Contents(opened)).tree_changes(None, root_entry(point))
    with pytest.raises(LimitExceeded, match="more entries than any backup can have"):
        list(walk(reopened(repository), point, b"", recursive=True))
    with pytest.raises(LimitExceeded, match="more entries than any backup can have"):
        list(changes)
    (found,) = damages(repository)
    assert "its tree: would have more entries than any backup can have" in found


def test_a_tree_of_as_many_as_can_be_is_not_damaged(repository: Repository) -> None:
    """2^35 folders above, and as many below them, one less."""
    hostile.boundless(repository, levels=34)
    assert damages(repository) == []
