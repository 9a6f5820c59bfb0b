"""``ibtfs protect``."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.exit_codes import DONE, INCOMPLETE
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import complain, counted, emit_json, human_seconds, human_size, say
from ibtfs.cli.progress import Reporter
from ibtfs.cli.words import Percent

if TYPE_CHECKING:
    from ibtfs.actions.protect import Protected

EXAMPLES = """
    ibtfs protect --redundancy 10% /media/disk/backups
    ibtfs check --repair /media/disk/backups             # heals what was damaged
    ibtfs protect --redundancy 0 /media/disk/backups     # no more of it
"""


@click.command("protect", cls=Command, examples=EXAMPLES)
@repository_argument
@option("--redundancy", metavar="SHARE", type=Percent(), required=True, section="How",
        help="How much of a file may be damaged and still heals, 1% to 100%: about as much space "
             "is taken. 0 removes all parity.")  # fmt: skip
@line_options
@quiet_option
@json_option
def command(*, repository: bytes, redundancy: int, line: Line, quiet: bool, as_json: bool) -> int:
    """Add parity, by which damage up to a share heals.

    Beside each file of the repository a second one is written, by which ibtfs check --repair makes
    lost blocks again. Backups, and prune, protect what they write from then on. It is run once, and
    again to change the share, or to protect what could not be before. Any manifest may be lost
    altogether; of other files up to the share. What is damaged already is named, and not protected.
    """
    from ibtfs.actions.protect import protect

    began = time.monotonic()
    repo = line.open(repository)
    with Reporter(quiet=quiet, verbose=False, as_json=as_json) as reporter:
        result = protect(repo, redundancy, reporter)
    code = INCOMPLETE if result.kept.failed else DONE
    if as_json:
        emit_json(_json(result, code))
        return code
    for message in result.kept.failed:
        complain(f"Not protected: {message}")
    if not quiet:
        say(_summary(result, redundancy, time.monotonic() - began))
    return code


def _summary(result: Protected, share: int, seconds: float) -> str:
    if not share:
        return f"Not protected any more: {counted(result.removed, 'file')} of parity removed"
    kept = result.kept
    done = f"{counted(kept.files, 'file')} more, by {human_size(kept.written)} of parity"
    return f"Protected by {share} %: {done}, in {human_seconds(seconds)}"


def _json(result: Protected, code: int) -> dict[str, Any]:
    return {**asdict(result.kept), "removed": result.removed, "exit_code": code}
