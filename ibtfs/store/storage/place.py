"""Places on this machine: where a repository may be made, and where one is."""

from __future__ import annotations

import os

from ibtfs.errors import RepositoryError, RepositoryExists
from ibtfs.store.layout import CONFIG, KEYS, is_left_of_making
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
        names = _listed(path)
        if CONFIG in names:
            raise RepositoryExists(f"{shown!r} is a repository already")
        keys = _listed(os.path.join(path, KEYS.encode()))
        if not all(is_left_of_making(name, keys) for name in names):
            raise RepositoryExists(
                f"{shown!r} is not empty and not a repository: name a new folder"
            )
    elif os.path.lexists(path):
        raise RepositoryExists(f"{shown!r} is not a folder")


def _listed(path: bytes) -> list[str]:
    """The names in a folder, without uploads; of what is none, its own."""
    try:
        return [name for name in map(os.fsdecode, os.listdir(path)) if not is_unfinished(name)]
    except NotADirectoryError:
        return [os.fsdecode(path)]
    except FileNotFoundError:
        return []


def is_repository(path: bytes) -> bool:
    """Whether there is a repository at *path*."""
    return os.path.isfile(os.path.join(path, CONFIG.encode()))


def exists(path: bytes) -> bool:
    """Whether there is anything at *path*."""
    return os.path.lexists(path)
