"""``ibtfs backup``: its options, and the loop over its sources."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from ibtfs.cli.backup_summary import emit_results, print_result
from ibtfs.cli.cache_folder import cache_folder
from ibtfs.cli.command import Command, option, output_options, repository_argument
from ibtfs.cli.failures import INCOMPLETE
from ibtfs.cli.output import complain, say, shown
from ibtfs.cli.points import tell_damaged
from ibtfs.cli.progress import Reporter
from ibtfs.cli.words import FileName, LocalPath, Name, Size, SourceName, Tag, Text
from ibtfs.errors import IbtfsError, NotARepository, SourceError

if TYPE_CHECKING:
    from ibtfs.actions.backup.run import BackupOptions, BackupResult
    from ibtfs.store.repository import Repository

EXAMPLES = """
    ibtfs backup ~/documents /media/disk/backups
    ibtfs backup --exclude '*.o' --exclude /build/ --tag nightly ~/src /media/disk/backups
    ibtfs backup --one-file-system --exclude-caches / /media/disk/backups
    pg_dump shop | ibtfs backup --stdin-name shop.sql /media/disk/backups
    ibtfs backup --dry-run --verbose ~/documents /media/disk/backups
"""
IDENTITY, LEFT_OUT, WAY = "Backup point", "What is left out", "How"
PATTERN_FILE = click.Path(exists=True, dir_okay=False, readable=False, allow_dash=True)
INODES = {"auto": None, "trust": True, "ignore": False}


@dataclass
class Outcome:
    """What a run over all sources came to."""

    created: bool = False
    results: list[tuple[bytes, BackupResult, list[str]]] = field(default_factory=list)
    failures: list[tuple[bytes, IbtfsError]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """That of the first failure; 3 when some files were missed."""
        if self.failures:
            return self.failures[0][1].exit_code
        missed = any(result.tally.problems for _, result, _ in self.results)
        return INCOMPLETE if missed else 0


@click.command("backup", cls=Command, examples=EXAMPLES)
@click.argument("sources", metavar="SOURCE...", nargs=-1, type=LocalPath())
@repository_argument
@option("--name", type=SourceName(), section=IDENTITY,
        help="Call the source NAME, wherever it lies; for one SOURCE.")  # fmt: skip
@option("--host", type=Name(), section=IDENTITY,
        help="The machine that the source belongs to; by default this one.")  # fmt: skip
@option("--tag", "tags", type=Tag(), multiple=True, metavar="TAG", section=IDENTITY,
        help="Tag the backup point. Can be repeated.")  # fmt: skip
@option("--comment", type=Text(), section=IDENTITY,
        help="A remark, shown by list.")  # fmt: skip
@option("--stdin-name", type=FileName(), metavar="NAME", section=IDENTITY,
        help="Store standard input as a file NAME; there is no SOURCE then.")  # fmt: skip
@option("--exclude", multiple=True, metavar="PATTERN", section=LEFT_OUT,
        help="Leave out what matches, by git's rules for .gitignore at SOURCE. Can be repeated, "
        "as can the other options of this kind.")  # fmt: skip
@option("--exclude-from", multiple=True, metavar="FILE", type=PATTERN_FILE, section=LEFT_OUT,
        help="Read patterns from FILE, one a line; - for standard input.")  # fmt: skip
@option("--exclude-caches", is_flag=True, section=LEFT_OUT,
        help="Leave out what lies beside a CACHEDIR.TAG file.")  # fmt: skip
@option("--exclude-if-present", multiple=True, metavar="NAME", type=FileName(), section=LEFT_OUT,
        help="Leave out what lies beside a file NAME.")  # fmt: skip
@option("--exclude-larger-than", type=Size(), default=0, metavar="SIZE", section=LEFT_OUT,
        help="Leave out files larger than SIZE: 500K, 100M, 1.5G.")  # fmt: skip
@option("-x", "--one-file-system", is_flag=True, section=LEFT_OUT,
        help="Do not enter other file systems mounted below SOURCE.")  # fmt: skip
@option("--full", is_flag=True, section=WAY,
        help="Store everything anew: the point refers to nothing older.")  # fmt: skip
@option("--reread", is_flag=True, section=WAY,
        help="Read every file, also those that look unchanged.")  # fmt: skip
@option("--inodes", type=click.Choice(list(INODES)), default="auto", show_default=True,
        section=WAY, help="Whether inode numbers tell that a file is the same: as the kind of "
        "file system lets expect, always, or never.")  # fmt: skip
@option("-n", "--dry-run", is_flag=True, section=WAY,
        help="Compare and say what would be done; read no contents, store nothing.")  # fmt: skip
@output_options
@click.pass_context
def command(
    ctx: click.Context, /, *, sources: tuple[bytes, ...], repository: bytes, as_json: bool,
    quiet: bool, dry_run: bool, verbose: bool, **_: object,
) -> int:  # fmt: skip
    """Back up folders or files into a repository.

    Each SOURCE becomes one backup point: complete, though only what changed since the last one is
    stored. The repository is made at first use, in a folder that is empty or does not exist yet.
    Patterns in a file .exclude in SOURCE count as well. A file that cannot be read is told, the
    rest is stored, and the exit code is 3.
    """
    wanted = _sources(ctx, sources)
    options = _options(ctx)
    _refuse_repository(wanted, repository)
    repo, created = _repository(repository, wanted, options, dry_run=dry_run)
    outcome = Outcome(created)
    if not as_json:
        if created and not quiet:
            say(f"Made the repository {shown(repository)}")
        tell_damaged(repo.points().damaged)
    for source in wanted:
        reporter = Reporter(
            quiet=quiet, verbose=verbose, as_json=as_json,
            base=b"" if options.stdin_name else source, total=_expected(repo, source, options),
        )  # fmt: skip
        try:
            with reporter:
                result = _backup(repo, source, options, reporter)
        except IbtfsError as error:
            outcome.failures.append((source, error))
            if not as_json:
                complain(str(error))
            if isinstance(error, SourceError):
                continue  # the other sources may be well
            break
        outcome.results.append((source, result, reporter.notes))
        if not as_json:
            print_result(repo, source, result, quiet=quiet)
    repo.remember_points()
    if as_json:
        emit_results(repo, outcome.results, outcome.failures, outcome.exit_code, created=created)
    return outcome.exit_code


def _backup(
    repo: Repository, source: bytes, options: BackupOptions, reporter: Reporter
) -> BackupResult:
    from ibtfs.actions.backup.run import backup

    if not options.stdin_name and not os.path.lexists(source):
        raise SourceError(f"{shown(source)}: no such file or folder")
    return backup(repo, source, options, reporter)


def _sources(ctx: click.Context, sources: Sequence[bytes]) -> list[bytes]:
    """The sources to back up, each once.  Raises click.UsageError."""
    stdin_name = ctx.params["stdin_name"]
    if stdin_name:
        if "-" in ctx.params["exclude_from"]:
            raise click.UsageError("Standard input cannot be both source and patterns", ctx)
        if sources:
            raise click.UsageError("With --stdin-name there is no SOURCE, only REPO", ctx)
        return [b"/" + stdin_name]
    if not sources:
        raise click.UsageError("Both are needed, what to back up and where to: SOURCE REPO", ctx)
    unique = list(dict.fromkeys(sources))
    if ctx.params["name"] and len(unique) > 1:
        raise click.UsageError("--name is for one SOURCE", ctx)
    return unique


def _options(ctx: click.Context) -> BackupOptions:
    """The options as the library knows them.  Raises UsageError for a pattern that is none."""
    from ibtfs.actions.backup.run import BackupOptions
    from ibtfs.actions.backup.tree import TreeOptions
    from ibtfs.actions.source.scan import Exclusions
    from ibtfs.format.patterns import Patterns

    given = ctx.params
    lines = [line for path in given["exclude_from"] for line in _pattern_lines(path)]
    patterns: tuple[str | bytes, ...] = (*lines, *given["exclude"])
    Patterns.from_lines(patterns)  # before anything is made
    exclusions = Exclusions(
        caches=given["exclude_caches"],
        if_present=given["exclude_if_present"],
        larger_than=given["exclude_larger_than"],
        one_file_system=given["one_file_system"],
    )
    tree = TreeOptions(exclusions, given["reread"], given["dry_run"], INODES[given["inodes"]])
    return BackupOptions(
        host=given["host"] or os.uname().nodename or "localhost",
        name=given["name"] or "",
        tags=tuple(dict.fromkeys(given["tags"])),
        comment=given["comment"] or "",
        full=given["full"],
        patterns=patterns,
        tree=tree,
        cache=cache_folder(),
        stdin_name=given["stdin_name"] or b"",
        stream=sys.stdin.buffer if given["stdin_name"] else None,
    )


def _pattern_lines(path: str) -> list[bytes]:
    """The lines of a file of patterns; ``-`` is standard input.  Raises UsageError."""
    from ibtfs.format.patterns import check_lines

    with click.open_file(path, "rb") as file:
        data: bytes = file.read()
    lines = data.split(b"\n")
    check_lines(lines, "standard input" if path == "-" else path)
    return lines


def _refuse_repository(sources: Sequence[bytes], repository: bytes) -> None:
    store = os.path.realpath(repository)
    for source in sources:
        if os.path.commonpath((os.path.realpath(source), store)) == store:
            raise click.UsageError(f"SOURCE {shown(source)} lies inside the repository")


def _repository(
    path: bytes, sources: Sequence[bytes], options: BackupOptions, *, dry_run: bool
) -> tuple[Repository, bool]:
    """The repository, and whether it was made; not for sources of which none is there."""
    from ibtfs.store.repository import Repository, check_place, is_repository

    if is_repository(path):
        return Repository.open(path, cache_folder=options.cache), False
    if dry_run:
        raise NotARepository(
            f"There is no repository {shown(path)} yet to compare with: a first backup would make "
            "it and store everything"
        )
    check_place(path)
    if not options.stdin_name and not any(map(os.path.lexists, sources)):
        missing = ", ".join(map(shown, sources))
        raise SourceError(f"{missing}: no such file or folder; no repository was made")
    return Repository.create(path, os.urandom(16)), True


def _expected(repo: Repository, source: bytes, options: BackupOptions) -> int:
    """How many files the last backup of *source* had; 0 if there is none."""
    from ibtfs.format.point import Source

    identity = Source(options.host, source, options.name).identity
    counts = [p.statistics for p in repo.points().points if p.source.identity == identity]
    return counts[-1].get("files", 0) if counts else 0
