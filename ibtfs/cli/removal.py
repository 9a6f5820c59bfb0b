"""Telling which backup points were removed, and which could not be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ibtfs.cli.exit_codes import FAILURE, INCOMPLETE
from ibtfs.cli.output import complain, counted, emit_json, printable, say
from ibtfs.cli.points import tell_damaged

if TYPE_CHECKING:
    from ibtfs.actions.forget.run import Forgotten


class RemovalReport:
    """What a removal came to, for people and as JSON.

    *names* is that of each point, by its id, with the source before it.
    """

    def __init__(self, forgotten: Forgotten, *, dry_run: bool) -> None:
        from ibtfs.store.naming import displayed_names

        self.forgotten, self._dry_run = forgotten, dry_run
        self._points = {point.id: point for point in forgotten.points.points}
        self._names = displayed_names(forgotten.points.points)
        self.removed = [name for name in forgotten.gone if name not in forgotten.refused]

    @property
    def exit_code(self) -> int:
        """Whether all was done; rules that did not see a damaged point may have said another."""
        refused, by_rules = self.forgotten.refused, self.forgotten.groups is not None
        if refused and not self.removed:
            return FAILURE
        return INCOMPLETE if refused or (by_rules and self.forgotten.points.damaged) else 0

    def title(self, point_id: str) -> str:
        """A point for people: ``documents/2026-11-20_101502 (20261120T...)``."""
        point = self._points.get(point_id)
        if point is None:
            damaged = point_id in self.forgotten.points.damaged
            return f"{point_id} ({'damaged' if damaged else 'gone already'})"
        return f"{printable(point.display)}/{self._names[point_id]} ({point_id})"

    def about(self, point_id: str) -> dict[str, Any]:
        """A point as JSON; of one that is damaged, or gone, nothing but the id is known."""
        point = self._points.get(point_id)
        if point is None:
            return {"id": point_id}
        return {"id": point_id, "name": self._names[point_id], "source": point.display}

    def tell(self, *, quiet: bool, verb: str) -> None:
        """Say what was removed, each in a line that begins with *verb*; name what was not."""
        self.complain()
        for point_id in () if quiet else self.removed:
            say(f"{verb} {self.title(point_id)}")

    def complain(self) -> None:
        """Name the points that cannot be read, and those that could not be removed."""
        left = {k: v for k, v in self.forgotten.points.damaged.items() if k not in self.removed}
        tell_damaged(left)
        for error in self.forgotten.refused.values():
            complain(f"Not removed: {error}")

    def summary(self, staying: int) -> str:
        """One line of counts."""
        done = "Would remove" if self._dry_run else "Removed"
        return f"{done} {counted(len(self.removed), 'backup point')}; {staying:,} stay"

    def emit(self, answer: dict[str, Any], also: int = 0) -> None:
        """Print the JSON object: what every removal tells, and *answer*.

        *also* is how what was done besides ended.
        """
        result = {
            "removed": [self.about(point_id) for point_id in self.removed],
            "dry_run": self._dry_run,
            **answer,
        }
        problems = {**self.forgotten.points.damaged, **self.forgotten.refused}
        problems = {name: why for name, why in problems.items() if name not in self.removed}
        if problems:
            result["problems"] = [{"id": k, "message": str(v)} for k, v in problems.items()]
        if self.exit_code == FAILURE:
            result["error"] = "; ".join(str(error) for error in self.forgotten.refused.values())
        emit_json({**result, "exit_code": self.exit_code or also})
