"""``ibtfs backup``: its options, and the loop over its sources."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from ibtfs.cli.backup_choices import Identity, LeftOut, Way
from ibtfs.cli.backup_summary import NO_POINT, SourceDone, emit_outcome, print_done
from ibtfs.cli.cache_folder import cache_folder
from ibtfs.cli.command import (
    Command,
    options_of,
    output_options,
    repository_argument,
)
from ibtfs.cli.exit_codes import INCOMPLETE
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import complain, say, shown
from ibtfs.cli.points import json_point, tell_damaged
from ibtfs.cli.progress import Reporter
from ibtfs.cli.watching import require_unsealed, watch_over
from ibtfs.cli.words import LocalPath
from ibtfs.errors import IbtfsError, NotARepository, SourceError, UsageError

if TYPE_CHECKING:
    from ibtfs.actions.backup.run import BackupOptions, BackupResult
    from ibtfs.format.point import Point
    from ibtfs.store.repository import Repository

EXAMPLES = """
    ibtfs backup ~/documents /media/disk/backups
    ibtfs backup --exclude '*.o' --exclude /build/ --tag nightly ~/src /media/disk/backups
    ibtfs backup --one-file-system --exclude-caches / /media/disk/backups
    pg_dump shop | ibtfs backup --stdin-name shop.sql /media/disk/backups
    ibtfs backup --dry-run --verbose ~/documents /media/disk/backups
"""


@dataclass
class Outcome:
    """What a run over all sources came to."""

    created: bool
    done: list[SourceDone] = field(default_factory=list)
    failures: list[tuple[bytes, IbtfsError]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """That of the first failure; 3 when some files were missed."""
        if self.failures:
            return self.failures[0][1].exit_code
        missed = any(done.result.tally.problems for done in self.done)
        return INCOMPLETE if missed else 0


@click.command("backup", cls=Command, examples=EXAMPLES)
@click.argument("sources", metavar="SOURCE...", nargs=-1, type=LocalPath())
@repository_argument
@options_of(Identity, "identity", section="Backup point")
@options_of(LeftOut, "left_out", section="What is left out")
@options_of(Way, "way", section="How")
@line_options
@output_options
def command(
    *, sources: tuple[bytes, ...], repository: bytes, identity: Identity, left_out: LeftOut,
    way: Way, line: Line, as_json: bool, quiet: bool, verbose: bool,
) -> int:  # fmt: skip
    """Back up folders or files into a repository.

    Each SOURCE becomes one backup point: complete, though only what changed since the last one is
    stored. The repository is made at first use, in a folder that is empty or does not exist yet.
    Patterns in a file .exclude in SOURCE count as well. A file that cannot be read is told, the
    rest is stored, and the exit code is 3.
    """
    if identity.stdin_name and 0 in line.passphrase_fd:
        raise click.UsageError("Standard input cannot be both: another --passphrase-fd is needed")
    wanted = _sources(sources, identity, left_out)
    options = _options(identity, left_out, way)
    _refuse_repository(wanted, repository)
    repo, created = _repository(line, repository, wanted, options)
    outcome, before = Outcome(created), repo.points.all()
    if not as_json:
        if created and not quiet:
            kind = "sealed" if repo.config.is_sealed else "unsealed"
            say(f"Made the {kind} repository {shown(repo.path)}")
        tell_damaged(before.damaged)
    for source in wanted:
        reporter = Reporter(
            quiet=quiet, verbose=verbose, as_json=as_json,
            base=b"" if options.stdin_name else source,
            total=_expected(before.points, source, options),
        )  # fmt: skip
        try:
            with reporter:
                result = _backup(repo, source, options, reporter)
        except IbtfsError as error:
            outcome.failures.append((source, error))
            if not as_json:
                complain(str(error))
            if isinstance(error, (SourceError, UsageError)):
                continue  # the other sources may be well, and have other patterns
            break
        about = json_point(repo, result.point) if result.point else NO_POINT
        outcome.done.append(SourceDone(source, result, about, reporter.notes))
        if not as_json:
            print_done(repo, outcome.done[-1], quiet=quiet)
    repo.points.remember()
    if as_json:
        emit_outcome(
            outcome.done, outcome.failures, outcome.exit_code, created=created,
            damaged=before.damaged,
        )  # fmt: skip
    return outcome.exit_code


def _backup(
    repo: Repository, source: bytes, options: BackupOptions, reporter: Reporter
) -> BackupResult:
    from ibtfs.actions.backup.run import backup

    if not options.stdin_name and not os.path.lexists(source):
        raise SourceError(f"{shown(source)}: no such file or folder")
    return backup(repo, source, options, reporter)


def _sources(sources: Sequence[bytes], identity: Identity, left_out: LeftOut) -> list[bytes]:
    """The sources to back up, each once.  Raises click.UsageError."""
    if identity.stdin_name:
        if "-" in left_out.exclude_from:
            raise click.UsageError("Standard input cannot be both source and patterns")
        if sources:
            raise click.UsageError("With --stdin-name there is no SOURCE, only REPO")
        return [b"/" + identity.stdin_name]
    if not sources:
        raise click.UsageError("Both are needed, what to back up and where to: SOURCE REPO")
    unique = list(dict.fromkeys(sources))
    if identity.name and len(unique) > 1:
        raise click.UsageError("--name is for one SOURCE")
    return unique


def _options(identity: Identity, left_out: LeftOut, way: Way) -> BackupOptions:
    """The options as the library knows them.  Raises UsageError for a pattern that is none."""
    from ibtfs.actions.backup.run import BackupOptions
    from ibtfs.actions.backup.tree import TreeOptions

    patterns = left_out.patterns()
    inodes = way.trusts_inodes
    return BackupOptions(
        host=identity.host or os.uname().nodename or "localhost",
        name=identity.name or "",
        tags=tuple(dict.fromkeys(identity.tags)),
        comment=identity.comment or "",
        full=way.full,
        patterns=patterns,
        tree=TreeOptions(left_out.exclusions(), way.reread, way.dry_run, inodes),
        cache=cache_folder(),
        stdin_name=identity.stdin_name or b"",
        stream=sys.stdin.buffer if identity.stdin_name else None,
    )


def _refuse_repository(sources: Sequence[bytes], repository: bytes) -> None:
    from ibtfs.store.storage.address import is_remote

    if is_remote(repository):
        return
    store = os.path.realpath(repository)
    for source in sources:
        if os.path.commonpath((os.path.realpath(source), store)) == store:
            raise click.UsageError(f"SOURCE {shown(source)} lies inside the repository")


def _repository(
    line: Line, repository: bytes, sources: Sequence[bytes], options: BackupOptions
) -> tuple[Repository, bool]:
    """The repository, and whether it was made; not for sources of which none is there."""
    from ibtfs.store.repository import Repository
    from ibtfs.store.storage.opening import storage_at

    place = storage_at(line.place(repository))
    try:
        return line.open_at(place, cache_folder=options.cache), False
    except NotARepository:
        if place.has_repository():
            raise
    if options.tree.dry_run:
        raise NotARepository(
            f"There is no repository {shown(place.root)} yet to compare with: a first backup would "
            "make it and store everything"
        )
    place.check_new()
    if not options.stdin_name and not any(map(os.path.lexists, sources)):
        missing = ", ".join(map(shown, sources))
        raise SourceError(f"{missing}: no such file or folder; no repository was made")
    sealer = line.keys.sealer(place.root, seal=None)
    if sealer is None:
        require_unsealed(place.root)
    made = Repository.create(place, os.urandom(16), sealer=sealer)
    watch_over(made)
    return made, True


def _expected(points: Sequence[Point], source: bytes, options: BackupOptions) -> int:
    """How many files the last backup of *source* had; 0 if there is none."""
    from ibtfs.format.point import Source

    identity = Source(options.host, source, options.name).identity
    counts = [point.statistics for point in points if point.source.identity == identity]
    return counts[-1].get("files", 0) if counts else 0
