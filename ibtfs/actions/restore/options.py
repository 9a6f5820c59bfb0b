"""What can be chosen about a restore."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ibtfs.errors import UsageError
from ibtfs.format.patterns import Patterns


class Overwrite(str, Enum):
    """What becomes of files that exist; IF_CHANGED overwrites those whose size or time differ."""

    REFUSE = "refuse"
    ALWAYS = "always"
    IF_CHANGED = "if-changed"
    NEVER = "never"


@dataclass(frozen=True)
class RestoreOptions:
    """How to restore.

    *overwrite* is an Overwrite, or the text of one; *delete* removes what the point does not have
    from restored folders; *include* and *exclude* are matched with paths relative to the source.
    """

    overwrite: str = Overwrite.REFUSE
    delete: bool = False
    include: Patterns | None = None
    exclude: Patterns | None = None
    dry_run: bool = False
    numeric_ids: bool = False

    def check(self) -> None:
        """Raise UsageError unless they fit together."""
        known = [one.value for one in Overwrite]
        if self.overwrite not in known:
            raise UsageError(
                f"{self.overwrite!r} does not say what becomes of existing files: "
                f"{', '.join(known)} do"
            )
        if self.delete and self.overwrite == Overwrite.REFUSE:
            raise UsageError("--delete needs --overwrite: say what becomes of existing files")

    @property
    def replaces(self) -> bool:
        """Whether what exists may be overwritten."""
        return self.overwrite in (Overwrite.ALWAYS, Overwrite.IF_CHANGED)

    def includes(self, path: bytes, is_folder: bool) -> bool:
        """Whether *path* is restored, with all that is in it."""
        return self.include is None or self.include.match(path, is_folder)

    def excludes(self, path: bytes, is_folder: bool) -> bool:
        """Whether *path* is left out."""
        return self.exclude is not None and self.exclude.match(path, is_folder)
