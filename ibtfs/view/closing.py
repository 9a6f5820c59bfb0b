"""What others may see of a backup point: nothing that they could not reach where its source lay.

A folder of its own keeps everybody out of what is below it.  In a mount the folders above a source
are not there, so the root of a point lets in those alone who certainly got so far.
"""

from __future__ import annotations

import os
from dataclasses import replace

from ibtfs.format.acl import ACCESS_ACL
from ibtfs.format.entry import GID, MODE, UID, XATTRS
from ibtfs.format.point import Parent, Point

_OWNER, _GROUP, _OTHER = 0o700, 0o070, 0o007
_ROOT = 0  # goes everywhere


def closed(point: Point) -> Point:
    """*point* with a root that keeps out whom a folder above its source may have kept out.

    Of points that tell nothing of these folders only the owner of the root sees something.
    """
    root = point.root
    mode = root[MODE] & ~_kept_out(point.parents, root[UID], root[GID])
    if mode == root[MODE]:
        return point
    extras = dict(point.root_extras)
    attributes = extras.get(XATTRS, {})
    if ACCESS_ACL in attributes:  # whom it names may have been kept out as well
        mode &= ~(_GROUP | _OTHER)
        extras[XATTRS] = {n: value for n, value in attributes.items() if n != ACCESS_ACL}
    uid, gid, size, mtime_ns, ctime_ns, inode, links = root[2:]
    shown = (root[0], mode, uid, gid, size, mtime_ns, ctime_ns, inode, links)
    return replace(point, root=shown, root_extras=extras)


def _kept_out(parents: tuple[Parent, ...] | None, uid: int, gid: int) -> int:
    """The permissions of a root, owned by *uid* and *gid*, of those who may not have got so far."""
    if parents is None:
        return _GROUP | _OTHER
    kept = 0
    for parent in parents:
        owner, group, other = (bool(parent.mode & bit) for bit in (0o100, 0o010, 0o001))
        # who somebody is to a folder decides, and of most people it is not known which groups
        # they are in: what is not sure counts as no
        anybody = group and other
        same_owner, same_group = parent.uid == uid, parent.gid == gid
        if not (owner if same_owner else anybody) and uid not in (_ROOT, os.getuid()):
            kept |= _OWNER
        not_owner = same_owner or parent.uid == _ROOT  # of the other classes nobody is, then
        if not ((not_owner or owner) and (group if same_group else anybody)):
            kept |= _GROUP
        if not ((not_owner or owner) and (other if same_group else anybody)):
            kept |= _OTHER
    return kept
