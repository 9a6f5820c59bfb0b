"""What has become of a file since the last backup: the one rule; it reads nothing."""

from __future__ import annotations

from ibtfs.format.entry import Stamp
from ibtfs.store.trees.directory import Entry
from ibtfs.store.trees.old_directory import same_but_stamps, same_stamp

NEW, CHANGED, UNCHANGED = "new", "changed", "unchanged"


def classify(stamp: Stamp, old: Stamp | None, *, inodes: bool, is_suspect: bool = False) -> str:
    """NEW, CHANGED or UNCHANGED, as the *stamp* of a listing tells; *old* is what the name had.

    *inodes*: inode numbers tell that a file is the same.  What *is_suspect* is not believed: the
    old contents are damaged, or all is to be read again.
    """
    if old is None:
        return NEW
    if is_suspect or not same_stamp(stamp, old, inodes=inodes):
        return CHANGED
    return UNCHANGED


def classify_read(entry: Entry, old: Entry | None) -> str:
    """The same of a file that was read for its stamp, which may tell of changes where none are."""
    if old is None:
        return NEW
    return UNCHANGED if same_but_stamps(entry, old) else CHANGED
