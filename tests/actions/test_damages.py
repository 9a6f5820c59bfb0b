"""What is damaged, told once, with each point and path that it hits, and found without a detour."""

from __future__ import annotations

from typing import Any

import pytest

from ibtfs.actions.damages import PATHS_KEPT, Damages
from ibtfs.store.trees.directory import StateRef
from tests.support.repositories import Recorder
from tests.support.states import Trees


def named(trees: Trees, bad: StateRef, *roots: StateRef) -> tuple[list[str], list[bytes]]:
    """The points and the paths that the damaged state *bad* hits, as they are named at last."""
    damages = Damages(Recorder())
    damages.add_state(bad.ref, "why", "first", b"")
    points: list[Any] = [trees.point(f"p{n}", root) for n, root in enumerate(roots)]
    damages.name_paths(trees, points)  # type: ignore[arg-type]
    (found,) = damages.all()
    return found.points[1:], found.paths[1:]


def test_the_same_damage_is_told_once() -> None:
    observer = Recorder()
    damages = Damages(observer)
    for point, path in (("p", b"a"), ("p", b"b"), ("q", b"a"), ("q", b"")):
        damages.add("object", "why", point=point, path=path)
    damages.add("object", "another")
    assert observer.problems == [(b"a", "why"), (b"", "another")]
    assert [(d.message, d.points, d.paths) for d in damages.all()] == [
        ("why", ["p", "q"], [b"a", b"b"]),
        ("another", [], []),
    ]


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_damaged_state_is_named_at_every_path_of_every_point(is_readable: bool) -> None:
    trees = Trees()
    bad, whole = trees.tree({b"file": None}), trees.tree({b"in": {b"deep": {}}})
    if not is_readable:
        trees.damaged.add(bad.ref.number)
    above = trees.folder({b"bad": bad, b"whole": whole})
    one = trees.folder({b"a": above, b"b": trees.folder({b"c": above}), b"whole": whole})
    two, three = trees.folder({b"whole": whole}), trees.folder({b"x": bad})
    assert named(trees, bad, one, two, three, bad) == (
        ["p0", "p2", "p3"], [b"a/bad", b"b/c/bad", b"x"],
    )  # fmt: skip


def test_what_leads_to_no_damage_is_read_once_however_many_points_have_it() -> None:
    trees = Trees()
    bad = trees.folder({})
    whole = trees.tree({b"a": {b"b": {}}})
    roots = [trees.folder({b"bad": bad, b"whole": whole, b"%d" % n: bad}) for n in range(20)]
    points, paths = named(trees, bad, *roots)
    assert len(points) == 20
    assert len(paths) == 21
    assert trees.read[whole.ref.number] == 1
    assert all(trees.read[root.ref.number] == 2 for root in roots)


def test_paths_are_bounded_and_points_are_not() -> None:
    trees = Trees()
    bad = trees.folder({})
    root = trees.folder({b"%03d" % n: bad for n in range(PATHS_KEPT + 10)})
    points, paths = named(trees, bad, *[root] * 3)
    assert points == ["p0", "p1", "p2"]
    assert paths == [b"%03d" % n for n in range(PATHS_KEPT - 1)]  # and the one of the beginning
