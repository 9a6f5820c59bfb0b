"""Options of ``ibtfs mount``: how it is mounted, what is shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import click

from ibtfs.cli.command import option_field
from ibtfs.cli.words import IntType, LocalPath, Name, Text

if TYPE_CHECKING:
    from ibtfs.fuse import MountOptions
    from ibtfs.store.repository import Repository
    from ibtfs.view.options import ViewOptions


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


@dataclass(frozen=True)
class Mounting:
    """The options that say how it is mounted."""

    foreground: bool = option_field(
        "-f", "--foreground", is_flag=True, help="Do not go into the background; Ctrl-C unmounts."
    )
    allow_other: bool = option_field(
        "--allow-other",
        is_flag=True,
        help="Let other users in, each as far as owners, modes and ACLs allow.",
    )
    nonempty: bool = option_field(
        "--nonempty", is_flag=True, help="Mount over a folder that holds something."
    )
    no_xattrs: bool = option_field(
        "--no-xattrs",
        is_flag=True,
        help="Leave out extended attributes: ls -l and cp -a are faster.",
    )
    noexec: bool = option_field("--noexec", is_flag=True, help="Programs in it cannot be run.")
    log_file: bytes | None = option_field(
        "--log-file",
        metavar="FILE",
        type=LocalPath(),
        help="Where a mount in the background tells of damage; else the system's log.",
    )
    binding: Literal["auto", "fuse3", "fuse2"] = option_field(
        "--binding", type=click.Choice(["auto", "fuse3", "fuse2"]), default="auto", hidden=True
    )

    def mount_options(self, repository: bytes) -> MountOptions:
        """What they say of the repository at the path *repository*."""
        from ibtfs.fuse import MountOptions

        return MountOptions(
            allow_other=self.allow_other,
            fsname=os.fsdecode(repository),
            xattrs=not self.no_xattrs,
            nonempty=self.nonempty,
            noexec=self.noexec,
            binding=self.binding,
        )


@dataclass(frozen=True)
class Choices:
    """The options that say what is shown, and as what."""

    sources: tuple[str, ...] = option_field(
        "--source",
        metavar="NAME",
        type=Name(),
        multiple=True,
        help="Only this source; may be given several times.",
    )
    newer: str | None = option_field(
        "--newer",
        metavar="MOMENT",
        help="Only points made after MOMENT, as it is now: '30d', 'yesterday', '2026-11-20'.",
    )
    older: str | None = option_field(
        "--older", metavar="MOMENT", help="Only points made at or before MOMENT."
    )
    point_format: str = option_field(
        "--point-format",
        metavar="FORMAT",
        type=Text(),
        default="",
        help="Name points by strftime: '%Y-%m-%d'. Equal names get digits of their ids.",
    )
    utc: bool = option_field("--utc", is_flag=True, help="Name points, and take MOMENT, in UTC.")
    uid: int | None = option_field(
        "--uid",
        metavar="USER",
        type=Account("pwd"),
        help="Everything belongs to USER, a number or a name.",
    )
    gid: int | None = option_field(
        "--gid", metavar="GROUP", type=Account("grp"), help="Everything belongs to GROUP."
    )
    umask: int | None = option_field(
        "--umask",
        metavar="MASK",
        type=Umask(),
        help="Everything is permitted but what MASK takes away; ACLs do not count.",
    )
    symlinks: str = option_field(
        "--symlinks",
        type=click.Choice(["stored", "inside"]),
        default="stored",
        show_default=True,
        help="inside: absolute links into the source lead into the same point.",
    )

    def view_options(self, repository: Repository) -> ViewOptions:
        """What they say of *repository*.  Raises PointNotFound, UsageError."""
        from datetime import datetime, timezone

        from ibtfs.errors import UsageError
        from ibtfs.format.moment import check_template, parse_moment
        from ibtfs.store.naming import of_source
        from ibtfs.view.options import ViewOptions

        zone = timezone.utc if self.utc else None
        now = datetime.now(zone)
        if self.point_format:
            check_template(self.point_format)
            if self.point_format.startswith("@") and not self.utc:
                raise UsageError(f"{self.point_format!r} names points in UTC: give --utc as well")
        for name in self.sources:
            of_source(repository.points.all().points, name)
        return ViewOptions(
            point_format=self.point_format,
            zone=zone,
            sources=frozenset(self.sources),
            newer_ns=parse_moment(self.newer, now) if self.newer is not None else None,
            older_ns=parse_moment(self.older, now) if self.older is not None else None,
            uid=self.uid,
            gid=self.gid,
            umask=self.umask,
            inside_links=self.symlinks == "inside",
        )
