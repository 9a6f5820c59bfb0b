"""POSIX ACLs where the kernel does not go by them: permissions that grant no more than they do.

Pure.
"""

from __future__ import annotations

from ibtfs.format.acl import GROUP, GROUP_OWNER, MASK, OTHER, USER, acl_entries

_ALL = 7


def cautious_mode(mode: int, acl: bytes) -> int:
    """*mode* without what *acl*, the value of the attribute, denies to anybody it names.

    By the result alone nobody may do what the ACL forbids; some may not do what it allows.
    """
    entries = acl_entries(acl)
    if entries is None:
        return mode & ~0o077
    single = {GROUP_OWNER: 0, MASK: _ALL, OTHER: 0} | {e.tag: e.permissions for e in entries}
    mask = single[MASK]
    users = groups = _ALL
    for tag, permissions, _ in entries:
        users &= permissions & mask if tag == USER else _ALL
        groups &= permissions & mask if tag == GROUP else _ALL
    return (
        mode & ~0o077 | (single[GROUP_OWNER] & mask & users) << 3 | (single[OTHER] & users & groups)
    )
