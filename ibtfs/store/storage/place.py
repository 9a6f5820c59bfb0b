"""Places on this machine: where a repository may be made, and where one is."""

from __future__ import annotations

import os

from ibtfs.errors import RepositoryError, RepositoryExists
from ibtfs.store.layout import CONFIG
from ibtfs.store.storage.base import is_unfinished


def check_place(path: bytes) -> None:
    """Raise unless a repository may be made at *path*.

    A folder that holds something is refused, and so is one whose parent does not exist: a disk
    that is not plugged in must not become a repository on the wrong one.
    Raises RepositoryExists, RepositoryError.
    """
    shown, parent = os.fsdecode(path), os.path.dirname(path)
    if not os.path.isdir(parent):
        text = os.fsdecode(parent)
        raise RepositoryError(f"Cannot make {shown!r}: {text!r} does not exist (a disk unplugged?)")
    if os.path.isdir(path):
        if CONFIG.encode() in os.listdir(path):
            raise RepositoryExists(f"{shown!r} is a repository already")
        if any(not is_unfinished(os.fsdecode(name)) for name in os.listdir(path)):
            raise RepositoryExists(
                f"{shown!r} is not empty and not a repository: name a new folder"
            )
    elif os.path.lexists(path):
        raise RepositoryExists(f"{shown!r} is not a folder")


def is_repository(path: bytes) -> bool:
    """Whether there is a repository at *path*."""
    return os.path.isfile(os.path.join(path, CONFIG.encode()))


def exists(path: bytes) -> bool:
    """Whether there is anything at *path*."""
    return os.path.lexists(path)
