"""Options of ``ibtfs mount`` that say what is shown, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ibtfs.cli.command import option
from ibtfs.cli.words import IntType, Name, Text

if TYPE_CHECKING:
    from ibtfs.store.repository import Repository
    from ibtfs.view.options import ViewOptions

Function = TypeVar("Function", bound=Callable[..., Any])
SHOWN = "What is shown"


class Account(IntType):
    """A user or a group (*database* is ``pwd`` or ``grp``), by number or by name; its number."""

    def __init__(self, database: str) -> None:
        self.name = {"pwd": "user", "grp": "group"}[database]
        self._database = database

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """*value* as a number."""
        if isinstance(value, int):
            return value
        if value.isdecimal() and int(value) < 2**32 - 1:
            return int(value)
        import grp
        import pwd

        try:
            if self._database == "pwd":
                return pwd.getpwnam(value).pw_uid
            return grp.getgrnam(value).gr_gid
        except KeyError:
            self.fail(f"there is no {self.name} {value!r}", param, ctx)


class Umask(IntType):
    """Permissions that are taken away: octal digits, as for the umask of a shell."""

    name = "umask"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """*value* as a number."""
        if isinstance(value, int):
            return value
        try:
            mask = int(value, 8)
        except ValueError:
            mask = -1
        if not 0 <= mask <= 0o777:
            self.fail(f"{value!r} is no umask; write 022 or 077", param, ctx)
        return mask


OPTIONS = (
    option("--source", "sources", metavar="NAME", type=Name(), multiple=True, section=SHOWN,
           help="Only this source; may be given several times."),
    option("--newer", metavar="MOMENT", section=SHOWN,
           help="Only points made after MOMENT, as it is now: '30d', 'yesterday', '2026-11-20'."),
    option("--older", metavar="MOMENT", section=SHOWN,
           help="Only points made at or before MOMENT."),
    option("--point-format", metavar="FORMAT", type=Text(), default="", section=SHOWN,
           help="Name points by strftime: '%Y-%m-%d'. Equal names get -2, -3."),
    option("--utc", is_flag=True, section=SHOWN, help="Name points, and take MOMENT, in UTC."),
    option("--uid", metavar="USER", type=Account("pwd"), section=SHOWN,
           help="Everything belongs to USER, a number or a name."),
    option("--gid", metavar="GROUP", type=Account("grp"), section=SHOWN,
           help="Everything belongs to GROUP."),
    option("--umask", metavar="MASK", type=Umask(), section=SHOWN,
           help="Everything is permitted but what MASK takes away; ACLs do not count."),
    option("--symlinks", type=click.Choice(["stored", "inside"]), default="stored", section=SHOWN,
           show_default=True,
           help="inside: absolute links into the source lead into the same point."),
)  # fmt: skip


def choices(function: Function) -> Function:
    """Add all options of this module."""
    for add in reversed(OPTIONS):
        function = add(function)
    return function


def view_options(
    repository: Repository, *, sources: Sequence[str], newer: str | None, older: str | None,
    point_format: str, utc: bool, uid: int | None, gid: int | None, umask: int | None,
    symlinks: str,
) -> ViewOptions:  # fmt: skip
    """What the options of this module say.  Raises PointNotFound, UsageError."""
    from datetime import datetime, timezone

    from ibtfs.format.moment import check_template, parse_moment
    from ibtfs.view.options import ViewOptions

    zone = timezone.utc if utc else None
    now = datetime.now(zone)
    if point_format:
        check_template(point_format)
    _check_sources(repository, sources)
    return ViewOptions(
        point_format=point_format, zone=zone, sources=frozenset(sources),
        newer_ns=parse_moment(newer, now) if newer is not None else None,
        older_ns=parse_moment(older, now) if older is not None else None,
        uid=uid, gid=gid, umask=umask, inside_links=symlinks == "inside",
    )  # fmt: skip


def _check_sources(repository: Repository, sources: Sequence[str]) -> None:
    from ibtfs.errors import PointNotFound
    from ibtfs.store.naming import by_source

    if not sources:
        return
    known = by_source(repository.points().points)
    for name in sources:
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise PointNotFound(f"No source {name!r} in the repository; there are: {there}")
