"""POSIX ACLs as Linux gives them in extended attributes: a version, then entries of eight bytes.

The layout is that of ``linux/posix_acl_xattr.h``.  Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

ACCESS_ACL = b"system.posix_acl_access"
DEFAULT_ACL = b"system.posix_acl_default"
USER_OWNER, USER, GROUP_OWNER, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
"""Tags of entries."""

_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")


class AclEntry(NamedTuple):
    """What one entry grants; *number* is of a user or group where the tag is USER or GROUP."""

    tag: int
    permissions: int
    number: int


def acl_entries(value: bytes) -> list[AclEntry] | None:
    """The entries of an ACL; None where *value* is not one."""
    if value[:4] != _VERSION or len(value) % _ENTRY.size != 4:
        return None
    return list(map(AclEntry._make, _ENTRY.iter_unpack(value[4:])))


def named_numbers(xattrs: Mapping[bytes, bytes]) -> tuple[set[int], set[int]]:
    """The users and the groups that the ACLs among *xattrs* name."""
    users: set[int] = set()
    groups: set[int] = set()
    for name in (ACCESS_ACL, DEFAULT_ACL):
        for entry in acl_entries(xattrs.get(name, b"")) or ():
            if entry.tag == USER:
                users.add(entry.number)
            elif entry.tag == GROUP:
                groups.add(entry.number)
    return users, groups


def renumbered(value: bytes, users: Mapping[int, int], groups: Mapping[int, int]) -> bytes:
    """The ACL *value* with other numbers for its users and groups; as it is if it is none.

    The kernel takes entries in any order.
    """
    found = acl_entries(value)
    if found is None:
        return value
    maps: dict[int, Mapping[int, int]] = {USER: users, GROUP: groups}
    packed = [
        _ENTRY.pack(tag, permissions, maps.get(tag, {}).get(number, number))
        for tag, permissions, number in found
    ]
    return _VERSION + b"".join(packed)
