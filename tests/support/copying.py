"""Copies of points, as a command would make them, and what they have to be."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ibtfs.actions.copy.run import CopyOptions, CopyResult, copy
from ibtfs.actions.copy.survey import Choice
from ibtfs.actions.observer import Observer
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.contents.holes import holes
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry, StateRef, entry_xattrs
from ibtfs.store.trees.reach import reach
from tests.support.repositories import Recorder, reopened


def copied(
    source: Repository, target: Repository, words: Sequence[str] = (),
    observer: Observer | None = None, **options: Any,
) -> CopyResult:  # fmt: skip
    """Copy points, with repositories opened anew; *words* name them, else all are meant."""
    choice = options.pop("choice", Choice(tuple(words)))
    chosen = CopyOptions(choice, **options)
    return copy(reopened(source), reopened(target), chosen, observer or Recorder())


def copied_well(source: Repository, target: Repository, *words: str, **options: Any) -> CopyResult:
    result = copied(source, target, words, **options)
    if result.error is not None:
        raise result.error
    assert result.failed == {}
    assert result.is_all_well
    return result


Row = tuple[Any, ...]


def rows(repository: Repository, point: Point) -> dict[bytes, Row]:
    """All that a repository tells of the entries of *point*, but for where it lies."""
    contents = Contents(repository)
    found: dict[bytes, Row] = {}
    for visit in reach(repository, StateRef(point.state, point.digest)):
        for path, entry in visit.entries():
            found[path] = (*entry.stamp, *_led(contents, entry), entry.target, entry.rdev)
    return found


def _led(contents: Contents, entry: Entry) -> Row:
    extras = {key: value for key, value in entry.extras.items() if key not in ("x", "X")}
    xattrs = dict(entry_xattrs(entry, contents))
    if entry.content is None:
        return (None, extras, xattrs)
    record = contents.record(entry.content)
    return (record.digest, record.size, extras, xattrs)


def holes_of(repository: Repository, point: Point) -> dict[bytes, list[tuple[int, int]]]:
    contents = Contents(repository)
    return {
        path: list(holes(contents, entry.content))
        for visit in reach(repository, StateRef(point.state, point.digest))
        for path, entry in visit.entries()
        if entry.content is not None
    }


def assert_same_point(source: Repository, target: Repository, point_id: str) -> None:
    """That both have the same point: its manifest, but for where it lies, its rows, its tags."""
    one, other = reopened(source), reopened(target)
    there, here = one.points.get(point_id), other.points.get(point_id)
    assert _portable(here) == _portable(there)
    assert here.origin_in(other.id) == there.origin_in(one.id)
    assert rows(other, here) == rows(one, there)
    assert other.points.tags(point_id) == one.points.tags(point_id)


def _portable(point: Point) -> Point:
    return replace(point, state=Reference("", 0), sequence=1, display="x", suffix="", replaces=(),
                   origin=None)  # fmt: skip


def order_of(repository: Repository, ids: set[str]) -> list[str]:
    """The points *ids* of a repository, in their order."""
    points = sorted(reopened(repository).points.all().points, key=lambda point: point.order)
    return [point.id for point in points if point.id in ids]


def shuffled(rng: random.Random, ids: Sequence[str]) -> list[str]:
    found = list(ids)
    rng.shuffle(found)
    return found
