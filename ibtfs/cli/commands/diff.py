"""``ibtfs diff``."""

from __future__ import annotations

import os
import stat
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import Command, json_option, option, repository_argument
from ibtfs.cli.exit_codes import FAILURE, INCOMPLETE
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import complain, emit_json, json_bytes, say, say_name, shown
from ibtfs.cli.points import POINT_HELP, chosen_point, json_point
from ibtfs.cli.words import LocalPath
from ibtfs.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibtfs.format.point import Point
    from ibtfs.store.repository import Repository
    from ibtfs.store.trees.compare import PathChange

EXAMPLES = """
    ibtfs diff /media/disk/backups latest~1 latest
    ibtfs diff /media/disk/backups yesterday               # with what is there now
    ibtfs diff /media/disk/backups latest --source-path /mnt/moved/documents
"""
SIGNS = {"created": "+", "updated": "~", "deleted": "-"}
HELP = f"""Show what differs between two backup points, or a point and now.

Without POINT2 it is the source as it is now, where it was backed up from. What looks unchanged is
not read.

{POINT_HELP}

Each line has + for what was created, ~ for what was updated, with what differs (contents, target,
device, mode, owner, mtime, xattrs, links, type), - for what was deleted; folders end in a slash.
What was excluded from the backup counts as created, but for what the source's own .exclude names.
The exit code is 0 also where something differs, 1 where damage hid something, 3 where something
of the source could not be read."""


@click.command("diff", cls=Command, examples=EXAMPLES, help=HELP)
@repository_argument
@click.argument("first", metavar="POINT1")
@click.argument("second", metavar="[POINT2]", required=False)
@option("--source-path", type=LocalPath(), metavar="DIR",
        help="Compare with DIR: the source lies there now.")  # fmt: skip
@option("--exclude", multiple=True, metavar="PATTERN",
        help="Leave out what matches in the source, as backup does. Can be repeated.")  # fmt: skip
@line_options
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, *, repository: bytes, first: str, second: str | None,
    source_path: bytes | None, exclude: tuple[str, ...], line: Line, as_json: bool,
) -> int:  # fmt: skip
    """Show what differs between two backup points, or a point and now."""

    if second is not None and (source_path or exclude):
        raise click.UsageError("--source-path and --exclude go with one POINT only", ctx)
    repo = line.open(repository)
    old = chosen_point(repo, first)
    result: dict[str, Any] = {"from": json_point(repo, old)}
    if second is None:
        source = source_path or old.source.path
        changes = _live(repo, old, source, exclude)
        result["to"] = json_bytes(source)
    else:
        new = chosen_point(repo, second)
        changes = _stored(repo, old, new)
        result["to"] = json_point(repo, new)
    tell = _Teller(as_json=as_json)
    for change in changes:
        tell.change(change)
    return tell.end(result)


def _live(
    repo: Repository, point: Point, source: bytes, exclude: tuple[str, ...]
) -> Iterator[PathChange]:
    from ibtfs.actions.compare_live import LiveComparison

    if not os.path.lexists(source):
        raise SourceError(
            f"{shown(source)}: no such file or folder; --source-path says where the source lies now"
        )
    return LiveComparison(repo, point, exclude).changes(source)


def _stored(repo: Repository, old: Point, new: Point) -> Iterator[PathChange]:
    from ibtfs.store.contents.reader import Contents
    from ibtfs.store.trees.compare import Comparison
    from ibtfs.store.trees.paths import root_entry

    comparison = Comparison(repo, Contents(repo))
    return comparison.tree_changes(root_entry(old), root_entry(new))


class _Teller:
    """Prints changes as they come, or keeps them for the one JSON object."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._counts: Counter[str] = Counter()
        self._rows: list[dict[str, Any]] = []
        self._problems: list[dict[str, Any]] = []
        self._exit_code = 0

    def change(self, found: PathChange) -> None:
        """Tell of one change, or of what could not be read."""
        from ibtfs.errors import IntegrityError

        path, change, error = found
        if error is not None:
            if isinstance(error, IntegrityError):
                self._exit_code = FAILURE
            self._exit_code = self._exit_code or INCOMPLETE
            self._problems.append({**json_bytes(path), "message": str(error)})
            if not self._as_json:
                complain(f"{shown(path) or '.'}: {error}")
            return
        kind = change.kind or "updated"
        self._counts[kind] += 1
        entry = change.new or change.old
        is_folder = entry is not None and stat.S_ISDIR(entry.mode)
        if self._as_json:
            row = {**json_bytes(path), "change": kind, "what": list(change.what)}
            sizes = {"old_size": change.old and change.old.size,
                     "new_size": change.new and change.new.size}  # fmt: skip
            self._rows.append({**row, "folder": is_folder, **sizes})
            return
        name = (path or b".") + (b"/" if is_folder else b"")
        what = f"  ({', '.join(change.what)})".encode() if change.what else b""
        say_name(f"{SIGNS[kind]} ", name + what)

    def end(self, result: dict[str, Any]) -> int:
        """Tell how many there were; the exit code."""
        counts = {kind: self._counts[kind] for kind in SIGNS}
        if self._as_json:
            result |= {"changes": self._rows, **counts, "problems": self._problems}
            if self._exit_code == FAILURE:
                result["error"] = "; ".join(problem["message"] for problem in self._problems)
            emit_json({**result, "exit_code": self._exit_code})
        else:
            say(", ".join(f"{count:,} {kind}" for kind, count in counts.items()))
        return self._exit_code
