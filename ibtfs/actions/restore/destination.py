"""The folder that is restored to: refused, made, and looked into."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from ibtfs.errors import RestoreFailed, UsageError
from ibtfs.store.trees.directory import Entry

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How folders below a destination are opened: never through a link."""


def check_destination(destination: bytes, paths: Sequence[bytes]) -> None:
    """Raise UsageError if *destination* is no folder, or two of *paths* would have one name."""
    if os.path.lexists(destination) and not os.path.isdir(destination):
        raise UsageError(f"{os.fsdecode(destination)!r} is not a folder")
    if len(set(_bases(paths))) != len(paths):
        raise UsageError("Two of the paths have the same name: restore them one after the other")


def refuse_overwriting(destination: bytes, paths: Sequence[bytes]) -> None:
    """Raise UsageError if the whole point, or *paths* of it, would overwrite something."""
    if not paths and os.path.isdir(destination) and os.listdir(destination):
        shown = os.fsdecode(destination)
        raise UsageError(f"{shown!r} is not empty: name a new folder, or say --overwrite")
    for base in _bases(paths):
        there = os.path.join(destination, base)
        if os.path.lexists(there):
            raise UsageError(f"{os.fsdecode(there)!r} exists: name another folder, or --overwrite")


def _bases(paths: Sequence[bytes]) -> list[bytes]:
    return [os.path.basename(path) or b"." for path in paths]


def make_destination(destination: bytes, *, private: bool) -> None:
    """Make the folder, and what is missing above it; *private* until it gets its own metadata.

    Raises RestoreFailed.
    """
    try:
        os.makedirs(destination, mode=0o700 if private else 0o777, exist_ok=True)
    except OSError as error:
        raise RestoreFailed(
            f"Cannot make {os.fsdecode(destination)!r}: {error.strerror}"
        ) from error


def existing_folder(parent: int, name: bytes) -> int:
    """The descriptor of a folder that is there; -1 if none is."""
    if parent < 0:
        return -1
    try:
        return os.open(name, FOLDER, dir_fd=parent)
    except OSError:
        return -1


def existing(parent: int, name: bytes) -> os.stat_result | None:
    """What lies under *name* in an open folder; None if nothing does, or there is no folder."""
    if parent < 0:
        return None
    try:
        return os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return None


def is_unchanged(entry: Entry, old: os.stat_result, parent: int) -> bool:
    """Whether *old*, in the open folder *parent*, looks like *entry*: by type, size and time.

    A symbolic link has to point where it should, a file to have as many links.
    """
    if stat.S_IFMT(old.st_mode) != stat.S_IFMT(entry.mode) or old.st_nlink != entry.links:
        return False
    if (old.st_size, old.st_mtime_ns) != (entry.size, entry.mtime_ns):
        return False
    if stat.S_ISLNK(entry.mode):
        return os.readlink(entry.name, dir_fd=parent) == entry.target
    return stat.S_ISREG(entry.mode)
