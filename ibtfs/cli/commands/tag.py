"""``ibtfs tag``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import Command, json_option, quiet_option, repository_argument
from ibtfs.cli.exit_codes import FAILURE
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import counted, emit_json, printable, say
from ibtfs.cli.points import POINT_HELP, json_points, tell_damaged
from ibtfs.cli.words import Tag

if TYPE_CHECKING:
    from ibtfs.format.point import Point
    from ibtfs.store.repository import Repository

EXAMPLES = """
    ibtfs tag add /media/disk/backups before-upgrade latest
    ibtfs tag list /media/disk/backups
    ibtfs ls /media/disk/backups before-upgrade letters
    ibtfs tag remove /media/disk/backups before-upgrade latest latest~1
"""
HELP = f"""Tag backup points, take tags away, or list them.

`add` gives TAG to the points, `remove` takes it from them; with a tag they already have, or do not
have, nothing is done. `list` shows all tags, or TAG alone, each with its points. A tag may stand
wherever a POINT is asked for, and `ibtfs forget` can keep tagged points.

{POINT_HELP}"""


@click.command("tag", cls=Command, examples=EXAMPLES, help=HELP)
@click.argument("verb", metavar="add|remove|list", type=click.Choice(["add", "remove", "list"]))
@repository_argument
@click.argument("tag", metavar="[TAG]", type=Tag(), required=False)
@click.argument("words", metavar="[POINT]...", nargs=-1)
@line_options
@quiet_option
@json_option
def command(
    *, verb: str, repository: bytes, tag: str | None, words: tuple[str, ...], line: Line,
    quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Run the command; see HELP."""

    if verb == "list":
        if words:
            raise click.UsageError("list takes a TAG and no POINTs")
        return _list(line.open(repository), tag, as_json=as_json)
    if tag is None or not words:
        raise click.UsageError(f"{verb} needs a TAG and at least one POINT")
    repo = line.open(repository)
    return _change(repo, verb, tag, words, quiet=quiet, as_json=as_json)


def _change(
    repo: Repository, verb: str, tag: str, words: Sequence[str], *, quiet: bool, as_json: bool
) -> int:
    from datetime import datetime

    from ibtfs.actions.forget.tags import tag_points, untag_points

    change = tag_points if verb == "add" else untag_points
    changed = change(repo, tag, words, datetime.now())
    about = json_points(repo, [*changed.done, *changed.already])
    if as_json:
        done = [about[point.id] for point in changed.done]
        already = [about[point.id] for point in changed.already]
        emit_json({"tag": tag, "points": done, "unchanged": already, "exit_code": 0})
    elif not quiet:
        told = "Tagged" if verb == "add" else "Took the tag from"
        for point in changed.done:
            say(f"{told} {printable(point.display)}/{about[point.id]['name']} ({point.id})")
        for point in changed.already:
            has = "has the tag already" if verb == "add" else "does not have the tag"
            say(f"{printable(point.display)}/{about[point.id]['name']} {has}")
    return 0


def _list(repo: Repository, only: str | None, *, as_json: bool) -> int:
    found = repo.points.all()
    tagged: dict[str, list[Point]] = {}
    for point in found.points:
        for tag in repo.points.tags(point.id):
            tagged.setdefault(tag, []).append(point)
    shown = {tag: tagged[tag] for tag in sorted(tagged) if only in (None, tag)}
    about = json_points(repo, found.points)
    code = FAILURE if found.damaged else 0
    if as_json:
        tags = [{"tag": tag, "points": [about[p.id] for p in shown[tag]]} for tag in shown]
        emit_json({**_damaged(found.damaged), "tags": tags, "exit_code": code})
        return code
    tell_damaged(found.damaged)
    for tag, points in shown.items():
        say(f"{printable(tag)}: {counted(len(points), 'point')}")
        for point in points:
            say(f"  {printable(point.display)}/{about[point.id]['name']} ({point.id})")
    return code


def _damaged(damaged: Any) -> dict[str, Any]:
    if not damaged:
        return {}
    rows = [{"id": name, "message": str(error)} for name, error in damaged.items()]
    return {"damaged": rows, "error": "; ".join(row["message"] for row in rows)}
