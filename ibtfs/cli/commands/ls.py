"""``ibtfs ls``."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import Command, json_option, option, repository_argument
from ibtfs.cli.exit_codes import INCOMPLETE
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import (
    complain,
    emit_json,
    json_bytes,
    json_time,
    local_time,
    printable,
    say_name,
)
from ibtfs.cli.points import PATH_HELP, POINT_HELP, chosen_point, json_point
from ibtfs.cli.progress import json_problems
from ibtfs.cli.words import StoredPath

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibtfs.errors import IntegrityError
    from ibtfs.format.point import Point
    from ibtfs.store.trees.directory import Entry

EXAMPLES = """
    ibtfs ls /media/disk/backups latest
    ibtfs ls -l /media/disk/backups yesterday letters/2026
    ibtfs ls -R /media/disk/backups documents/2026-11-20 | grep -i invoice
"""
TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device", stat.S_IFBLK: "block device", stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}  # fmt: skip

HELP = f"""List the files in a backup point.

{POINT_HELP}

{PATH_HELP} On a terminal, characters that cannot be printed are shown as escapes; into a pipe
go names as they are, one a line."""


@click.command("ls", cls=Command, examples=EXAMPLES, help=HELP)
@repository_argument
@click.argument("words", metavar="POINT")
@click.argument("path", required=False, default=b"", type=StoredPath())
@option("-l", "--long", "detailed", is_flag=True, help="Show mode, links, owner, size and time.")
@option("-R", "--recursive", is_flag=True, help="List all below; names are paths then.")
@line_options
@json_option
def command(
    *, repository: bytes, words: str, path: bytes, detailed: bool, recursive: bool, line: Line,
    as_json: bool,
) -> int:  # fmt: skip
    """List the files in a backup point."""
    from ibtfs.store.naming import relative_path
    from ibtfs.store.trees.paths import located, walk

    repo = line.open(repository)
    point = chosen_point(repo, words)
    inside = relative_path(point, path)
    problems: list[tuple[bytes, str]] = []

    def problem(folder: bytes, error: IntegrityError) -> None:
        problems.append((folder, str(error)))
        if not as_json:
            complain(str(located(error, point.id, folder or b".")))

    entries = walk(repo, point, inside, recursive=recursive, problem=problem)
    if as_json:
        rows = [_row(point, below, entry) for below, entry in entries]
        code = INCOMPLETE if problems else 0
        emit_json({**json_point(repo, point), **json_bytes(inside), "entries": rows,
                   "problems": json_problems(problems), "exit_code": code})  # fmt: skip
    else:
        _print(point, entries, detailed=detailed, recursive=recursive)
    return INCOMPLETE if problems else 0


def _print(
    point: Point, entries: Iterable[tuple[bytes, Entry]], *, detailed: bool, recursive: bool
) -> None:
    for path, entry in entries:
        name = path if recursive else os.path.basename(path)
        say_name(_details(point, entry) if detailed else "", name + _arrow(entry, detailed))


def _arrow(entry: Entry, detailed: bool) -> bytes:
    return b" -> " + entry.target if detailed and stat.S_ISLNK(entry.mode) else b""


def _details(point: Point, entry: Entry) -> str:
    """The columns of ``ls -l`` before the name; wide enough for most, so that lines can stream."""
    user = printable(point.users.get(entry.uid, str(entry.uid)))
    group = printable(point.groups.get(entry.gid, str(entry.gid)))
    size = str(entry.size)
    if stat.S_ISCHR(entry.mode) or stat.S_ISBLK(entry.mode):
        size = f"{os.major(entry.rdev)}, {os.minor(entry.rdev)}"
    time = local_time(entry.mtime_ns)
    mode = stat.filemode(entry.mode)
    return f"{mode} {entry.links:>3} {user:<8} {group:<8} {size:>12} {time:<19} "


def _row(point: Point, path: bytes, entry: Entry) -> dict[str, Any]:
    kind = stat.S_IFMT(entry.mode)
    row: dict[str, Any] = {
        **json_bytes(path),
        "type": TYPES.get(kind, "unknown"),
        "mode": f"{stat.S_IMODE(entry.mode):04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "user": point.users.get(entry.uid, ""),
        "group": point.groups.get(entry.gid, ""),
        "size": entry.size,
        "mtime": json_time(entry.mtime_ns),
        "mtime_ns": entry.mtime_ns,
        "links": entry.links,
        "inode": entry.inode,
        "flags": _flags(entry),
    }
    if kind == stat.S_IFLNK:
        row.update(json_bytes(entry.target, "target"))
    elif kind in {stat.S_IFCHR, stat.S_IFBLK}:
        row["device"] = [os.major(entry.rdev), os.minor(entry.rdev)]
    return row


def _flags(entry: Entry) -> list[str]:
    from ibtfs.format.entry import KEPT, NOT_READ, UNSTABLE

    names = {KEPT: "kept", UNSTABLE: "unstable", NOT_READ: "not read"}
    return [name for flag, name in names.items() if entry.flags & flag]
