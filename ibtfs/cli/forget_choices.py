"""Options of ``ibtfs forget``: what stays, which points that concerns, how it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ibtfs.cli.command import option_field
from ibtfs.cli.words import Name, Tag

if TYPE_CHECKING:
    from ibtfs.actions.forget.choice import Choice
    from ibtfs.actions.forget.policy import Policy

COUNT = click.IntRange(min=0)


@dataclass(frozen=True)
class Keep:
    """The options that say which points stay."""

    last: int = option_field(
        "--keep-last", type=COUNT, default=0, metavar="N", help="The N newest points."
    )
    hourly: int = option_field(
        "--keep-hourly", type=COUNT, default=0, metavar="N",
        help="The last point of each hour, for the N newest hours that have any.",
    )  # fmt: skip
    daily: int = option_field(
        "--keep-daily", type=COUNT, default=0, metavar="N", help="The same for days."
    )
    weekly: int = option_field(
        "--keep-weekly", type=COUNT, default=0, metavar="N",
        help="For weeks, which begin on Monday.",
    )  # fmt: skip
    monthly: int = option_field(
        "--keep-monthly", type=COUNT, default=0, metavar="N", help="For months."
    )
    yearly: int = option_field(
        "--keep-yearly", type=COUNT, default=0, metavar="N", help="For years."
    )
    within: str | None = option_field(
        "--keep-within", metavar="DURATION",
        help="All points made within DURATION before the newest one: 12h, 3d, 2w, 6mo.",
    )  # fmt: skip
    keep_tags: tuple[str, ...] = option_field(
        "--keep-tag", type=Tag(), multiple=True, metavar="TAG",
        help="All points that have TAG. Can be repeated.",
    )  # fmt: skip

    def policy(self) -> Policy:
        """What they say.  Raises UsageError if the duration is none."""
        from datetime import datetime

        from ibtfs.actions.forget.policy import Policy
        from ibtfs.format.moment import age_before

        if self.within is not None:
            age_before(self.within, datetime.now())  # before anything is removed
        return Policy(
            self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly,
            within=self.within or "", tags=frozenset(self.keep_tags),
        )  # fmt: skip


@dataclass(frozen=True)
class Concerned:
    """The options that say which points the rules concern, and which they compare."""

    hosts: tuple[str, ...] = option_field(
        "--host", type=Name(), multiple=True, metavar="HOST",
        help="Only points of this machine; the others stay. Can be repeated, as can the next two.",
    )  # fmt: skip
    sources: tuple[str, ...] = option_field(
        "--source", type=Name(), multiple=True, metavar="NAME", help="Only points of this source."
    )
    tags: tuple[str, ...] = option_field(
        "--tag", type=Tag(), multiple=True, metavar="TAG", help="Only points that have this tag."
    )
    group_by: str = option_field(
        "--group-by", default="source", show_default=True, metavar="WORDS",
        help="The rules count for each group by itself: source, or some of host, path, name and "
        "tags, with commas; '' puts all points together.",
    )  # fmt: skip

    def choice(self) -> Choice:
        """Those that are concerned."""
        from ibtfs.actions.forget.choice import Choice

        return Choice(self.hosts, self.sources, self.tags)

    def words(self) -> tuple[str, ...]:
        """What points are grouped by."""
        given = (word.strip() for word in self.group_by.split(","))
        return tuple(dict.fromkeys(word for word in given if word))

    @property
    def is_given(self) -> bool:
        """Whether any of them was."""
        return bool(self.hosts or self.sources or self.tags or self.group_by != "source")


@dataclass(frozen=True)
class Removing:
    """The options that say how it is done."""

    allow_none: bool = option_field(
        "--allow-none", is_flag=True, help="Let a source lose its last point."
    )
    dry_run: bool = option_field(
        "-n", "--dry-run", is_flag=True,
        help="Say what would go, and what pruning would free then; remove nothing.",
    )  # fmt: skip
    prune: bool = option_field(
        "--prune", is_flag=True, help="Then free the space of what went, as ibtfs prune does."
    )
