"""Marks that are known from before: never others than those of marking anew."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.format.index import Reference
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.removal.known_marks import discard_marks, mark_on
from ibtfs.store.removal.marking import NEVER, Marking, mark_points
from tests.support.histories import History
from tests.support.removal import assert_whole, forget
from tests.support.repositories import back_up, create, reopened

Marked = dict[str, tuple[set[int], set[int]]]


def marked(marking: Marking) -> Marked:
    return {
        name: (
            {number for number, mark in enumerate(marks.states) if mark != NEVER},
            {number for number, mark in enumerate(marks.contents) if mark != NEVER},
        )
        for name, marks in marking.archives.items()
        if marks.is_used
    }


class Life:
    """A repository and a cache; *look* marks with and without what is known, and compares."""

    def __init__(self, path: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.source, self.cache = path / "source", path / "cache"
        self.cache.mkdir()
        self.history = History(self.source, self.rng, max_bytes=1 << 18, max_entries=40)
        self.repository = create(path / "repository")

    @property
    def file(self) -> Path:
        return self.cache / f"{self.repository.id.hex()}.marks"

    def back_up(self) -> None:
        self.history.step()
        back_up(self.repository, self.source)

    def look(self) -> None:
        opened = reopened(self.repository)
        roots = [point.state for point in opened.points.all().points]
        known = mark_on(reopened(self.repository), roots, os.fsencode(self.cache))
        assert marked(known) == marked(mark_points(opened, roots))


@pytest.fixture
def life(fast_path: Path) -> Life:
    made = Life(fast_path, 3)
    for _ in range(4):
        made.back_up()
    made.look()
    return made


@pytest.mark.parametrize("seed", range(6))
def test_whatever_becomes_of_the_points(fast_path: Path, seed: int) -> None:
    life = Life(fast_path, seed)
    for _ in range(12):
        step = life.rng.choice(("back up", "back up", "look", "forget", "prune"))
        ids = reopened(life.repository).points.ids()
        if step == "back up":
            life.back_up()
        elif step == "look":
            life.look()
        elif step == "forget" and len(ids) > 1:
            forget(life.repository, [life.rng.choice(ids)])
        elif step == "prune" and ids:
            options = PruneOptions(all_of_it=True, cache=os.fsencode(life.cache))
            assert prune(reopened(life.repository), options, Observer()).failed == []
    life.look()
    assert_whole(life.repository)


def test_only_what_is_new_is_read(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    life.back_up()
    opened = reopened(life.repository)
    points = opened.points.all().points
    read: set[str] = set()
    frame = FrameFileReader.frame
    monkeypatch.setattr(
        FrameFileReader,
        "frame",
        lambda self, stream, row: (
            read.add(self.name) if stream == 18 else None,
            frame(self, stream, row),
        )[1],
    )
    mark_on(opened, [point.state for point in points], os.fsencode(life.cache))
    assert all(points[-1].id in name for name in read)
    assert read


def test_a_byte_that_is_spoilt_anywhere(life: Life) -> None:
    data = life.file.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 40)):
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << life.rng.randrange(8)
        life.file.write_bytes(spoilt)
        life.look()
    for size in (0, 10, 40, len(data) - 1):
        life.file.write_bytes(data[:size])
        life.look()


def test_marks_of_another_repository(life: Life, fast_path: Path) -> None:
    (fast_path / "other").mkdir()
    other = Life(fast_path / "other", 9)
    other.back_up()
    other.look()
    life.file.write_bytes(other.file.read_bytes())
    life.look()


def test_a_file_of_somebody_else_is_not_read(life: Life) -> None:
    # as good as any, but not ours: of a point that leads to nothing
    opened = reopened(life.repository)
    (root, *_) = [point.state for point in opened.points.all().points]
    os.chown(life.file, 12345, 12345)
    before = life.file.stat().st_ino
    mark_on(opened, [root], os.fsencode(life.cache))
    assert life.file.stat().st_ino != before


def test_what_cannot_be_read_is_not_kept(life: Life) -> None:
    life.back_up()
    newest = reopened(life.repository).points.all().points[-1].state.archive
    index = Path(os.fsdecode(life.repository.path)) / "archives" / newest / "index.1"
    table = life.repository.archive(newest).file("index").table(18)
    data = index.read_bytes()
    spoilt = bytearray(data)
    spoilt[table.offsets[0] + 30] ^= 1
    index.write_bytes(spoilt)
    before = life.file.read_bytes()
    life.look()
    assert life.file.read_bytes() == before
    index.write_bytes(data)
    life.look()
    assert life.file.read_bytes() != before


def test_they_are_discarded(life: Life) -> None:
    discard_marks(os.fsencode(life.cache), life.repository.id)
    assert list(life.cache.iterdir()) == []
    discard_marks(os.fsencode(life.cache), life.repository.id)


def test_no_folder_keeps_nothing(life: Life) -> None:
    discard_marks(os.fsencode(life.cache), life.repository.id)
    roots: list[Reference] = []
    assert marked(mark_on(life.repository, roots, b"")) == {}
    assert list(life.cache.iterdir()) == []
