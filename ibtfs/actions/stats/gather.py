"""What a repository takes on the disk, and what removing points of it would free.

It needs no lock: if a prune changes the repository meanwhile, so that something cannot be read, all
is gathered again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ibtfs.errors import IbtfsError, IntegrityError
from ibtfs.format.point import Point
from ibtfs.store.naming import by_source
from ibtfs.store.removal.footprint import Footprint, footprint
from ibtfs.store.removal.spans import Spans, Weighed, ranges, removals, weighed
from ibtfs.store.removal.weights import Weights, weigh
from ibtfs.store.repository import Repository

ROUNDS = 3


@dataclass(frozen=True)
class PointCost:
    """What a point costs, in bytes.

    *added*: the archives of its run, and its manifest, as they are today.  *alone*: what removing
    it would free; *with_earlier*: and all earlier ones of its source with it.
    """

    point: Point
    added: int
    alone: int
    with_earlier: int


@dataclass(frozen=True)
class SourceCost:
    """A source: the name that it is shown by, its points in order, and where they begin."""

    name: str
    points: list[PointCost]
    start: int

    @property
    def shown_bytes(self) -> int:
        """Bytes of the files of all points, as a user sees them."""
        return sum(cost.point.statistics.get("bytes", 0) for cost in self.points)

    @property
    def added(self) -> int:
        """Bytes that its runs added."""
        return sum(cost.added for cost in self.points)

    @property
    def freed(self) -> int:
        """Bytes that removing all of its points would free."""
        return self.points[-1].with_earlier


@dataclass(frozen=True)
class FreedRange:
    """What removing the points from *first* to *last*, and those between, would free; bytes."""

    first: Point
    last: Point
    freed: int


@dataclass(frozen=True)
class Statistics:
    """What a repository takes, and what for.  *damages* could not be read, and may need anything.

    *added_by_none* are bytes of archives of runs that have no point (any more).
    """

    footprint: Footprint
    weights: Weights
    sources: list[SourceCost]
    by_time: list[Point]
    added_by_none: int
    damages: list[str]
    damaged_points: dict[str, IbtfsError]
    _orders: tuple[list[Weighed], list[Weighed]]

    @property
    def points(self) -> int:
        """How many points there are."""
        return len(self.by_time)

    @property
    def shown_bytes(self) -> int:
        """Bytes of the files of all points, as a user sees them."""
        return sum(source.shown_bytes for source in self.sources)

    @property
    def saved_by_sharing(self) -> int:
        """Bytes that need not be stored, for another file or point has the same content."""
        return self.shown_bytes - self.weights.content_bytes

    @property
    def saved_by_deltas(self) -> int:
        """Bytes of contents that are not stored, for others have them, or they are holes."""
        return self.weights.content_bytes - self.weights.payload_bytes

    @property
    def saved_by_compression(self) -> int:
        """By how many bytes what is stored of contents is smaller on the disk."""
        return self.weights.payload_bytes - round(self.weights.payload_stored)

    def ranges_of(self, source: SourceCost) -> Iterator[FreedRange]:
        """What removing each range of points of one source would free, all others kept."""
        points = [cost.point for cost in source.points]
        return _ranges(self._orders[0], points, source.start)

    def ranges_by_time(self) -> Iterator[FreedRange]:
        """What removing each range of all points, in the order of their times, would free."""
        return _ranges(self._orders[1], self.by_time, 0)


def _ranges(spans: list[Weighed], points: list[Point], start: int) -> Iterator[FreedRange]:
    for first, row in ranges(spans, start, start + len(points)):
        for place, freed in enumerate(row, first - start):
            yield FreedRange(points[first - start], points[place], round(freed))


def statistics(repository: Repository) -> Statistics:
    """What *repository* takes, and what for.

    Raises StorageFailed, and IntegrityError if the archive that a point begins with is damaged so
    that nothing can be told.
    """
    for left in reversed(range(ROUNDS)):
        before = _seen(repository)
        repository.refresh()
        try:
            found = _gathered(repository)
        except IntegrityError:
            if not left or _seen(repository) == before:
                raise
        else:
            if not found.damages or not left or _seen(repository) == before:
                return found
        repository.forget_read()
    raise AssertionError("the last round returns, or raises")


def _seen(repository: Repository) -> tuple[list[str], dict[str, int]]:
    return repository.points.ids(), repository.index_generations()


def _gathered(repository: Repository) -> Statistics:
    listed = repository.points.all()
    sources = sorted(by_source(listed.points).items())
    points = [point for _, mine in sources for point in mine]
    by_time = sorted(points, key=lambda point: (point.time_ns, point.order))
    spans = _spans(points, by_time)
    weights = weigh(repository, points, spans)
    taken = footprint(repository)
    sums = list(weights.by_span)
    for point, span in zip(points, spans.points):
        sums[span] += taken.points.get(point.id, 0)
    of_sources = weighed(spans, sums, 0)
    by_run: dict[str, int] = {}
    for archive_id, size in taken.archives.items():
        run = archive_id.rpartition(".")[0]
        by_run[run] = by_run.get(run, 0) + size
    costs, start = [], 0
    for name, mine in sources:
        costs.append(_source_cost(name, mine, start, of_sources, by_run, taken))
        start += len(mine)
    damages = [*weights.damages, *(str(error) for error in listed.damaged.values())]
    in_time = weighed(spans, sums, 1) if points != by_time else of_sources
    return Statistics(
        taken, weights, costs, by_time, sum(by_run.values()), damages, dict(listed.damaged),
        (of_sources, in_time),
    )  # fmt: skip


def _spans(points: list[Point], by_time: list[Point]) -> Spans:
    """The points of each source behind each other, and, if that is another order, by time."""
    orders = [list(range(len(points)))]
    if points != by_time:
        places = {point.id: place for place, point in enumerate(by_time)}
        orders.append([places[point.id] for point in points])
    return Spans(orders)


def _source_cost(
    name: str, points: list[Point], start: int, spans: list[Weighed], by_run: dict[str, int],
    taken: Footprint,
) -> SourceCost:  # fmt: skip
    freed = removals(spans, start, start + len(points))
    costs = [
        PointCost(
            point, by_run.pop(point.id, 0) + taken.points.get(point.id, 0),
            round(removal.alone), round(removal.with_earlier),
        )
        for point, removal in zip(points, freed)
    ]  # fmt: skip
    return SourceCost(name, costs, start)
