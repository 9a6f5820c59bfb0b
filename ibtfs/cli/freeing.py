"""Telling what a prune freed, or would free."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ibtfs.cli.exit_codes import DONE, INCOMPLETE
from ibtfs.cli.output import complain, counted, human_seconds, human_size, say
from ibtfs.cli.progress import Reporter

if TYPE_CHECKING:
    from ibtfs.actions.prune.run import PruneOptions, PruneResult
    from ibtfs.store.repository import Repository

SHOWN = 5


class Pruning:
    """A prune that a command does, and what it tells of it."""

    def __init__(self, options: PruneOptions) -> None:
        self._options = options
        self._began = time.monotonic()
        self._result: PruneResult | None = None

    def run(self, repository: Repository, *, quiet: bool, as_json: bool) -> None:
        """Prune.  Raises as the action does."""
        from ibtfs.actions.prune.run import prune

        with Reporter(quiet=quiet, verbose=False, as_json=as_json) as reporter:
            self._result = prune(repository, self._options, reporter)

    @property
    def result(self) -> PruneResult:
        """What it did."""
        if self._result is None:
            raise ValueError("What was not done yet did nothing")
        return self._result

    @property
    def problems(self) -> list[str]:
        """What could not be done, and damage that was met."""
        return [*self.result.failed, *self.result.damages]

    @property
    def exit_code(self) -> int:
        """Whether all was done."""
        return INCOMPLETE if self.problems else DONE

    def json(self) -> dict[str, Any]:
        """What it did, for scripts."""
        return asdict(self.result)

    def tell(self, *, quiet: bool) -> None:
        """Say it to people."""
        for message in self.problems[:SHOWN]:
            complain(message)
        if len(self.problems) > SHOWN:
            complain(f"and {counted(len(self.problems) - SHOWN, 'more problem')}")
        if self.result.damages:
            complain("What is damaged may need anything, so all that hangs on it was kept: run "
                     "ibtfs check to see what it hit")  # fmt: skip
        if not quiet:
            say(self._summary())

    def _summary(self) -> str:
        result = self.result
        freed, size = human_size(max(result.freed, 0)), human_size(result.size)
        done = [counted(result.removed, "archive") + " removed"]
        done.append(f"{result.rewritten:,} written anew")
        if result.rebuilt:
            done.append(f"{counted(result.rebuilt, 'content')} rebuilt on what stays")
        if result.bundled:
            done.append(f"{result.bundled} put into bundles")
        if result.young:
            done.append(f"{result.young:,} kept for a backup that was cut off")
        what = ", ".join(done)
        if self._options.dry_run:
            room = human_size(result.room)
            needed = f"; {room} of free space needed meanwhile" if result.room else ""
            return f"Would free {freed} of {size}: {what}{needed}"
        return (
            f"Freed {freed} of {size}: {what}, in {human_seconds(time.monotonic() - self._began)}"
        )
