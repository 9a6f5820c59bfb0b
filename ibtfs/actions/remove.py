"""Removing a folder with all that is in it, and nothing else."""

from __future__ import annotations

import os
import stat

from ibtfs.actions.restore_entry import RestoreFailed

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Remover:
    """Removes what is named; never another file system, never the repository.

    *spared* is the (device, inode) of the repository's folder.
    """

    def __init__(self, spared: tuple[int, int]) -> None:
        self._spared = spared

    def remove(self, parent: int, name: bytes) -> None:
        """Remove *name* in the open folder *parent*, with all below it, links not followed.

        Looks through all of it first, so that nothing is removed when something is to be spared.
        Raises RestoreFailed, OSError.
        """
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            os.unlink(name, dir_fd=parent)
            return
        device = os.fstat(parent).st_dev
        top = b"/proc/self/fd/%d" % parent
        folders = [name]
        for folder in folders:  # grows as it is gone through: no recursion, however deep
            self._look(parent, folder, device)
            with os.scandir(os.path.join(top, folder)) as entries:
                folders += [
                    os.path.join(folder, entry.name)
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False)
                ]
        for folder in reversed(folders):
            self._empty(parent, folder)

    def _look(self, parent: int, folder: bytes, device: int) -> None:
        found = os.lstat(folder, dir_fd=parent)
        if (found.st_dev, found.st_ino) == self._spared:
            raise RestoreFailed("the repository itself lies in it")
        if found.st_dev != device:
            raise RestoreFailed("another file system is mounted in it")

    def _empty(self, parent: int, folder: bytes) -> None:
        """Remove a folder whose own folders are gone."""
        descriptor = os.open(folder, _FOLDER, dir_fd=parent)
        try:
            for below in os.listdir(descriptor):
                os.unlink(os.fsencode(below), dir_fd=descriptor)
        finally:
            os.close(descriptor)
        os.rmdir(folder, dir_fd=parent)
