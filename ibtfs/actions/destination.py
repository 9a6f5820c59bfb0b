"""The folder that is restored to: refused, made, and looked into."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ibtfs.actions.restore_entry import RestoreFailed
from ibtfs.errors import UsageError

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


def make_destination(destination: bytes) -> None:
    """Make the folder, and what is missing above it.  Raises RestoreFailed."""
    try:
        os.makedirs(destination, mode=0o700, exist_ok=True)
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
