"""Names of points and sources: whatever is removed, none changes, and none is given to another."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ibtfs.format.index import Reference
from ibtfs.format.moment import point_name
from ibtfs.format.point import Point, Source
from ibtfs.store import layout
from ibtfs.store.naming import by_source, displayed_names
from ibtfs.store.points import Points
from ibtfs.store.repository import Repository
from tests.support.repositories import create, remove, reopened

SECOND = 10**9
START = 1_795_169_702
POINT = Point(
    id="", sequence=0, epoch=0, time_ns=0, utc_offset=0, source=Source("host", b"/x"),
    display="x", root=(b"", 0o40755, 0, 0, 4096, 1, 1, 1, 2), state=Reference("aaaaaaaa.0", 3),
    digest=bytes(32),
)  # fmt: skip


def made(digits: int, second: int, source: str = "/x", **values: object) -> Point:
    """A point of *source*, as a run makes it that began in *second*."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(START + second))
    named = Source("host", source.encode())
    time_ns = (START + second) * SECOND + digits % SECOND
    point = replace(POINT, id=f"{stamp}_host_{digits:010x}", time_ns=time_ns, source=named)
    chosen = {"sequence": 1, "display": source[1:], **values}
    return replace(point, **chosen)  # type: ignore[arg-type]


@pytest.fixture
def empty(fast_path: Path) -> Repository:
    return create(fast_path / "repository")


def shown(repository: Repository) -> dict[str, str]:
    """The source and name of each point by its id, as another process would see them."""
    points = reopened(repository).points.all().points
    names = displayed_names(points)
    return {point.id: f"{point.display}/{names[point.id]}" for point in points}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_forgotten_the_rest_keeps_its_names(seed: int, empty: Repository) -> None:
    rng = random.Random(seed)
    for number in range(rng.randrange(2, 30)):
        digits = rng.getrandbits(40) if rng.random() < 0.7 else rng.getrandbits(16)
        point = made(digits, rng.randrange(4), rng.choice(("/x", "/y")), sequence=number + 1)
        before = shown(empty)
        reopened(empty).points.commit(point)
        after = shown(empty)
        assert before.items() <= after.items()  # what comes later changes nothing either
        assert len(set(after.values())) == len(after)
    points = reopened(empty).points.all().points
    while points:
        for point in rng.sample(points, rng.randrange(1, len(points) + 1)):
            remove(empty, point)
            points.remove(point)
        assert shown(empty).items() <= after.items()
        assert len(shown(empty)) == len(points)


def test_the_usual_point_has_no_suffix(empty: Repository) -> None:
    for second in (1, 0, 2):  # whatever the clock does
        empty.points.commit(made(second, second))
    empty.points.commit(made(9, 1, "/y"))  # of another source
    assert [point.suffix for point in empty.points.all().points] == [""] * 4


def test_a_suffix_is_no_beginning_of_another_of_that_second(empty: Repository) -> None:
    ids = [0xABCDEF0000, 0xABCDEF0001, 0xABCDEF0010, 0x1234567890]
    for digits in ids:
        empty.points.commit(made(digits, 0))
    suffixes = {point.id[-10:]: point.suffix for point in empty.points.all().points}
    assert suffixes == {"abcdef0000": "", "abcdef0001": "abcdef0001", "abcdef0010": "abcdef001",
                        "1234567890": "123456"}  # fmt: skip


def at_once(repository: Repository, points: list[Point], monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit *points* by runs of their own, of which none looks before all have written."""
    written = threading.Barrier(len(points))
    look = Points._others

    def others(self: Points, point_id: str) -> tuple[list[Point], list[str]]:
        written.wait(timeout=120)
        return look(self, point_id)

    monkeypatch.setattr(Points, "_others", others)
    everybody([lambda p=p: reopened(repository).points.commit(p) for p in points])  # type: ignore[misc]


def everybody(works: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_runs_that_commit_at_once_see_each_other(
    empty: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(empty, [made(digits, 0) for digits in (1 << 36, 2 << 36, 3 << 36)], monkeypatch)
    points = reopened(empty).points.all().points
    # who looks when the others have found each other, and write anew, may see neither
    assert sum(not point.suffix for point in points) <= 1
    names = shown(empty)
    assert len(set(names.values())) == 3
    remove(empty, points[0])
    remove(empty, points[2])
    assert shown(empty) == {points[1].id: names[points[1].id]}
    assert empty.storage.list(layout.POINTS, unfinished=True) == [points[1].id]


def test_of_runs_in_any_order_no_two_have_one_name(empty: Repository) -> None:
    points = [made(n << 20 | n << 36, 0) for n in range(1, 16)]
    everybody([lambda p=p: reopened(empty).points.commit(p) for p in points])  # type: ignore[misc]
    found = reopened(empty).points.all().points
    plain = {point.suffix for point in found}
    assert len(plain) == len(found) == 15


def test_sources_that_come_at_once_choose_different_names(
    empty: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [made(digits, digits, f"/{digits}/docs", display="docs") for digits in (1, 2)]
    at_once(empty, points, monkeypatch)
    names = shown(empty)
    assert len({name.partition("/")[0] for name in names.values()}) == 2
    remove(empty, points[0])
    assert shown(empty) == {points[1].id: names[points[1].id]}


def test_a_later_source_takes_no_name_that_is_taken(empty: Repository) -> None:
    empty.points.commit(made(1, 0, "/a/docs", display="docs"))
    later = empty.points.commit(made(2 << 36, 1, "/b/docs", display="docs"))
    again = empty.points.commit(made(3, 2, "/a/docs", display="docs", sequence=2))
    assert (later.display, again.display) == ("docs-200000", "docs")


@pytest.mark.damaged
def test_a_damaged_manifest_keeps_its_name(empty: Repository) -> None:
    first = empty.points.commit(made(1, 0))
    manifest = Path(empty.path_shown) / layout.point(first.id)
    data = manifest.read_bytes()
    manifest.write_bytes(data[:-1])
    second = reopened(empty).points.commit(made(2 << 36, 0))
    manifest.write_bytes(data)
    assert second.suffix == "200000"


# ---- manifests that were written without suffixes ----------------------------------------------


def stored(repository: Repository, *points: Point) -> None:
    """Put manifests as a run once did that looked at no others."""
    for point in points:
        data = repository.points._encoded(point)
        repository.storage.put_new(layout.point(point.id), data)


def test_a_point_that_follows_one_of_its_second_has_a_suffix(empty: Repository) -> None:
    first = made(1, 0, full=True)
    second = made(2 << 36, 0, sequence=2, parent=first.id)
    third = made(3 << 36, 0, sequence=3, parent=second.id)
    later = made(4, 1, sequence=4, parent=third.id)
    stored(empty, first, second, third, later)
    names = shown(empty)
    plain = f"x/{point_name(first.time_ns, None)}"
    assert list(names.values())[:3] == [plain, f"{plain}-200000", f"{plain}-300000"]
    for gone in (first, later, second):
        remove(empty, gone)
        assert shown(empty).items() <= names.items()


def test_where_two_have_a_name_neither_is_shown_by_it(empty: Repository) -> None:
    points = [made(1 << 36, 0), made(2 << 36, 0)]
    stored(empty, *points)
    plain = f"x/{point_name(points[0].time_ns, None)}"
    assert list(shown(empty).values()) == [f"{plain}-100000", f"{plain}-200000"]


def test_sources_of_one_name_are_told_apart_by_what_they_are(empty: Repository) -> None:
    points = [made(n, n, f"/{n // 4}/docs", display="docs", sequence=n) for n in range(1, 8)]
    stored(empty, *points)
    names = shown(empty)
    sources = set(by_source(reopened(empty).points.all().points))
    assert len(sources) == 2
    assert "docs" not in sources
    for gone in (points[0], points[3], points[6]):
        remove(empty, gone)
        assert shown(empty).items() <= names.items()


def test_what_is_committed_has_the_name_that_is_read(empty: Repository) -> None:
    parent = made(1, 0)
    moved = replace(parent, time_ns=parent.time_ns - 3600 * SECOND)  # its id tells another second
    empty.points.commit(moved)
    point = empty.points.commit(made(2 << 36, 0, sequence=2, parent=parent.id))
    assert point.suffix == "200000"
    assert reopened(empty).points.get(point.id) == point
