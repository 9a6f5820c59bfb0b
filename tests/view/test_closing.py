"""Roots of points keep out whom the folders above their sources kept out."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from ibtfs.format.acl import ACCESS_ACL
from ibtfs.format.entry import MODE, XATTRS
from ibtfs.format.index import Reference
from ibtfs.format.point import Parent, Point, Source
from ibtfs.view.closing import closed

ME, MINE, STAFF = 1000, 1000, 50
POINT = Point(
    id="", sequence=0, epoch=0, time_ns=0, utc_offset=0, source=Source("host", b"/x"),
    display="x", root=(b"", 0o40755, ME, MINE, 4096, 1, 1, 1, 2), state=Reference("aaaaaaaa.0", 3),
    digest=bytes(32),
)  # fmt: skip
TOP = Parent(0o755, 0, 0)


@pytest.mark.parametrize(
    ("parents", "mode"),
    [
        ((), 0o755),
        ((TOP, TOP), 0o755),
        ((Parent(0o700, ME, MINE), TOP), 0o700),
        ((Parent(0o711, ME, MINE), TOP), 0o755),
        ((Parent(0o750, ME, MINE), TOP), 0o750),
        ((Parent(0o750, ME, STAFF), TOP), 0o700),  # whoever is in staff is not told
        ((Parent(0o700, 0, 0), TOP), 0o000),
        ((TOP, Parent(0o700, 0, 0)), 0o000),
        ((Parent(0o710, 0, MINE), TOP), 0o050),  # he who owns it may be in no group of its own
        ((Parent(0o701, 0, STAFF), TOP), 0o000),
        ((Parent(0o071, 7, 7), TOP), 0o700),
        ((Parent(0o755, 7, 7), TOP), 0o755),
        (None, 0o700),
    ],
)
def test_whoever_may_not_have_got_to_the_source_is_kept_out(parents: Any, mode: int) -> None:
    shown = closed(replace(POINT, parents=parents))
    assert shown.root[MODE] == 0o40000 | mode
    assert replace(shown, root=POINT.root) == replace(POINT, parents=parents)


def test_an_acl_lets_nobody_in_whom_a_folder_above_may_have_kept_out() -> None:
    acl = struct.pack("<I", 2) + struct.pack("<HHI", 2, 7, 7)
    extras = {XATTRS: {ACCESS_ACL: acl, b"user.a": b"b"}}
    shut = closed(replace(POINT, root_extras=extras, parents=(Parent(0o750, ME, MINE), TOP)))
    assert shut.root[MODE] == 0o40700
    assert shut.root_extras == {XATTRS: {b"user.a": b"b"}}
    known = replace(POINT, root_extras=extras, parents=(TOP,))
    assert closed(known) is known
