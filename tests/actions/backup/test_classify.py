"""What has become of a file: by its stamp, and by its row when it was read for that."""

from __future__ import annotations

import stat

import pytest

from ibtfs.actions.backup.classify import CHANGED, NEW, UNCHANGED, classify, classify_read
from ibtfs.format.entry import BLOCKS, Stamp
from ibtfs.format.index import Reference
from ibtfs.store.trees.directory import Entry

MODE = stat.S_IFREG | 0o644
FILE: Stamp = (b"name", MODE, 1000, 100, 5, 10**18, 10**18 + 7, 77, 1)
LINKED = (*FILE[:8], 2)
RACY = (*FILE[:6], 0, *FILE[7:])
"""Its ctime was zeroed: a later change could have left the same one."""


def but(stamp: Stamp, place: int, value: object) -> Stamp:
    return (*stamp[:place], value, *stamp[place + 1 :])


@pytest.mark.parametrize(
    ("stamp", "old", "by_inodes", "without"),
    [
        (FILE, None, NEW, NEW),
        (FILE, FILE, UNCHANGED, UNCHANGED),
        (FILE, but(FILE, 1, MODE & ~0o044), CHANGED, CHANGED),
        (FILE, but(FILE, 2, 0), CHANGED, CHANGED),
        (FILE, but(FILE, 3, 0), CHANGED, CHANGED),
        (FILE, but(FILE, 4, 6), CHANGED, CHANGED),
        (FILE, but(FILE, 5, 0), CHANGED, CHANGED),
        (FILE, but(FILE, 6, 10**18), CHANGED, CHANGED),
        (FILE, but(FILE, 7, 78), CHANGED, UNCHANGED),
        (FILE, LINKED, CHANGED, CHANGED),
        (FILE, RACY, CHANGED, CHANGED),
        (LINKED, LINKED, UNCHANGED, UNCHANGED),
        (LINKED, but(LINKED, 7, 78), CHANGED, CHANGED),  # within a run they make the groups
    ],
)
def test_a_stamp_tells(stamp: Stamp, old: Stamp | None, by_inodes: str, without: str) -> None:
    assert classify(stamp, old, inodes=True) == by_inodes
    assert classify(stamp, old, inodes=False) == without


@pytest.mark.parametrize("inodes", [False, True])
@pytest.mark.parametrize(("old", "kind"), [(None, NEW), (FILE, CHANGED), (RACY, CHANGED)])
def test_what_is_suspect_is_never_unchanged(old: Stamp | None, kind: str, inodes: bool) -> None:
    assert classify(FILE, old, inodes=inodes, is_suspect=True) == kind


CONTENT = Reference("20260101T000000Z_pc_0123456789.0", 3)
ROW = Entry(*FILE, CONTENT, None, b"", 0, {}, None)


@pytest.mark.parametrize(
    ("row", "old", "kind"),
    [
        (ROW, None, NEW),
        (ROW, ROW, UNCHANGED),
        (ROW, ROW._replace(ctime_ns=0), UNCHANGED),
        (ROW, ROW._replace(ctime_ns=1, inode=78), UNCHANGED),
        (ROW, ROW._replace(mtime_ns=1), CHANGED),
        (ROW, ROW._replace(links=2), CHANGED),
        (ROW, ROW._replace(content=CONTENT._replace(number=4)), CHANGED),
        (ROW, ROW._replace(extras={BLOCKS: 16}), CHANGED),
        (ROW, ROW._replace(xattrs_content=CONTENT), CHANGED),
    ],
)
def test_what_was_read_may_be_as_it_was(row: Entry, old: Entry | None, kind: str) -> None:
    assert classify_read(row, old) == kind
