"""ACLs as Linux stores them: entries come back, those of names, and nonsense is left alone."""

from __future__ import annotations

import struct

import pytest

from ibtfs.format import acl
from ibtfs.format.acl import AclEntry, acl_entries, named_numbers, renumbered

NOBODY = 0xFFFFFFFF
ENTRIES = [
    (0x01, 6, NOBODY), (0x02, 4, 1000), (0x02, 7, 1001), (0x04, 4, NOBODY), (0x08, 5, 1000),
    (0x08, 0, 2000), (0x10, 7, NOBODY), (0x20, 0, NOBODY),
]  # fmt: skip


def packed(*entries: tuple[int, int, int], version: int = 2) -> bytes:
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_entries_come_back() -> None:
    assert acl_entries(packed(*ENTRIES)) == [AclEntry(*entry) for entry in ENTRIES]
    assert acl_entries(packed()) == []
    tags = (acl.USER_OWNER, acl.USER, acl.GROUP_OWNER, acl.GROUP, acl.MASK, acl.OTHER)
    assert list(tags) == sorted({tag for tag, _, _ in ENTRIES})


@pytest.mark.parametrize(
    "value",
    [b"", b"\2\0\0", packed(version=1), packed(*ENTRIES, version=3), packed(*ENTRIES)[:-1],
     packed(*ENTRIES) + b"1", packed(*ENTRIES) + bytes(4), packed(*ENTRIES)[:-4]],
)  # fmt: skip
def test_what_is_no_acl_is_left_as_it_is(value: bytes) -> None:
    assert acl_entries(value) is None
    assert renumbered(value, {1000: 5}, {1000: 5}) is value
    assert named_numbers({acl.ACCESS_ACL: value}) == (set(), set())


def test_users_and_groups_that_are_named_get_other_numbers() -> None:
    changed = acl_entries(renumbered(packed(*ENTRIES), {1000: 5, NOBODY: 0}, {1000: 6, 2000: 7}))
    assert changed == [
        (1, 6, NOBODY), (2, 4, 5), (2, 7, 1001), (4, 4, NOBODY), (8, 5, 6), (8, 0, 7),
        (16, 7, NOBODY), (32, 0, NOBODY),
    ]  # fmt: skip


def test_both_acls_of_an_entry_name_somebody() -> None:
    other = packed((0x02, 7, 3000), (0x08, 7, 4000))
    found = named_numbers({
        b"user.a": packed((0x02, 7, 5000)), b"system.posix_acl_access": packed(*ENTRIES),
        b"system.posix_acl_default": other,
    })  # fmt: skip
    assert found == ({1000, 1001, 3000}, {1000, 2000, 4000})
    assert named_numbers({}) == (set(), set())
