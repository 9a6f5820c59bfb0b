"""``ibtfs delta``."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ibtfs.cli.command import (
    Command,
    json_option,
    option,
    quiet_option,
    repository_argument,
)
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.new_file import (
    STANDARD_OUTPUT,
    check_new_file,
    write_new_file,
    write_standard_output,
)
from ibtfs.cli.output import emit_json, human_size, json_bytes, printable, say, shown
from ibtfs.cli.points import PATH_HELP, POINT_HELP, chosen_point, json_point
from ibtfs.cli.words import StoredPath

if TYPE_CHECKING:
    from ibtfs.actions.deltas.export import DeltaExport, Side
    from ibtfs.format.point import Point
    from ibtfs.store.repository import Repository
    from ibtfs.store.trees.directory import Entry

EXAMPLES = """
    ibtfs delta export /media/disk/backups latest letters/draft.txt draft.delta
    ibtfs delta export --against 3d /media/disk/backups latest shop.db shop.delta
    rdiff patch shop-of-3-days-ago.db shop.delta shop.db
"""
HELP = f"""Write the difference between two versions of a file as a delta of rdiff's.

`rdiff patch OLD OUT NEW` makes the file as it is at POINT from what it was at the other point.
Without --against, that is the newest point before POINT, of the same source, that has the file.
The delta is made from what both versions share in the repository, so it is quick, and small where
the change was small. Either of the two may be the newer one.

{POINT_HELP}

{PATH_HELP} OUT is a file, made whole or not at all; - is standard output."""


class _Stored(NamedTuple):
    """A file in a point."""

    point: Point
    path: bytes
    entry: Entry

    @property
    def side(self) -> Side:
        """Its content."""
        from ibtfs.actions.deltas.export import Side

        return Side(self.entry.content, self.entry.size)


@click.command("delta", cls=Command, examples=EXAMPLES, help=HELP)
@click.argument("verb", metavar="export", type=click.Choice(["export"]))
@repository_argument
@click.argument("words", metavar="POINT")
@click.argument("path", type=StoredPath())
@click.argument("out", metavar="OUT", type=StoredPath())
@option("--against", metavar="POINT", section="How",
        help="The point whose version the delta is to be applied to.")  # fmt: skip
@option("--force", is_flag=True, section="How", help="Replace OUT if it exists.")
@line_options
@quiet_option
@json_option
def command(
    *, verb: str, repository: bytes, words: str, path: bytes, out: bytes, against: str | None,
    force: bool, line: Line, quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Write the difference between two versions of a file as a delta of rdiff's."""
    from ibtfs.actions.deltas.export import DeltaExport
    from ibtfs.errors import IntegrityError, UsageError
    from ibtfs.store.trees.paths import located

    if as_json and out == STANDARD_OUTPUT:
        raise UsageError("Standard output cannot be both OUT and --json: name a file")
    target = out if out == STANDARD_OUTPUT else check_new_file(out, force=force)
    repo = line.open(repository)
    new = _stored(repo, chosen_point(repo, words), path)
    old = _before(repo, new) if against is None else _other(repo, against, path)
    export = DeltaExport(repo, old.side, new.side)
    try:
        if out == STANDARD_OUTPUT:
            write_standard_output(export.pieces())
        else:
            write_new_file(target, export.pieces(), force=force)
    except IntegrityError as error:
        where = f"points {old.point.id} and {new.point.id}"
        raise located(error, where, new.path) from error
    if as_json:
        emit_json(_result(repo, old, new, export))
    elif out != STANDARD_OUTPUT and not quiet:
        say(_line(repo, old, export, out))
    return 0


def _stored(repo: Repository, point: Point, path: bytes) -> _Stored:
    from ibtfs.errors import NotAFile
    from ibtfs.format.entry import NOT_READ
    from ibtfs.store.naming import relative_path
    from ibtfs.store.trees.paths import find_entry

    inside = relative_path(point, path)
    entry = find_entry(repo, point, inside)
    if not stat.S_ISREG(entry.mode) or entry.flags & NOT_READ:
        raise NotAFile(f"{os.fsdecode(inside)!r} is not a regular file in point {point.id}")
    return _Stored(point, inside, entry)


def _other(repo: Repository, words: str, path: bytes) -> _Stored:
    return _stored(repo, chosen_point(repo, words), path)


def _before(repo: Repository, new: _Stored) -> _Stored:
    """The file in the newest point before, of the same source, that has it."""
    from ibtfs.errors import NotFound, PointNotFound

    point = new.point
    mine = [
        other
        for other in repo.points.all().points
        if other.source.identity == point.source.identity and other.order < point.order
    ]
    for other in sorted(mine, key=lambda one: one.order, reverse=True):
        try:
            return _stored(repo, other, new.path)
        except NotFound:
            continue
    raise PointNotFound(
        f"No point before {point.id} has the file {os.fsdecode(new.path)!r}: say --against POINT"
    )


def _line(repo: Repository, old: _Stored, export: DeltaExport, out: bytes) -> str:
    name = printable(str(json_point(repo, old.point)["name"]))
    copied, literal = human_size(export.copied_bytes), human_size(export.literal_bytes)
    size = human_size(export.delta_bytes)
    return f"Wrote {shown(out)}: {size}; {copied} copied from {name}, {literal} new"


def _result(repo: Repository, old: _Stored, new: _Stored, export: DeltaExport) -> dict[str, Any]:
    return {
        **json_point(repo, new.point),
        **json_bytes(new.path),
        "against": {**json_point(repo, old.point), **json_bytes(old.path)},
        "bytes": new.entry.size,
        "bytes_against": old.entry.size,
        "bytes_delta": export.delta_bytes,
        "bytes_copied": export.copied_bytes,
        "bytes_literal": export.literal_bytes,
        "exit_code": 0,
    }
