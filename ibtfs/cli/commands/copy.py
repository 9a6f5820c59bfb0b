"""``ibtfs copy``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from ibtfs.cli.cache_folder import cache_folder
from ibtfs.cli.command import Command, option, output_options
from ibtfs.cli.copy_summary import CopyReport
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import complain, printable, say, shown
from ibtfs.cli.points import POINT_HELP
from ibtfs.cli.progress import Reporter
from ibtfs.cli.watching import accept_unsealed, require_unsealed, watch_over
from ibtfs.cli.words import Name, RepositoryPlace, Tag
from ibtfs.errors import IbtfsError, RepositoryError

if TYPE_CHECKING:
    from ibtfs.format.point import Point
    from ibtfs.store.repository import Repository
    from ibtfs.store.storage.opening import Place

EXAMPLES = """
    ibtfs copy /media/disk/backups /media/other/backups
    ibtfs copy /media/disk/backups /media/other/backups latest
    ibtfs copy --source documents --tag monthly /media/disk/backups /media/other/backups
    ibtfs copy --dry-run --mirror /media/disk/backups /media/other/backups
"""
HELP = f"""Copy backup points into another repository, which is made at first use.

A copy is the same point, under the same id, with the same tags; a sealed repository shows no names
of hosts, so ids are others there. Without POINT all points are
copied, oldest first; those that TO has are not copied again, nor those that were removed from it,
unless they are named. What TO holds already is not written again. Every content is verified while
it is read: what FROM cannot give is told, the rest is copied, the copy says that it is incomplete,
and the exit code is 3; when FROM was repaired, copying again completes it.

{POINT_HELP}"""


@click.command("copy", cls=Command, examples=EXAMPLES, help=HELP)
@click.argument("source", metavar="FROM", type=RepositoryPlace())
@click.argument("target", metavar="TO", type=RepositoryPlace())
@click.argument("words", metavar="[POINT]...", nargs=-1)
@option("--source", "sources", type=Name(), multiple=True, metavar="NAME",
        section="Which points", help="Only points of this source. Can be repeated.")  # fmt: skip
@option("--tag", "tags", type=Tag(), multiple=True, metavar="TAG", section="Which points",
        help="Only points that have TAG; given several times, any of them.")  # fmt: skip
@option("--mirror", is_flag=True, section="How",
        help="Have TO be the same set: points that came from FROM alone, and are gone there, are "
        "removed from TO, and tags are made the same. Nothing goes if anything cannot be read, or "
        "is not as it was seen before.")  # fmt: skip
@option("--yes", is_flag=True, section="How",
        help="Do not ask whether they may go; needed where there is no terminal to ask at."
        )  # fmt: skip
@option("-n", "--dry-run", is_flag=True, section="How",
        help="Only say which points would be copied, and which would go.")  # fmt: skip
@option("--seal/--no-seal", default=None, section="How",
        help="Whether TO is sealed, if it is made; by default as FROM is.")  # fmt: skip
@line_options
@output_options
def command(
    *, source: bytes, target: bytes, words: tuple[str, ...], sources: tuple[str, ...],
    tags: tuple[str, ...], mirror: bool, yes: bool, dry_run: bool, seal: bool | None, line: Line,
    as_json: bool, quiet: bool, verbose: bool,
) -> int:  # fmt: skip
    """Run the command; see HELP."""
    from ibtfs.actions.copy.run import CopyOptions, copy, foresee
    from ibtfs.actions.copy.survey import Choice
    from ibtfs.store.storage.opening import storage_at

    choice = Choice(words, sources, tags)
    if words and (sources or tags):
        raise click.UsageError("Either POINTs are named, or --source and --tag say which; not both")
    if mirror and not choice.is_all:
        raise click.UsageError("--mirror is for all points: no POINT, --source or --tag beside it")
    from_place, to_place = line.places(source, target)
    there = line.open_at(from_place, may_be_unsealed=True, cache_folder=cache_folder())
    here = _target(line, to_place)
    created = here is None and not dry_run
    if created:
        here = _made(line, there, to_place, seal=seal)
    elif here is not None:
        _require_meant(there, here, seal)
    report = CopyReport(there, storage_at(to_place).root, created=created, dry_run=dry_run)
    if mirror and here is not None:
        _look_for_gone(report, there, here)
    if report.gone and not yes and not dry_run:
        _ask(report.gone, can_ask=not as_json and sys.stdin.isatty())
    if here is None or dry_run:
        report.result = foresee(there, here, choice)
    else:
        same_tags = mirror and report.removal_error is None
        options = CopyOptions(choice, same_tags, cache_folder())
        with Reporter(quiet=quiet, verbose=verbose, as_json=as_json) as reporter:
            report.result = copy(there, here, options, reporter)
        report.notes = reporter.notes
        if report.gone:
            _remove(report, here)
        here.points.remember()
    there.points.remember()
    if as_json:
        report.emit()
    else:
        report.tell(quiet=quiet)
    return report.exit_code


def _target(line: Line, to_place: Place) -> Repository | None:
    """The repository that is copied to; None if it is not there yet."""
    from ibtfs.store.storage.opening import storage_at

    place = storage_at(to_place)
    if not place.has_repository():
        return None
    return line.open_at(place, may_be_unsealed=True, cache_folder=cache_folder())


def _require_meant(there: Repository, here: Repository, seal: bool | None) -> None:
    """Raise UsageError if something would be sealed that was not to be, or the other way round."""
    if seal is not None and here.config.is_sealed != seal:
        raise click.UsageError("TO is there already: --seal and --no-seal cannot change it")
    if there.config.is_sealed and not here.config.is_sealed and seal is None:
        raise click.UsageError("FROM is sealed and TO is not: say --no-seal if that is meant")


def _made(line: Line, there: Repository, to_place: Place, *, seal: bool | None) -> Repository:
    """The repository that is copied to, made as *there* is, but for its id and its keys."""
    from ibtfs.store.repository import Repository
    from ibtfs.store.storage.opening import storage_at

    place, inside = storage_at(to_place), there.local_path
    path = place.root
    if inside is not None and os.path.realpath(path).startswith(os.path.realpath(inside) + b"/"):
        raise click.UsageError(f"TO {shown(path)} lies inside the repository FROM")
    place.check_new()
    config = there.config
    wanted = config.is_sealed if seal is None else seal
    sealer = line.keys.sealer(place.root, seal=True) if wanted else None
    if seal is None and not wanted:
        require_unsealed(place.root)
    made = Repository.create(
        place, os.urandom(16), shared=config.shared, level=config.level, sealer=sealer
    )
    if seal is False:
        accept_unsealed(place.root)
    watch_over(made)
    return made


def _look_for_gone(report: CopyReport, there: Repository, here: Repository) -> None:
    """Look what is to be removed.  Where that cannot be told nothing is, and copying goes on."""
    from ibtfs.actions.copy.survey import gone_there

    try:
        report.gone = gone_there(there, here)
    except RepositoryError as error:
        report.removal_error = error


def _ask(gone: Sequence[Point], *, can_ask: bool) -> None:
    if not can_ask:
        raise click.UsageError(
            f"{len(gone):,} points would be removed from TO, and nobody can be asked: say --yes, "
            "after a look by --dry-run"
        )
    for point in gone:
        say(f"Gone from FROM: {printable(point.display)} {point.id}")
    click.confirm("Remove these from TO, too?", abort=True)


def _remove(report: CopyReport, here: Repository) -> None:
    """Remove what is gone, if all was copied."""
    from ibtfs.actions.forget.run import Way, forget_named

    if report.exit_code:
        complain("Nothing was removed from TO, for not all could be copied")
        report.gone = []
        return
    try:
        ids = [point.id for point in report.gone]
        report.removal = forget_named(here, ids, datetime.now(), Way(allow_none=True))
    except IbtfsError as error:
        report.removal_error = error
