"""Whose ground it is: nobody gets, by a restore, what he put in the place of his own.

Who owns a folder may rename what lies in it, also a folder of somebody else that he may not look
into.  So below a folder that belongs to neither root nor us, to its *keeper*, what belongs to
others and was not made by the restore gets no other owner, no ACL and no more permissions: a file
is replaced by a new one, a folder that is not empty keeps what it has, and that is told.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

NOBODY_ELSE = -1
"""The keeper where there is none: nobody but root and us can swap anything."""


class Held(NamedTuple):
    """An open folder.

    *fresh*: made by this restore, and empty.  *keeper* is the user who else may swap what lies in
    it, *kept* says why its metadata are to stay as they are; empty if they are not.
    """

    descriptor: int
    fresh: bool
    keeper: int
    kept: str = ""


NOT_OPEN = Held(-1, False, NOBODY_ELSE)
"""A folder that is not there, or not yet."""


class Territory:
    """Knows whom to trust: root, us, and who owns the machine's topmost folder."""

    def __init__(self) -> None:
        self._self = os.geteuid()
        # in a namespace of users, root of the outer one goes by another number
        self.trusted = frozenset({0, self._self, os.stat(b"/").st_uid})

    def keeper(self, above: int, folder: os.stat_result) -> int:
        """Who may swap what lies in *folder*, where *above* may swap the folder itself."""
        if above != NOBODY_ELSE or folder.st_uid in self.trusted:
            return above
        return folder.st_uid

    def is_anothers(self, keeper: int, found: os.stat_result) -> bool:
        """Whether *found*, in ground of *keeper*, is somebody else's that he may have put there."""
        return keeper not in (NOBODY_ELSE, found.st_uid)

    def held(
        self, descriptor: int, keeper: int, opens: Callable[[os.stat_result], bool], *, made: bool
    ) -> Held:
        """An open folder that lies in ground of *keeper*.

        *opens* tells whether its new metadata might let somebody at what is in it; *made*: it
        should be the one just made.  Raises OSError.
        """
        found = os.fstat(descriptor)
        inner = self.keeper(keeper, found)
        if not self.is_anothers(keeper, found):
            # his own, or nobody else can get here; just made, it would be ours
            return Held(descriptor, made and keeper == NOBODY_ELSE, inner)
        if not os.listdir(descriptor):
            return Held(descriptor, made and found.st_uid == self._self, inner)
        kept = (
            f"belongs to user {found.st_uid}, in a folder of user {keeper}, who may have put it "
            "there: its owner and permissions were left as they are"
        )
        return Held(descriptor, False, inner, kept if opens(found) else "")
