"""POSIX ACLs where the kernel does not go by them: permissions that grant no more than they do.

Pure.
"""

from __future__ import annotations

import struct

ACCESS_ACL = b"system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_USER, _GROUP_OWNER, _GROUP, _MASK, _OTHER = 0x02, 0x04, 0x08, 0x10, 0x20
_ALL = 7


def cautious_mode(mode: int, acl: bytes) -> int:
    """*mode* without what *acl*, the value of the attribute, denies to anybody it names.

    By the result alone nobody may do what the ACL forbids; some may not do what it allows.
    """
    if acl[:4] != _VERSION or len(acl) % _ENTRY.size != 4:
        return mode & ~0o077
    entries = [(tag, permissions) for tag, permissions, _ in _ENTRY.iter_unpack(acl[4:])]
    single = {_GROUP_OWNER: 0, _MASK: _ALL, _OTHER: 0} | dict(entries)
    mask = single[_MASK]
    users = groups = _ALL
    for tag, permissions in entries:
        users &= permissions & mask if tag == _USER else _ALL
        groups &= permissions & mask if tag == _GROUP else _ALL
    return (
        mode & ~0o077
        | (single[_GROUP_OWNER] & mask & users) << 3
        | (single[_OTHER] & users & groups)
    )
