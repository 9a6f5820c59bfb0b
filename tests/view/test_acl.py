"""Modes for those who cannot be shown an ACL: they grant no more than it does."""

from __future__ import annotations

import functools
import operator
import random

from ibtfs.view.acl import cautious_mode
from tests.support.trees import posix_acl

NOBODY = 0xFFFFFFFF


def allows(mode: int, acl: list[tuple[int, int, int]] | None, user: int, group: int) -> int:
    """What *user*, not the owner, in *group* (0 is the file's) may do: as acl(5) has it."""
    if acl is None:
        return mode >> 3 & 7 if group == 0 else mode & 7
    (mask,) = [perm for tag, perm, _ in acl if tag == 16] or [7]
    for tag, perm, who in acl:
        if tag == 2 and who == user:
            return perm & mask
    matching = [perm & mask for tag, perm, who in acl
                if (tag == 4 and group == 0) or (tag == 8 and who == group)]  # fmt: skip
    if matching:
        return functools.reduce(operator.or_, matching)
    return next(perm for tag, perm, _ in acl if tag == 32)


def test_cautious_modes_grant_no_more_than_the_acl() -> None:
    dice = random.Random(1)
    for _ in range(2000):
        acl = [(1, dice.randrange(8), NOBODY)]
        acl += [
            (2, dice.randrange(8), user) for user in dice.sample(range(1, 4), dice.randrange(3))
        ]
        acl += [(4, dice.randrange(8), NOBODY)]
        acl += [(8, dice.randrange(8), group) for group in dice.sample((1, 2), dice.randrange(3))]
        acl += [(16, dice.randrange(8), NOBODY), (32, dice.randrange(8), NOBODY)]
        mode = cautious_mode(0o104777, posix_acl(*acl))
        assert mode & ~0o077 == 0o104700
        for user in range(1, 5):
            for group in range(4):
                assert allows(mode, None, user, group) & ~allows(0, acl, user, group) == 0
    for broken in (b"", b"\2\0\0\0xx", b"\1\0\0\0"):
        assert cautious_mode(0o100666, broken) == 0o100600
    plain = posix_acl((1, 6, NOBODY), (2, 6, 1), (4, 4, NOBODY), (16, 6, NOBODY), (32, 4, NOBODY))
    assert cautious_mode(0o100664, plain) == 0o100644
