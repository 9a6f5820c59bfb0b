"""``ibtfs stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ibtfs.cli.command import Command, json_option, option, repository_argument
from ibtfs.cli.exit_codes import DONE, INCOMPLETE
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import complain, counted, cut, emit_json, printable, say, screen_width, shown
from ibtfs.cli.points import chosen_point, tell_damaged
from ibtfs.cli.stats_shown import (
    json_largest,
    json_statistics,
    json_triangle,
    largest_lines,
    points_lines,
    range_lines,
    summary_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ibtfs.actions.stats.gather import SourceCost, Statistics
    from ibtfs.actions.stats.largest import SourcePath
    from ibtfs.format.point import Point
    from ibtfs.store.repository import Repository

EXAMPLES = """
    ibtfs stats /media/disk/backups
    ibtfs stats --largest /media/disk/backups
    ibtfs stats --largest 50 --source photos /media/disk/backups
    ibtfs stats --point documents/latest --json /media/disk/backups
"""
LARGEST = 20
PROBLEMS_SHOWN = 5
HELP = """What a repository takes, and what removing points would free.

ADDED is what the backup added to the repository. ALONE is what removing the point alone would free,
TO HERE what removing it and all earlier points of its source would. All this is told by the records
that only these points need; ibtfs prune also builds anew what is left, and may free more. What two
sources share is freed by neither alone. POINT and SOURCE are named as for other commands."""


class _Command(Command):
    """A command with an option whose number may be left out, also before REPO."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give ``--largest`` its number where there is none."""
        given = []
        for place, word in enumerate(args):
            follower = args[place + 1 : place + 2]
            alone = word == "--largest" and not (follower and follower[0].isdecimal())
            given.append(f"{word}={LARGEST}" if alone else word)
        return super().parse_args(ctx, given)


class _Chosen(NamedTuple):
    """What is to be shown of a repository: parts of its sources, and what was asked besides."""

    sources: Sequence[SourceCost]
    is_all: bool
    largest: Sequence[SourcePath] | None
    ranges: bool


@click.command("stats", cls=_Command, examples=EXAMPLES, help=HELP)
@repository_argument
@option("--largest", metavar="[N]", type=click.IntRange(min=1), section="What",
        help="List the paths that cost most, all versions of each together; "
        f"{LARGEST} of them, or N.")  # fmt: skip
@option("--ranges", is_flag=True, section="What",
        help="List what removing each range of points would free.")  # fmt: skip
@option("--source", metavar="SOURCE", section="What", help="Look at one source alone.")
@option("--point", metavar="POINT", section="What", help="Look at one backup point alone.")
@line_options
@json_option
def command(
    *, repository: bytes, largest: int | None, ranges: bool, source: str | None,
    point: str | None, line: Line, as_json: bool,
) -> int:  # fmt: skip
    """What a repository takes, and what removing points would free."""
    from ibtfs.actions.stats.gather import statistics

    repo = line.open(repository)
    point_id = _point_id(repo, source, point)
    found = statistics(repo)
    sources = _sources(found, source, point_id)
    problems, paths = [*found.damages], None
    if largest is not None:
        paths, damages = _largest(repo, found, sources, largest)
        problems = list(dict.fromkeys([*problems, *damages]))
    code = INCOMPLETE if problems else DONE
    chosen = _Chosen(sources, source is None and point is None, paths, ranges)
    if as_json:
        emit_json({**_json(found, chosen), "damages": problems, "exit_code": code})
    else:
        _complain(found, problems)
        _print(repo, found, chosen)
    return code


def _point_id(repo: Repository, source: str | None, words: str | None) -> str | None:
    """The id of the point that is meant.  Raises PointNotFound, AmbiguousSource, UsageError."""
    if words is None:
        return None
    return chosen_point(repo, words if source is None else f"{source}/{words}").id


def _sources(found: Statistics, source: str | None, point_id: str | None) -> list[SourceCost]:
    """The sources, or the part of them, that is to be shown.  Raises PointNotFound."""
    from dataclasses import replace

    from ibtfs.store.naming import of_source

    if point_id is not None:
        parts = (
            (one, [cost for cost in one.points if cost.point.id == point_id])
            for one in found.sources
        )
        return [
            replace(one, points=part, start=one.start + one.points.index(part[0]))
            for one, part in parts
            if part
        ]
    if source is not None:
        of_source(found.by_time, source)  # there is none of another name
        return [one for one in found.sources if one.name == source]
    return found.sources


def _largest(
    repo: Repository, found: Statistics, sources: Iterable[SourceCost], count: int
) -> tuple[list[SourcePath], list[str]]:
    from ibtfs.actions.stats.largest import largest

    points = [cost.point for source in sources for cost in source.points]
    return largest(repo, found.weights, points, count)


def _complain(found: Statistics, problems: Sequence[str]) -> None:
    tell_damaged(found.damaged_points)
    told = {str(error) for error in found.damaged_points.values()}
    others = [message for message in problems if message not in told]
    for message in others[:PROBLEMS_SHOWN]:
        complain(message)
    if len(others) > PROBLEMS_SHOWN:
        complain(f"and {counted(len(others) - PROBLEMS_SHOWN, 'more problem')}")
    if problems:
        complain("What is damaged may need anything, so less may be freed than is told here")


def _names(found: Statistics) -> dict[str, str]:
    from ibtfs.store.naming import displayed_names

    return displayed_names(found.by_time)


def _json(found: Statistics, chosen: _Chosen) -> dict[str, Any]:
    names = _names(found)
    result = json_statistics(found, chosen.sources, names)
    if chosen.ranges:
        for row, source in zip(result["sources"], chosen.sources):
            row["ranges"] = json_triangle(found.ranges_of(source))
        if chosen.is_all:
            result["by_time"] = {
                "points": [point.id for point in found.by_time],
                "ranges": json_triangle(found.ranges_by_time()),
            }
    if chosen.largest is not None:
        result["largest"] = json_largest(chosen.largest)
    return result


def _print(repo: Repository, found: Statistics, chosen: _Chosen) -> None:
    width, names = screen_width(), _names(found)
    say(cut(f"Repository {shown(repo.path)}", width))
    _say_all(summary_lines(found), width)
    for source in chosen.sources:
        origin = source.points[-1].point.source
        say()
        title = f"{printable(source.name)}  ({printable(origin.host)}:{shown(origin.path)})"
        say(cut(title, width))
        _say_all(points_lines(source, names, width), width)
        if chosen.ranges:
            say()
            _say_all(range_lines(found.ranges_of(source), names, width), width)
    if chosen.ranges and chosen.is_all and len(chosen.sources) > 1:
        say()
        say(cut("All sources, by time", width))
        _say_all(range_lines(found.ranges_by_time(), _long(found.by_time, names), width), width)
    if chosen.largest is not None:
        say()
        several = len(found.sources) > 1
        _say_all(largest_lines(chosen.largest, width, with_source=several), width)


def _long(points: Iterable[Point], names: dict[str, str]) -> dict[str, str]:
    """Names of points with those of their sources."""
    return {point.id: f"{printable(point.display)}/{names[point.id]}" for point in points}


def _say_all(lines: Iterable[str], width: int) -> None:
    for line in lines:
        say(cut(line, width))
