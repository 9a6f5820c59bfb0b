"""The folders above a source: who could reach it there."""

from __future__ import annotations

import os
import stat

from ibtfs.format.acl import ACCESS_ACL
from ibtfs.format.point import PARENTS_LIMIT, Parent

_ABOVE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_BY_ACL = 0o077


def parents_of(folder: int, *, itself: bool = False) -> tuple[Parent, ...] | None:
    """The folders above the open *folder*, nearest first; *itself* says that it is one of them.

    Found by going up from it: names, and links in them, may lead elsewhere meanwhile.  None if
    that cannot be told.
    """
    found: list[Parent] = []
    below = os.fstat(folder)
    try:
        descriptor = os.open(".", _ABOVE, dir_fd=folder)
        try:
            if itself:
                found.append(_parent(descriptor, below))
            while len(found) < PARENTS_LIMIT:
                above = os.open("..", _ABOVE, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = above  # before anything can fail: it is closed once
                status = os.fstat(above)
                if (status.st_dev, status.st_ino) == (below.st_dev, below.st_ino):
                    return tuple(found)  # nothing is above the root
                found.append(_parent(descriptor, status))
                below = status
        finally:
            os.close(descriptor)
    except OSError:
        pass
    return None


def _parent(descriptor: int, found: os.stat_result) -> Parent:
    """What permissions it has; where an ACL says more, no more than its owner's."""
    mode = stat.S_IMODE(found.st_mode) & 0o777
    try:
        os.getxattr(f"/proc/self/fd/{descriptor}", os.fsdecode(ACCESS_ACL))
    except OSError:
        return Parent(mode, found.st_uid, found.st_gid)
    return Parent(mode & ~_BY_ACL, found.st_uid, found.st_gid)
