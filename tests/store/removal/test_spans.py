"""What removing points would free: every range, and every point, against counting it anew."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.actions.stats.gather import Statistics, statistics
from ibtfs.format.frames import CONTENTS, DATA_STREAMS, FLAG_RUNS, MAPS, SLABS, STATES
from ibtfs.format.index import Reference
from ibtfs.format.packing import unpack_bodies
from ibtfs.format.point import Point
from ibtfs.store.contents.whole import kept_ranges
from ibtfs.store.removal.marking import NEVER, mark_points
from ibtfs.store.removal.needed import slab_numbers
from ibtfs.store.removal.spans import Spans, ranges, removals, weighed
from ibtfs.store.repository import Repository
from tests.support.histories import History
from tests.support.removal import forget
from tests.support.repositories import back_up, create, remove, reopened, the_point
from tests.support.views import SECOND

RECORDS = (CONTENTS, STATES, MAPS, SLABS)
Needed = dict[tuple[str, int], set[int]]


@given(
    st.integers(1, 8).flatmap(
        lambda points: st.tuples(
            st.permutations(range(points)),
            st.lists(st.tuples(st.sets(st.integers(0, points - 1), min_size=1),
                               st.integers(0, 1000)), max_size=30),
        )
    )
)  # fmt: skip
def test_ranges_of_plain_sets(given_sets: tuple[list[int], list[tuple[set[int], int]]]) -> None:
    """In three orders at once: the record of each set weighs something."""
    order, records = given_sets
    points = len(order)
    orders = (list(range(points)), order, order[::-1])
    spans = Spans(orders)
    weights = [0.0] * 1000
    for needed_by, weight in records:
        span = NEVER
        for point in sorted(needed_by):
            span = spans.joined(span, spans.points[point])
        weights[span] += weight
    for number, places in enumerate(orders):
        found = weighed(spans, weights, number)
        rows = dict(ranges(found, 0, points))
        assert sorted(rows) == list(range(points))
        for first, row in rows.items():
            for last, freed in enumerate(row, first):
                gone = {point for point in range(points) if first <= places[point] <= last}
                assert freed == sum(w for needed_by, w in records if needed_by <= gone)
        for place, removal in enumerate(removals(found, 0, points)):
            assert removal == (rows[place][0], rows[0][place])


# ---- counted anew --------------------------------------------------------------------------------


def needed_by(repository: Repository, points: Sequence[Point]) -> tuple[Needed, Needed, Needed]:
    """States, contents, and payloads by archive that *points* need; of records as they are."""
    marking = mark_points(repository, [point.state for point in points])
    states: Needed = {}
    contents: Needed = {}
    payloads: Needed = {}
    waiting: list[Reference] = []
    for name, marks in marking.archives.items():
        states[name, STATES] = {n for n, mark in enumerate(marks.states) if mark != NEVER}
        waiting += [Reference(name, n) for n, mark in enumerate(marks.contents) if mark != NEVER]
    while waiting:
        ref = waiting.pop()
        mine = contents.setdefault((ref.archive, CONTENTS), set())
        if ref.number in mine:
            continue
        mine.add(ref.number)
        record = repository.archive(ref.archive).content(ref.number)
        for donor in (ref, *record.donors):
            payloads.setdefault((donor.archive, CONTENTS), set()).add(donor.number)
        waiting += [record.base] if record.base else []
    return states, contents, payloads


def weight_of(repository: Repository, points: Sequence[Point]) -> float:
    """Bytes on the disk of all that *points* need."""
    states, contents, payloads = needed_by(repository, points)
    total = float(sum(repository.points.manifest_size(point) for point in points))
    for name in repository.archive_ids():
        archive = repository.archive(name)
        records = dict(archive.contents())
        mine, held = contents.get((name, CONTENTS), set()), payloads.get((name, CONTENTS), set())
        maps, slabs, ranges_held = set(), set(), []
        for number in mine | held:
            record = records[number]
            if number in mine or record.is_shell:
                maps |= set(range(record.map_first, record.map_first + record.map_parts))
                slabs |= set(slab_numbers(record))
            for start, end in kept_ranges(repository, Reference(name, number), record):
                ranges_held.append((record.stream, record.start + start, record.start + end))
        kept = {CONTENTS: held, STATES: states.get((name, STATES), set()), MAPS: maps, SLABS: slabs}
        if not any(kept.values()):
            continue
        for kind in archive.kinds:
            file = archive.file(kind)
            total += file.size
            for stream in (*RECORDS, *DATA_STREAMS):
                table = file.table(stream)
                for row, (start, count, size) in enumerate(
                    zip(table.starts, table.counts, table.sizes)
                ):
                    frame = file.frame(stream, row)
                    if stream in RECORDS:
                        bodies = unpack_bodies(frame.raw, count, "")
                        all_of_it = [len(body) + 3 if body is not None else 0 for body in bodies]
                        left = sum(
                            one for n, one in enumerate(all_of_it, start) if n in kept[stream]
                        )
                        share = left / sum(all_of_it)
                    else:
                        left = sum(
                            max(min(end, start + count) - max(first, start), 0)
                            for one, first, end in ranges_held
                            if one == stream
                        )
                        share = left / (len(frame.raw) if frame.flags & FLAG_RUNS else count)
                    total -= size * (1 - share)
    return total


def dated(repository: Repository, point: Point, seconds: int) -> Point:
    remove(repository, point)
    later = replace(point, time_ns=seconds * SECOND)
    repository.points.commit(later)
    return later


def some_points(path: Path, seed: int, points: int, sources: int) -> Repository:
    """A repository of several sources that share files, backed up in turn, at odd times."""
    rng = random.Random(seed)
    repository = create(path / "repository")
    histories = [
        History(path / f"source{number}", rng, max_bytes=1 << 20, max_entries=25)
        for number in range(sources)
    ]
    times = rng.sample(range(10**9, 10**9 + 100), points)
    for seconds in times:
        history = rng.choice(histories)
        history.step()
        other = rng.choice(histories)
        for file in rng.sample(other.files(), min(2, len(other.files()))):
            if os.lstat(file).st_size <= history.room():
                target = history.free_name()
                with open(file, "rb") as old, open(target, "wb") as new:
                    new.write(old.read())
        result = back_up(repository, history.root, full=rng.randrange(6) == 0)
        dated(repository, the_point(result), seconds)
    return reopened(repository)


def assert_all_ranges(found: Statistics, repository: Repository) -> None:
    points = found.by_time
    everything = weight_of(repository, points)

    def freed(gone: Sequence[Point]) -> float:
        return everything - weight_of(repository, [p for p in points if p not in gone])

    assert found.damages == []
    for source in found.sources:
        mine = [cost.point for cost in source.points]
        told = list(found.ranges_of(source))
        assert len(told) == len(mine) * (len(mine) + 1) // 2
        for one in told:
            between = mine[mine.index(one.first) : mine.index(one.last) + 1]
            assert one.freed == pytest.approx(freed(between), abs=1)
        by_pair = {(one.first.id, one.last.id): one.freed for one in told}
        for cost in source.points:
            assert cost.alone == by_pair[cost.point.id, cost.point.id]
            assert cost.with_earlier == by_pair[mine[0].id, cost.point.id]
    for one in found.ranges_by_time():
        between = points[points.index(one.first) : points.index(one.last) + 1]
        assert one.freed == pytest.approx(freed(between), abs=1)
    size = sum(file.stat().st_size for file in archive_files(repository))
    manifests = sum(repository.points.manifest_size(point) for point in points)
    assert found.weights.unneeded == pytest.approx(size + manifests - everything, abs=1)


def archive_files(repository: Repository) -> list[Path]:
    folder = Path(os.fsdecode(repository.path)) / "archives"
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("seed", "points", "sources"),
                         [(1, 6, 1), (2, 7, 2), (3, 7, 3), (4, 8, 2)])  # fmt: skip
def test_all_ranges_of_a_random_repository(
    fast_path: Path, seed: int, points: int, sources: int
) -> None:
    repository = some_points(fast_path, seed, points, sources)
    assert_all_ranges(statistics(reopened(repository)), repository)


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_all_ranges_of_what_was_pruned(fast_path: Path, seed: int) -> None:
    repository = some_points(fast_path, seed, 9, 2)
    points = statistics(repository).by_time
    forget(repository, random.Random(seed).sample(points, 4))
    prune(reopened(repository), PruneOptions(all_of_it=seed % 2 == 0), Observer())
    assert_all_ranges(statistics(reopened(repository)), reopened(repository))


def test_versions_whose_chain_was_too_long(fast_path: Path) -> None:
    """A flattened one takes bytes of payloads of contents that have maps of their own."""
    rng = random.Random(1)
    source = fast_path / "source"
    source.mkdir()
    data = bytearray(rng.randbytes(300_000))
    repository = create(fast_path / "repository")
    for _ in range(36):
        at = rng.randrange(len(data) - 3000)
        data[at : at + 3000] = rng.randbytes(3000)
        (source / "file").write_bytes(data)
        back_up(repository, source)
    found = statistics(reopened(repository))
    points = found.by_time
    opened = reopened(repository)
    records = [record for name in opened.archive_ids() for _, record in
               opened.archive(name).contents()]  # fmt: skip
    donors = [opened.archive(ref.archive).content(ref.number)
              for record in records for ref in record.donors]  # fmt: skip
    assert any(donor.map_parts for donor in donors)
    everything = weight_of(opened, points)
    for number, cost in enumerate(found.sources[0].points):
        kept = points[:number] + points[number + 1 :]
        assert cost.alone == pytest.approx(everything - weight_of(opened, kept), abs=1)
        kept = points[number + 1 :]
        assert cost.with_earlier == pytest.approx(everything - weight_of(opened, kept), abs=1)
