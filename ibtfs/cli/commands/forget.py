"""``ibtfs forget``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import (
    Command,
    json_option,
    option,
    options_of,
    quiet_option,
    repository_argument,
)
from ibtfs.cli.forget_choices import Concerned, Keep, Removing
from ibtfs.cli.forget_space import Space
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import counted, cut, fitting, printable, say, screen_width, table
from ibtfs.cli.points import POINT_HELP
from ibtfs.cli.removal import RemovalReport

if TYPE_CHECKING:
    from ibtfs.actions.forget.choice import Key
    from ibtfs.actions.forget.policy import Judged

EXAMPLES = """
    ibtfs forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 /media/disk/backups
    ibtfs forget --dry-run --keep-within 2w --keep-tag before-upgrade /media/disk/backups
    ibtfs forget --source photos --keep-last 3 /media/disk/backups
    ibtfs forget /media/disk/backups documents/latest~1 documents/latest~2
"""
HELP = f"""Remove backup points: those that are named, or those that no rule keeps.

Any point may go, also from the middle of a history: each is complete by itself, and all others stay
as they are. With --keep-... options each point that stays is shown with the reasons; a point that
has none goes. Rules add up. What only removed points needed takes its space until
`ibtfs prune` frees it.

{POINT_HELP} The full id alone names a point that is damaged."""
HEADER = ("", "POINT", "ID", "TAGS", "WHY")
DISPENSABLE = (2, 3)
"""Columns that are left out on a narrow terminal, in this order."""


@click.command("forget", cls=Command, examples=EXAMPLES, help=HELP)
@repository_argument
@click.argument("words", metavar="[POINT]...", nargs=-1)
@options_of(Keep, "keep", section="What stays")
@options_of(Concerned, "concerned", section="Which points the rules concern")
@options_of(Removing, "removing", section="How")
@option("--refused", is_flag=True, section="What stays",
        help="Remove what lies under ids of machines that only write and does not count: of "
             "revoked ones, and what is none. A damaged point that was good once stays.",
        )  # fmt: skip
@line_options
@quiet_option
@json_option
def command(
    *, repository: bytes, words: tuple[str, ...], keep: Keep, concerned: Concerned,
    removing: Removing, refused: bool, line: Line, quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Run the command; see HELP."""
    from datetime import datetime

    from ibtfs.actions.forget.run import Rules, Way, forget_by_rules, forget_named, forget_refused

    policy = keep.policy()
    by_rules = not policy.keeps_nothing or concerned.is_given
    if bool(words) + by_rules + refused > 1:
        raise click.UsageError(
            "Either POINTs are named, or rules say which stay, or --refused; not more than one"
        )
    repo = line.open(repository)
    way = Way(removing.allow_none, removing.dry_run)
    if refused:
        forgotten = forget_refused(repo, way)
    elif words:
        forgotten = forget_named(repo, words, datetime.now(), way)
    else:
        rules = Rules(policy, concerned.choice(), concerned.words())
        forgotten = forget_by_rules(repo, rules, time.time_ns(), way)
    report = RemovalReport(forgotten, dry_run=removing.dry_run)
    space = Space(repo, report, removing, quiet=quiet, as_json=as_json)
    if as_json:
        groups = [_group(report, key, mine) for key, mine in (forgotten.groups or {}).items()]
        report.emit(
            {**({"groups": groups} if forgotten.groups is not None else {}), **space.json()},
            space.exit_code,
        )
        return report.exit_code or space.exit_code
    if words or refused:
        report.tell(quiet=quiet, verb="Would remove" if removing.dry_run else "Removed")
    else:
        report.complain()
        if not quiet:
            _print(report, forgotten.groups or {})
    space.tell()
    return report.exit_code or space.exit_code


def _groups(report: RemovalReport, groups: Mapping[Key, Sequence[Judged]] | None) -> dict[str, Any]:
    if groups is None:
        return {}
    return {"groups": [_group(report, key, mine) for key, mine in groups.items()]}


def _group(report: RemovalReport, key: Key, mine: Sequence[Judged]) -> dict[str, Any]:
    rows = [
        {**report.about(one.point.id), "tags": list(one.tags), "reasons": list(one.reasons)}
        for one in mine
    ]
    return {
        "group": {word: value.encode(errors="replace").decode() for word, value in key},
        "keep": [row for row in rows if row["reasons"]],
        "remove": [row for row in rows if not row["reasons"]],
    }


def _print(report: RemovalReport, groups: Mapping[Key, Sequence[Judged]]) -> None:
    width = screen_width()
    for key, mine in groups.items():
        title = ", ".join(printable(value) or f"no {word}" for word, value in key) or "All points"
        say(f"{title}: {counted(len(mine), 'point')}")
        rows = [HEADER, *(_line(report, one) for one in mine)]
        kept = fitting(rows, width, DISPENSABLE)
        header, *lines = [[row[column] for column in kept] for row in rows]
        for line in table(header, lines, frozenset()).splitlines():
            say(cut(line, width))
        say()
    judged = [one for mine in groups.values() for one in mine]
    say(report.summary(len(judged) - len(report.removed)))


def _line(report: RemovalReport, one: Judged) -> tuple[str, ...]:
    verdict = "stays" if one.reasons else "goes"
    name, tags = report.about(one.point.id)["name"], printable(", ".join(one.tags))
    return (verdict, name, one.point.id, tags, printable(", ".join(one.reasons)))
