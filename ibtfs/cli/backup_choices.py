"""Options of ``ibtfs backup``: what a point is called, what is left out, how it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ibtfs.cli.command import option_field
from ibtfs.cli.words import FileName, Name, Size, SourceName, Tag, Text

if TYPE_CHECKING:
    from ibtfs.actions.source.scan import Exclusions

PATTERN_FILE = click.Path(exists=True, dir_okay=False, readable=False, allow_dash=True)
INODES = {"auto": None, "trust": True, "ignore": False}


@dataclass(frozen=True)
class Identity:
    """The options that say what a backup point is called."""

    name: str | None = option_field(
        "--name", type=SourceName(), help="Call the source NAME, wherever it lies; for one SOURCE."
    )
    host: str | None = option_field(
        "--host", type=Name(), help="The machine that the source belongs to; by default this one."
    )
    tags: tuple[str, ...] = option_field(
        "--tag",
        type=Tag(),
        multiple=True,
        metavar="TAG",
        help="Tag the backup point. Can be repeated.",
    )
    comment: str | None = option_field("--comment", type=Text(), help="A remark, shown by list.")
    stdin_name: bytes | None = option_field(
        "--stdin-name",
        type=FileName(),
        metavar="NAME",
        help="Store standard input as a file NAME; there is no SOURCE then.",
    )


@dataclass(frozen=True)
class LeftOut:
    """The options that say what of a source is left out."""

    exclude: tuple[str, ...] = option_field(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Leave out what matches, by git's rules for .gitignore at SOURCE. Can be repeated, "
        "as can the other options of this kind.",
    )
    exclude_from: tuple[str, ...] = option_field(
        "--exclude-from",
        multiple=True,
        metavar="FILE",
        type=PATTERN_FILE,
        help="Read patterns from FILE, one a line; - for standard input.",
    )
    exclude_caches: bool = option_field(
        "--exclude-caches", is_flag=True, help="Leave out what lies beside a CACHEDIR.TAG file."
    )
    exclude_if_present: tuple[bytes, ...] = option_field(
        "--exclude-if-present",
        multiple=True,
        metavar="NAME",
        type=FileName(),
        help="Leave out what lies beside a file NAME.",
    )
    exclude_larger_than: int = option_field(
        "--exclude-larger-than",
        type=Size(),
        default=0,
        metavar="SIZE",
        help="Leave out files larger than SIZE: 500K, 100M, 1.5G.",
    )
    one_file_system: bool = option_field(
        "-x",
        "--one-file-system",
        is_flag=True,
        help="Do not enter other file systems mounted below SOURCE.",
    )

    def patterns(self) -> tuple[str | bytes, ...]:
        """Those of the files before those of the command line.  Raises UsageError."""
        from ibtfs.format.patterns import Patterns

        lines = [line for path in self.exclude_from for line in _pattern_lines(path)]
        patterns: tuple[str | bytes, ...] = (*lines, *self.exclude)
        Patterns.from_lines(patterns)  # before anything is made
        return patterns

    def exclusions(self) -> Exclusions:
        """All but the patterns."""
        from ibtfs.actions.source.scan import Exclusions

        return Exclusions(
            caches=self.exclude_caches,
            if_present=self.exclude_if_present,
            larger_than=self.exclude_larger_than,
            one_file_system=self.one_file_system,
        )


@dataclass(frozen=True)
class Way:
    """The options that say how it is done."""

    full: bool = option_field(
        "--full", is_flag=True, help="Store everything anew: the point refers to nothing older."
    )
    reread: bool = option_field(
        "--reread", is_flag=True, help="Read every file, also those that look unchanged."
    )
    inodes: str = option_field(
        "--inodes",
        type=click.Choice(list(INODES)),
        default="auto",
        show_default=True,
        help="Whether inode numbers tell that a file is the same: as the kind of "
        "file system lets expect, always, or never.",
    )
    dry_run: bool = option_field(
        "-n",
        "--dry-run",
        is_flag=True,
        help="Compare and say what would be done; read no contents, store nothing.",
    )

    @property
    def trusts_inodes(self) -> bool | None:
        """What --inodes says; None goes by the kind of file system."""
        return INODES[self.inodes]


def _pattern_lines(path: str) -> list[bytes]:
    """The lines of a file of patterns; ``-`` is standard input.  Raises UsageError."""
    from ibtfs.format.patterns import check_lines

    with click.open_file(path, "rb") as file:
        data: bytes = file.read()
    lines = data.split(b"\n")
    check_lines(lines, "standard input" if path == "-" else path)
    return lines
