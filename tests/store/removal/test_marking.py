"""Marking: the same as a plain walk over all points; what cannot be read keeps all behind it."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.actions.stats.gather import statistics
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.removal.marking import NEVER, Marking, mark_points
from ibtfs.store.removal.spans import Spans
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef
from ibtfs.store.trees.reach import reach
from tests.support.histories import History
from tests.support.removal import forget
from tests.support.repositories import back_up, create, reopened, the_point


def marked(marking: Marking, kind: str) -> set[Reference]:
    return {
        Reference(name, number)
        for name, marks in marking.archives.items()
        for number, mark in enumerate(getattr(marks, kind))
        if mark != NEVER
    }


def walked(repository: Repository, points: Sequence[Point]) -> set[Reference]:
    """The contents that all rows refer to, those of extended attributes, too."""
    found: set[Reference] = set()
    for point in points:
        for visit in reach(repository, StateRef(point.state, point.digest[:24])):
            for _, entry in visit.entries():
                found |= {ref for ref in (entry.content, entry.xattrs_content) if ref is not None}
    return found


@pytest.fixture
def history(fast_path: Path) -> Repository:
    rng = random.Random(1)
    repository = create(fast_path / "repository")
    source = fast_path / "source"
    (source / "wide").mkdir(parents=True)
    for number in range(3000):  # several pages
        (source / "wide" / f"{number}").write_bytes(b"%d" % number)
    tree = History(source / "tree", rng, max_bytes=1 << 20)
    for _ in range(6):
        tree.step()
        (source / "wide" / f"{rng.randrange(3000)}").write_bytes(b"%d" % rng.randrange(10**9))
        back_up(repository, source)
    return reopened(repository)


def test_it_marks_what_a_walk_comes_to(history: Repository) -> None:
    points = history.points.all().points
    for some in (points, points[:1], points[2:4], []):
        marking = mark_points(history, [point.state for point in some])
        assert marked(marking, "contents") == walked(history, some)
        assert marking.damages == []


def test_marks_that_are_joined_do_not_hang_on_the_order(history: Repository) -> None:
    points = history.points.all().points
    found = []
    for order in (1, -1):
        spans = Spans([range(len(points))])
        marking = Marking(history, spans.joined)
        marking.mark(list(zip((point.state for point in points), spans.points))[::order])
        marks = {
            (name, kind, number): spans.all[mark]
            for name, one in marking.archives.items()
            for kind, column in (("state", one.states), ("content", one.contents))
            for number, mark in enumerate(column)
            if mark != NEVER
        }
        found.append(marks)
    assert found[0] == found[1]


def spoil(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("part", [0, 1])
def test_what_cannot_be_read_keeps_all_behind_it(history: Repository, part: int) -> None:
    """Also for the statistics: nothing that hangs on it counts as freed, or as unneeded."""
    points = history.points.all().points
    newest = points[-1].state.archive
    file = history.archive(newest).file("index")
    table = file.table(18)
    path = Path(os.fsdecode(history.path)) / "archives" / newest / "index.1"
    spoil(path, table.offsets[part - 1] + 30)
    opened = reopened(history)
    marking = mark_points(opened, [points[-1].state])
    assert len(marking.damages) == 1
    assert newest in marking.damages[0]
    for name in opened.archive(newest).header.archives:
        marks = marking.archives[name]
        assert marks.is_kept
        assert NEVER not in marks.states
        assert NEVER not in marks.contents
    found = statistics(reopened(history))
    assert found.damages
    assert found.weights.unneeded == 0
    # all may be needed by the newest; but for the manifest, an older one frees nothing
    behind = [cost for cost in found.sources[0].points[:-1]
              if cost.point.state.archive in marking.archives]  # fmt: skip
    assert len(behind) > 2
    for cost in behind:
        assert cost.alone == pytest.approx(history.points.manifest_size(cost.point), abs=1)


def test_a_point_that_never_was_written_whole_keeps_its_archive(history: Repository) -> None:
    points = history.points.all().points
    beyond = Reference(points[0].state.archive, 10**6)
    marking = mark_points(history, [beyond])
    assert marking.archives[beyond.archive].is_kept
    assert "1000000" in marking.damages[0]


def test_a_state_that_was_pruned_is_damage_to_who_refers_to_it(tmp_path: Path) -> None:
    repository, source = create(tmp_path / "repository"), tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a" / "stays").write_bytes(b"1" * 5000)
    first = the_point(back_up(repository, source))
    (source / "new").write_bytes(b"2")
    back_up(repository, source)
    forget(repository, [first])
    prune(reopened(repository), PruneOptions(all_of_it=True), Observer())
    marking = mark_points(reopened(repository), [first.state])
    assert len(marking.damages) == 1
    assert f"record {first.state.number} of the states is gone" in marking.damages[0]
    assert marking.archives[first.state.archive].is_kept
