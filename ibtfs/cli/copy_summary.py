"""What ``ibtfs copy`` tells at its end: for people, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ibtfs.cli.exit_codes import DONE, FAILURE, INCOMPLETE
from ibtfs.cli.output import (
    complain,
    counted,
    emit_json,
    human_seconds,
    human_size,
    json_bytes,
    printable,
    say,
    shown,
)
from ibtfs.cli.points import tell_damaged
from ibtfs.cli.progress import json_problems

if TYPE_CHECKING:
    from ibtfs.actions.copy.run import CopyResult
    from ibtfs.actions.copy.work import Copied
    from ibtfs.actions.forget.run import Forgotten
    from ibtfs.errors import IbtfsError
    from ibtfs.format.point import Point
    from ibtfs.store.repository import Repository


class CopyReport:
    """What a copy from *there* to what lies at *here* came to; *created*: that was made for it.

    *gone* are the points that are, or were, to be removed, *removal* is what became of that.
    """

    def __init__(self, there: Repository, here: bytes, *, created: bool, dry_run: bool) -> None:
        self._there, self._here, self._created, self._dry_run = there, here, created, dry_run
        self.result: CopyResult | None = None
        self.gone: list[Point] = []
        self.removal: Forgotten | None = None
        self.removal_error: IbtfsError | None = None
        self.notes: list[str] = []

    @property
    def _done(self) -> CopyResult:
        assert self.result is not None  # it is asked for at the end
        return self.result

    @property
    def exit_code(self) -> int:
        """That of what ended it early; 3 when something was missed."""
        error = self._done.error or self.removal_error
        if error is not None:
            return error.exit_code
        refused = self.removal is not None and self.removal.refused
        if self._done.is_all_well and not refused:
            return DONE
        nothing = self._done.failed and not self._done.copied and not self._done.found.already
        return FAILURE if nothing else INCOMPLETE

    def tell(self, *, quiet: bool) -> None:
        """Print it; with *quiet* only what went wrong."""
        done = self._done
        if self._created and not quiet:
            say(f"Made the repository {shown(self._here)}")
        tell_damaged(done.found.there.damaged)
        if not quiet:
            self._tell_points()
        for one in done.copied:
            if one.tally.problems:
                complain(self._incomplete(one))
        for message in done.failed.values():
            complain(f"Not copied: {message}")
        for error in (done.error, self.removal_error):
            if error is not None:
                complain(str(error))
        if self.removal is not None:
            for error in self.removal.refused.values():
                complain(f"Not removed: {error}")
        if not quiet:
            self._tell_sums()

    def _incomplete(self, one: Copied) -> str:
        problems = counted(one.tally.counts["problems"], "problem")
        return (
            f"{one.there.id}: {problems}, see above; the copy is incomplete: repair FROM (ibtfs "
            "check --repair), then copy again"
        )

    def _tell_points(self) -> None:
        if self._dry_run:
            for point in self._done.found.wanted:
                files, size = (point.statistics.get(key, 0) for key in ("files", "bytes"))
                say(f"Would copy {self._title(point)}: {counted(files, 'file')}, "
                    f"{human_size(size)}")  # fmt: skip
            for point in self.gone:
                say(f"Would remove {self._title(point)}")
            return
        for one in self._done.copied:
            if one.here is not None:
                counts = one.tally.counts
                read, stored = (human_size(counts[k]) for k in ("bytes_read", "bytes_stored"))
                say(f"Copied {self._title(one.here)}: {read} read, {stored} stored, in "
                    f"{human_seconds(one.seconds)}")  # fmt: skip
        for point in self._removed():
            say(f"Removed {self._title(point)}")

    def _title(self, point: Point) -> str:
        return f"{printable(point.display)} {point.id}"

    def _removed(self) -> list[Point]:
        if self.removal is None:
            return []
        return [point for point in self.gone if point.id not in self.removal.refused]

    def _tell_sums(self) -> None:
        found = self._done.found
        new = [one for one in self._done.copied if one.here is not None]
        count = len(found.wanted) if self._dry_run else len(new)
        parts = [f"{counted(count, 'point')} {'to be copied' if self._dry_run else 'copied'}"]
        parts.append(f"{len(found.already):,} there already")
        if found.declined:
            parts.append(
                f"{len(found.declined):,} removed there on purpose, and copied only if named"
            )
        say(", ".join(parts))

    def emit(self) -> None:
        """Print the JSON object."""
        done, found = self._done, self._done.found
        answer: dict[str, Any] = {
            **json_bytes(self._there.path, "from"),
            **json_bytes(self._here, "to"),
            "created": self._created,
            "dry_run": self._dry_run,
            "points": [self._row(one) for one in done.copied],
            "to_copy": [self._about(point) for point in found.wanted] if self._dry_run else [],
            "already": [point.id for point in found.already],
            "declined": [point.id for point in found.declined],
            "gone": [self._about(point) for point in self.gone] if self._dry_run else [],
            "removed": [self._about(point) for point in self._removed()],
            "notes": self.notes,
        }
        failed = [{"id": name, "message": message} for name, message in done.failed.items()]
        failed += [{"id": k, "message": str(v)} for k, v in found.there.damaged.items()]
        refused = self.removal.refused if self.removal is not None else {}
        failed += [{"id": name, "message": str(why)} for name, why in refused.items()]
        if failed:
            answer["problems"] = failed
        error = done.error or self.removal_error
        if error is not None or self.exit_code == FAILURE:
            answer["error"] = str(error) if error else failed[0]["message"]
        emit_json({**answer, "exit_code": self.exit_code})

    def _about(self, point: Point) -> dict[str, Any]:
        return {"id": point.id, "source": point.display}

    def _row(self, one: Copied) -> dict[str, Any]:
        counts = one.tally.counts
        return {
            "id": one.there.id,
            "copy": one.here.id if one.here is not None else None,
            "source": one.there.display,
            "bytes_read": counts["bytes_read"],
            "bytes_stored": counts["bytes_stored"],
            "seconds": round(one.seconds, 3),
            "problem_count": counts["problems"],
            "problems": json_problems(one.tally.problems),
        }
