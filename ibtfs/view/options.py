"""What can be chosen about a mounted tree: its points, their names, owners, modes, links.

Values, and pure functions of them; the defaults show everything as it was stored.
"""

from __future__ import annotations

import stat
from datetime import tzinfo
from typing import NamedTuple

from ibtfs.format.point import Point
from ibtfs.view.node import Attributes

READ_WRITE = 0o666
EVERYTHING = 0o777


class ViewOptions(NamedTuple):
    """Choices for a whole view; None, and what is empty, leaves things as they are.

    *point_format* names points by strftime, *zone* is the time zone of the names (None: the
    system's).  Only points of *sources*, by the names that are shown, made after *newer_ns* and at
    or before *older_ns*, are in the tree.  *uid* and *gid* own everything; *umask* says what is
    missing from the permissions of everything, ACLs then do not count.  *inside_links* makes
    absolute symbolic links that led into the source lead into the same point.  *for_others* says
    that others than who mounts may look: then roots of points keep out whom the folders above
    their sources kept out.
    """

    point_format: str = ""
    zone: tzinfo | None = None
    sources: frozenset[str] = frozenset()
    newer_ns: int | None = None
    older_ns: int | None = None
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    inside_links: bool = False
    for_others: bool = False

    def shows_source(self, name: str) -> bool:
        """Whether the source called *name* is in the tree."""
        return not self.sources or name in self.sources

    def shows(self, point: Point) -> bool:
        """Whether *point* was made when points in the tree were."""
        after = self.newer_ns is None or point.time_ns > self.newer_ns
        return after and (self.older_ns is None or point.time_ns <= self.older_ns)

    def presented(self, found: Attributes) -> Attributes:
        """*found* with the owner and the permissions that were chosen."""
        if self.uid is None and self.gid is None and self.umask is None:
            return found
        return found._replace(
            uid=found.uid if self.uid is None else self.uid,
            gid=found.gid if self.gid is None else self.gid,
            mode=found.mode if self.umask is None else _permitted(found.mode, self.umask),
        )


def _permitted(mode: int, umask: int) -> int:
    """*mode* with all permissions but those of *umask*; what nobody could run stays so."""
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        return mode
    runs = kind == stat.S_IFDIR or (kind == stat.S_IFREG and mode & 0o111)
    return kind | ((EVERYTHING if runs else READ_WRITE) & ~umask)
