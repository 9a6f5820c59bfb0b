"""What a removal of points does to the space: what pruning would free, or what it freed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ibtfs.cli.cache_folder import cache_folder
from ibtfs.cli.freeing import Pruning
from ibtfs.cli.output import complain, human_size, say

if TYPE_CHECKING:
    from ibtfs.cli.forget_choices import Removing
    from ibtfs.cli.removal import RemovalReport
    from ibtfs.store.repository import Repository


class Space:
    """The space of what was removed from *repository*: foretold, freed, or left for later.

    All is done when it is made.
    """

    def __init__(
        self, repository: Repository, report: RemovalReport, removing: Removing, *, quiet: bool,
        as_json: bool,
    ) -> None:  # fmt: skip
        self._quiet = quiet
        self._pruning: Pruning | None = None
        self._foretold: int | None = None
        self._error = ""
        if removing.dry_run:
            if report.removed and (as_json or not quiet):
                self._foretell(repository, report.removed)
        elif removing.prune:
            self._prune(repository, removing, as_json=as_json)

    def _foretell(self, repository: Repository, gone: list[str]) -> None:
        from ibtfs.actions.prune.decide import decide
        from ibtfs.errors import IbtfsError

        try:
            self._foretold = decide(repository, without=gone).freed
        except IbtfsError as error:
            self._error = str(error)

    def _prune(self, repository: Repository, removing: Removing, *, as_json: bool) -> None:
        from ibtfs.actions.prune.run import PruneOptions

        self._pruning = Pruning(PruneOptions(cache=cache_folder(), allow_none=removing.allow_none))
        self._pruning.run(repository, quiet=self._quiet, as_json=as_json)

    @property
    def exit_code(self) -> int:
        """How pruning ended."""
        return self._pruning.exit_code if self._pruning else 0

    def json(self) -> dict[str, Any]:
        """What is told to scripts."""
        if self._pruning:
            return {"prune": self._pruning.json()}
        return {} if self._foretold is None else {"would_free": self._foretold}

    def tell(self) -> None:
        """Say it to people."""
        if self._pruning:
            self._pruning.tell(quiet=self._quiet)
        elif self._error:
            complain(f"What pruning would free cannot be told: {self._error}")
        elif self._foretold is not None:
            say(f"Pruning then would free {human_size(self._foretold)}")
