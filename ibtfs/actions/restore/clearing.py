"""Removing a folder with all that is in it, and nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from ibtfs.actions.restore.destination import opened_below
from ibtfs.errors import RestoreFailed


class Remover:
    """Removes what is named; never another file system, never the repository.

    *spared* is the repository's folder, if it has one on this machine.  Raises OSError.
    """

    def __init__(self, spared: bytes | None) -> None:
        found = os.stat(spared) if spared is not None else None
        self._spared = (found.st_dev, found.st_ino) if found is not None else None

    def remove(self, parent: int, name: bytes) -> None:
        """Remove *name* in the open folder *parent*, with all below it, links not followed.

        Looks through all of it first, so that nothing is removed when something is to be spared.
        Raises RestoreFailed, OSError.
        """
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            os.unlink(name, dir_fd=parent)
            return
        device = os.fstat(parent).st_dev
        folders = [name]
        for folder in folders:  # grows as it is gone through: no recursion, however deep
            with _opened(parent, folder) as descriptor:
                self._look(descriptor, device)
                with os.scandir(descriptor) as entries:
                    folders += [
                        os.path.join(folder, os.fsencode(entry.name))
                        for entry in entries
                        if entry.is_dir(follow_symlinks=False)
                    ]
        for folder in reversed(folders):
            self._empty(parent, folder)

    def _look(self, descriptor: int, device: int) -> None:
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) == self._spared:
            raise RestoreFailed("the repository itself lies in it")
        if found.st_dev != device:
            raise RestoreFailed("another file system is mounted in it")

    def _empty(self, parent: int, folder: bytes) -> None:
        """Remove a folder whose own folders are gone."""
        with _opened(parent, folder) as descriptor:
            for below in os.listdir(descriptor):
                os.unlink(os.fsencode(below), dir_fd=descriptor)
        above, name = os.path.split(folder)
        with _opened(parent, above) as descriptor:
            os.rmdir(name, dir_fd=descriptor)


@contextmanager
def _opened(parent: int, path: bytes) -> Iterator[int]:
    """The folder at *path* below the open folder *parent*, reached through no link."""
    descriptor = opened_below(parent, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
