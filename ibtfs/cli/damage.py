"""Damage as commands tell it, and what a repair did about it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ibtfs.cli.exit_codes import DONE, FAILURE, INCOMPLETE
from ibtfs.cli.output import complain, counted, emit_json, json_bytes, say, shown
from ibtfs.cli.progress import Reporter
from ibtfs.errors import IntegrityError, NotARepository

if TYPE_CHECKING:
    from ibtfs.actions.check import CheckResult
    from ibtfs.actions.damages import Damage
    from ibtfs.actions.repair.run import RepairResult
    from ibtfs.cli.line import Line
    from ibtfs.store.repository import Repository
    from ibtfs.store.storage.opening import Place

PATHS_SHOWN = 5


class DamageReporter(Reporter):
    """Says nothing of damage on the way: it is listed at the end, with all that it hit."""

    def problem(self, path: bytes, message: str) -> None:
        """Wait for the list."""


def tell_damage(damage: Damage) -> None:
    """Name a damage, and the points and paths that it hit."""
    message = damage.message
    complain(message if damage.object in message else f"{damage.object}: {message}")
    if damage.points:
        complain(f"  points: {', '.join(damage.points)}")
    for path in damage.paths[:PATHS_SHOWN]:
        complain(f"  path: {shown(path)}")
    more = len(damage.paths) - PATHS_SHOWN
    if more > 0:
        complain(f"  and {counted(more, 'more path')}")


def json_damages(result: CheckResult, code: int) -> dict[str, Any]:
    """What check found, for --json."""
    damages = [
        {
            "object": damage.object,
            "message": damage.message,
            "points": damage.points,
            "paths": [json_bytes(path) for path in damage.paths],
        }
        for damage in result.damages
    ]
    error = {"error": f"{counted(len(damages), 'damage')} found"} if damages else {}
    found = {"damages": damages, "missing": list(result.missing), "counts": dict(result.counts)}
    return {**error, **found, "exit_code": code}


@dataclass(frozen=True)
class RepairChoices:
    """How a command repairs: *dry_run* only says what it would do, *other* is asked for bytes.

    *line* is how the repository is opened.
    """

    line: Line
    dry_run: bool = False
    wait: float = 600.0
    other: Repository | None = None


def repaired(place: Place, choices: RepairChoices, *, quiet: bool, as_json: bool) -> int:
    """Repair the repository at *place*, and tell of it; the exit code.

    Raises NotARepository, RepositoryLocked, IbtfsError.
    """
    from ibtfs.actions.repair.run import RepairOptions, repair

    repository, is_healed = _opened(place, choices)
    with DamageReporter(quiet=quiet, verbose=False, as_json=as_json) as reporter:
        options = RepairOptions(
            dry_run=choices.dry_run,
            wait=choices.wait,
            host=os.uname().nodename,
            other=choices.other,
        )
        result = repair(repository, options, reporter)
    if is_healed:
        result.healed = {CONFIG: is_healed, **result.healed}
    code = _code(result)
    if as_json:
        left = json_damages(result.left, code) if result.left else {}
        if code == INCOMPLETE:
            left.pop("error", None)  # it did what could be done
        emit_json({**left, "healed": result.healed, "unhealed": result.unhealed})
    else:
        _tell(result, code, quiet=quiet, dry_run=choices.dry_run)
    return code


CONFIG = "ibtfs.json"


def _opened(place: Place, choices: RepairChoices) -> tuple[Repository, str]:
    """The repository at *place*, and how its configuration was healed if it had to be."""
    from ibtfs.store.mending.copies import configured_by
    from ibtfs.store.protection.healing import heal_configuration
    from ibtfs.store.storage.opening import storage_at

    try:
        return choices.line.open_at(place), ""
    except (NotARepository, IntegrityError):
        if choices.dry_run or not storage_at(place).has_folder(""):
            raise
        if heal_configuration(place):
            return choices.line.open_at(place), "healed by parity"
        if choices.other is None:
            raise
    return configured_by(place, choices.other), "taken from the copy"


def _code(result: RepairResult) -> int:
    if result.is_all_well:
        return DONE
    return INCOMPLETE if result.healed else FAILURE


def _tell(result: RepairResult, code: int, *, quiet: bool, dry_run: bool) -> None:
    if not quiet:
        for name, done in result.healed.items():
            say(f"{name}: {done}")
    for message in result.unhealed.values():
        complain(message)
    damages = result.left.damages if result.left else []
    for damage in damages:
        tell_damage(damage)
    healed = counted(len(result.healed), "object")
    if dry_run:
        if not quiet:
            say(f"Would heal {healed}, of what is damaged now" if result.healed else
                "Nothing that could be healed")  # fmt: skip
    elif damages:
        complain(f"{healed} healed, {counted(len(damages), 'damage')} left: lost, unless a copy of "
                 "the repository has it (ibtfs repair --from COPY)")  # fmt: skip
    elif not result.is_all_well:
        complain(f"{healed} healed, and not all: run ibtfs repair --from COPY again")
    elif not quiet:
        say(f"No damage is left: {healed} healed" if result.healed else "No damage")
