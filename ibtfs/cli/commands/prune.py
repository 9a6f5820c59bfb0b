"""``ibtfs prune``."""

from __future__ import annotations

import click

from ibtfs.cli.cache_folder import cache_folder
from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.freeing import Pruning
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import emit_json
from ibtfs.cli.words import Size

EXAMPLES = """
    ibtfs prune /media/disk/backups
    ibtfs prune --dry-run /media/disk/backups
    ibtfs prune --max-rewrite 2G /media/disk/backups
"""


@click.command("prune", cls=Command, examples=EXAMPLES)
@repository_argument
@option("--dry-run", is_flag=True, section="How",
        help="Only say what would be freed.")  # fmt: skip
@option("--max-rewrite", metavar="SIZE", type=Size(), section="How",
        help="Write at most so much, such as 500M or 2G: what frees most by it.")  # fmt: skip
@option("--wait", metavar="SECONDS", type=click.FloatRange(min=0), default=600.0, section="How",
        show_default=True, help="Wait so long for backups that are at work.")  # fmt: skip
@option("--allow-none", is_flag=True, section="How",
        help="If there is no backup point, remove everything.")  # fmt: skip
@line_options
@quiet_option
@json_option
def command(
    *, repository: bytes, dry_run: bool, max_rewrite: int | None, wait: float, allow_none: bool,
    line: Line, quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Free the space of what no backup point needs.

    What removed points alone needed goes: archives, parts of them, and what was kept only because
    later versions of a file were built on it; these are then built on what stays. Backups may run
    meanwhile, but for a moment that is waited for. It may be stopped at any time, and goes on where
    it was when it is run again. On a full disk it frees what it can before it writes. Small
    archives that are older than a day are put together into larger files, so that many backup
    points stay quick to read.
    """
    from ibtfs.actions.prune.run import PruneOptions

    cache = cache_folder(make=not dry_run)
    options = PruneOptions(
        dry_run=dry_run, max_rewrite=max_rewrite, wait=wait, cache=cache, allow_none=allow_none
    )
    pruning = Pruning(options)
    pruning.run(line.open(repository), quiet=quiet, as_json=as_json)
    if not as_json:
        pruning.tell(quiet=quiet)
        return pruning.exit_code
    error = {"error": pruning.problems[0]} if pruning.problems else {}
    emit_json({**error, **pruning.json(), "exit_code": pruning.exit_code})
    return pruning.exit_code
