"""What a path was in each point, and what is gone, by trees that lie nowhere."""

from __future__ import annotations

import stat
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ibtfs.errors import EntryNotFound, FormatDamaged, NotADirectory, ObjectMissing
from ibtfs.store.trees.directory import Entry
from ibtfs.store.trees.history import History, gone_of, holds_gone
from ibtfs.store.trees.past import Ever, Past
from ibtfs.store.trees.patience import Patience
from tests.store.trees.test_compare import Literal, Made

LONG = 60.0


class Line:
    """A line of points, one for each tree; *removed* are points that are there no more."""

    def __init__(self, *trees: Literal, paged: bool = False) -> None:
        self.states = Made()
        self.removed: set[str] = set()
        self.states.points = SimpleNamespace(  # type: ignore[attr-defined]
            has=lambda point_id: point_id not in self.removed
        )
        self.points = [
            SimpleNamespace(
                id=f"p{number}", state=state.ref, digest=state.digest, root_extras={},
                root=(b"", stat.S_IFDIR | 0o755, 0, 0, 0, 0, 1, 1, 1),
            )
            for number, tree in enumerate(trees) for state in [self.states.of(tree, paged=paged)]
        ]  # fmt: skip
        contents = cast(Any, SimpleNamespace(record=None))
        self.history = History(cast(Any, self.states), contents, cast(Any, self.points))

    def number(self, literal: Literal) -> int:
        """The number of the state of a folder."""
        return self.states.of(literal).ref.number

    def damage(self, literal: Literal) -> None:
        self.states.damaged.add(self.number(literal))
        self.states.cache.drop(lambda _: True)


def times(line: Line, path: bytes) -> list[Any]:
    return [one.mtime_ns if isinstance(one, Entry) else one for one in line.history.sightings(path)]


def test_a_path_is_followed_through_all_points() -> None:
    line = Line({b"a": 1}, {}, {b"a": 2, b"f": {b"x": 5}}, {b"f": {b"x": 5, b"y": {b"z": 6}}})
    assert times(line, b"a") == [1, None, 2, None]
    assert times(line, b"f/x") == [None, None, 5, 5]
    assert times(line, b"f/y/z") == [None, None, None, 6]
    assert times(line, b"a/x") == [None] * 4
    assert times(line, b"f/x/y") == [None] * 4
    roots = line.history.sightings(b"")
    assert [isinstance(one, Entry) and one.name for one in roots] == [b""] * 4


def test_a_state_that_many_points_have_is_read_once() -> None:
    line = Line(*[{b"f": {b"x": 5}, b"n": n} for n in range(1, 6)])
    assert times(line, b"f/x") == [5] * 5
    assert line.states.read[line.number({b"x": 5})] == 1


def test_what_is_damaged_is_told_unless_the_point_is_gone() -> None:
    line = Line({b"f": {b"x": 1}}, {b"f": {b"x": 2}}, {b"f": {b"x": 3}})
    line.damage({b"x": 2})
    found = line.history.sightings(b"f/x")
    assert [isinstance(one, FormatDamaged) for one in found] == [False, True, False]
    assert isinstance(line.history.sightings(b"f/x/y")[1], FormatDamaged)
    missing = ObjectMissing("gone")
    one = cast(Any, line.points[1])
    assert line.history._unless_gone(missing, one) is missing
    line.removed.add("p1")
    assert line.history._unless_gone(missing, one) is None
    damaged = FormatDamaged("damaged")
    assert line.history._unless_gone(damaged, one) is damaged
    # a folder that holds itself
    state = line.states.of({b"f": {b"x": 1}})
    page = cast(Any, line.states._states[line.number({b"x": 3})])
    stamps = ((*page.stamps[0][:1], stat.S_IFDIR, *page.stamps[0][2:]),)
    loop = line.number({b"f": {b"x": 3}})
    line.states._states[line.number({b"x": 3})] = page._replace(
        stamps=stamps, refs=((loop, bytes(24)),)
    )
    line.states.cache.drop(lambda _: True)
    assert state.ref.number != loop
    assert isinstance(line.history.sightings(b"f/x/f")[2], FormatDamaged)


def told(line: Line, path: bytes, *, directories: bool = True) -> list[tuple[str, str, int]]:
    return [(v.first.id, v.last.id, v.points)
            for v in line.history.versions(path, directories=directories)]  # fmt: skip


def test_versions_go_on_as_long_as_nothing_differs() -> None:
    line = Line({b"a": 1}, {b"a": 1}, {}, {b"a": 1}, {b"a": 2}, {b"a": 1}, {b"a": {}})
    assert told(line, b"a") == [
        ("p0", "p3", 3), ("p4", "p4", 1), ("p5", "p5", 1), ("p6", "p6", 1)
    ]  # fmt: skip
    assert told(line, b"a", directories=False) == told(line, b"a")[:3]
    versions = line.history.versions(b"a", directories=True)
    assert [v.old and v.old.mtime_ns for v in versions] == [None, 1, 2, 1]
    assert [v.entry and v.entry.mtime_ns for v in versions] == [1, 2, 1, 0]
    assert told(line, b"none") == []


def test_what_is_not_known_for_several_points_is_one_version() -> None:
    line = Line(*[{b"f": {b"a": 1}, b"n": n} for n in range(1, 3)], {b"f": {b"a": 2}},
                {b"f": {b"a": 2}, b"n": 9}, {b"f": {b"a": 1}})  # fmt: skip
    line.damage({b"a": 2})
    versions = line.history.versions(b"f/a", directories=True)
    assert [(v.first.id, v.points, v.entry is None, v.error is None) for v in versions] == [
        ("p0", 2, False, True), ("p2", 2, True, False), ("p4", 1, False, True)
    ]  # fmt: skip
    assert versions[2].old == versions[0].entry
    # nobody knows whether it differs from what cannot be read
    with pytest.MonkeyPatch.context() as patch:

        def unknown(*_: object) -> bool:
            raise FormatDamaged("nobody knows")

        patch.setattr(line.history.comparison, "is_same", unknown)
        versions = line.history.versions(b"n", directories=True)
        assert [(v.points, str(v.error)) for v in versions] == [
            (1, "None"), (1, "nobody knows"), (1, "nobody knows")
        ]  # fmt: skip
        assert all(v.entry is not None for v in versions)


def test_a_past_is_of_folders_and_knows_of_others() -> None:
    line = Line({b"f": {b"a": 1}}, {b"f": 5}, {b"f": {b"a": 1}}, {b"f": {b"b": 1}})
    past = line.history.past(b"f")
    assert [one.point.id for one in past.states.values()] == ["p3", "p2"]
    assert (past.was_other, past.failed, past.was_directory) == (True, False, True)
    line.damage({b"f": {b"a": 1}})
    past = line.history.past(b"f")
    assert (past.was_other, past.failed) == (True, True)
    assert [one.point.id for one in past.states.values()] == ["p3"]
    assert not line.history.past(b"none").was_directory


GONE = [
    {b"a": 1, b"f": {b"x": 1}, b"kept": {b"old": 1}, b"was": {b"in": 1}},
    {b"a": 2, b"b": 1, b"f": 7, b"kept": {b"old": 1, b"new": 1}, b"was": {b"in": 1}},
    {b"c": 1, b"f": {b"x": 1}, b"kept": {b"new": 1}, b"was": 3},
]  # fmt: skip


def test_what_is_gone_is_told_as_it_was_last() -> None:
    line = Line(*GONE)
    gone = line.history.gone(b"")
    assert gone.advance(Patience(LONG))
    assert gone.is_complete
    assert {name: (last.point.id, last.entry.mtime_ns) for name, last in gone.entries.items()} == {
        b"a": ("p1", 2), b"b": ("p1", 1), b"was": ("p1", 0)
    }  # fmt: skip
    assert list(gone.still) == [b"kept"]
    assert [one.point.id for one in gone.still[b"kept"].states.values()] == ["p2", "p1", "p0"]
    assert gone.failures == []
    inside = line.history.gone(b"kept")
    assert inside.advance(Patience(LONG))
    assert list(inside.entries) == [b"old"]
    for path, kind in ((b"none", EntryNotFound), (b"c", NotADirectory), (b"was/in", EntryNotFound)):
        with pytest.raises(kind):
            line.history.gone(path)
    line.damage(cast(Any, GONE[2]))
    with pytest.raises(FormatDamaged):
        line.history.gone(b"kept")


def past_of(line: Line) -> Past:
    return line.history.past(b"")


def test_whether_anything_is_gone_is_found_without_reading_all() -> None:
    def holds(*trees: Literal, seconds: float = LONG) -> bool:
        line = Line(*trees)
        return holds_gone(cast(Any, line.states), past_of(line), Patience(seconds))

    same: Literal = {b"f": {b"g": {b"x": 1}}}
    assert not holds(same)
    assert not holds(same, same)
    assert not holds({b"f": {}}, same)
    assert holds(same, {b"f": {b"g": {}}})
    assert holds(same, {b"f": {}})
    assert holds({b"a": 1}, {})
    assert holds(same, same, seconds=0)
    # what cannot be read counts as gone, but not if its point is
    literals: list[Literal] = [same, {b"f": {}}]
    for literal in literals:
        line = Line({b"f": {}}, same)
        line.damage(literal)
        assert holds_gone(cast(Any, line.states), past_after(line), Patience(LONG))
    line = Line({b"f": {}}, same)
    line.damage({b"f": {}})
    line.removed.add("p0")
    assert not holds_gone(cast(Any, line.states), past_after(line), Patience(LONG))


def past_after(line: Line) -> Past:
    """The past of the root; its rows are known though a state is damaged."""
    past = Past()
    for point in reversed(line.points):
        state = cast(Any, SimpleNamespace(ref=point.state, digest=point.digest))
        row: Any = (*point.root, None, state, b"", 0, {}, None)
        entry = Entry(*row)
        past.add(cast(Any, point), entry)
    return past


def test_patience_that_ends_leaves_the_rest_for_later() -> None:
    names: Literal = {b"%d" % n: 1 for n in range(9)}
    line = Line(names, {}, paged=False)
    line.states.points = SimpleNamespace(has=lambda _: True)  # type: ignore[attr-defined]
    old = line.states.of(names, paged=True)
    line.points[0].state, line.points[0].digest = old.ref, old.digest
    gone = gone_of(cast(Any, line.states), past_after(line))
    counts = []
    while not gone.advance(Patience(0)):
        counts.append(len(gone.entries))
        assert not gone.is_complete
    assert counts == [3, 6, 9]
    assert gone.is_complete
    assert not gone.step()


def test_a_page_that_is_damaged_in_the_newest_hides_what_it_holds() -> None:
    """Nobody knows whether that is gone."""
    names: Literal = {b"%d" % n: 1 for n in range(9)}
    line = Line({**names, b"x": 1}, names)
    new = line.states.of(names, paged=True)
    line.points[1].state, line.points[1].digest = new.ref, new.digest
    listed = cast(Any, line.states._states[new.ref.number])
    line.states.damaged.add(listed[1].ref)
    gone = gone_of(cast(Any, line.states), past_after(line))
    assert gone.advance(Patience(LONG))
    assert list(gone.entries) == [b"x"]
    assert len(gone.failures) == 1
    assert "3 of 9 entries cannot be read, after '2' up to '5'" in str(gone.failures[0])
    line.states.damaged.add(new.ref.number)
    line.states.cache.drop(lambda _: True)
    gone = gone_of(cast(Any, line.states), past_after(line))
    assert gone.advance(Patience(LONG))
    assert (gone.entries, len(gone.failures)) == ({}, 1)


def test_all_names_that_ever_were() -> None:
    line = Line(*GONE)
    states = list(past_of(line).states.values())
    ever = Ever(cast(Any, line.states), states)
    assert ever.advance(Patience(LONG))
    assert sorted(ever.names) == [b"a", b"b", b"c", b"f", b"kept", b"was"]
    pasts = {name: past for name, past in ever.names.items() if past is not None}
    assert sorted(pasts) == [b"f", b"kept", b"was"]
    assert {name: past.was_other for name, past in pasts.items()} == {
        b"f": True, b"kept": False, b"was": True
    }  # fmt: skip
    assert [one.point.id for one in pasts[b"was"].states.values()] == ["p1"]
