"""What the file system tells of a repository that lies in a folder, beyond the storage's verbs."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable

from ibtfs.store.layout import FOLDERS
from ibtfs.store.storage.base import TOKEN_SETTLES_NS, ObjectToken, Space
from ibtfs.store.storage.durable import failed, sync_folder

SECOND = 1_000_000_000


class LocalVolume:
    """The folder *root*, absolute, of a file system; Volume says what its methods do."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.text_root = os.fsdecode(root)

    def path(self, name: str) -> str:
        """Where the object *name* lies."""
        return f"{self.text_root}/{name}" if name else self.text_root

    def space(self) -> Space:
        """As Volume says."""
        try:
            found = os.statvfs(self.root)
        except OSError as error:
            raise failed(error, self.text_root) from error
        return Space(
            found.f_frsize, found.f_blocks, found.f_bfree, found.f_bavail, found.f_files,
            found.f_ffree,
        )  # fmt: skip

    def refusal(self) -> str:
        """As Volume says."""
        if os.statvfs(self.root).f_flag & os.ST_RDONLY:
            return "its file system is mounted read-only"
        folders = [self.text_root, *map(self.path, FOLDERS)]
        shut = [
            path
            for path in folders
            if os.path.lexists(path) and not os.access(path, os.W_OK | os.X_OK)
        ]
        return f"this user may not write to {shut[0]!r}" if shut else ""

    def sync(self, folders: Iterable[str]) -> None:
        """As Volume says."""
        for folder in folders:
            try:
                sync_folder(self.path(folder))
            except OSError as error:
                raise failed(error, folder) from error

    def folder_token(self, folder: str, settles_ns: int = TOKEN_SETTLES_NS) -> int:
        """As Volume says; *settles_ns* is how long a change has to be ago.

        That is for file systems that keep full seconds: where times have fractions, little is
        enough.
        """
        changed = self.changed_ns(folder)
        if changed % SECOND:
            settles_ns = min(settles_ns, TOKEN_SETTLES_NS)
        return changed if time.time_ns() - changed > settles_ns else 0

    def has_folder(self, folder: str) -> bool:
        """As Volume says."""
        try:
            return stat.S_ISDIR(os.lstat(self.path(folder)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise failed(error, folder) from error

    def changed_ns(self, folder: str) -> int:
        """As Volume says."""
        try:
            return os.stat(self.path(folder)).st_mtime_ns
        except OSError:
            return 0

    def made(self, name: str) -> int:
        """As Volume says."""
        return self.changed_ns(name) // 1_000_000_000

    def token(self, name: str) -> ObjectToken:
        """As Volume says: size, times of modification and status change in ns, and inode."""
        try:
            found = os.stat(self.path(name))
        except OSError as error:
            raise failed(error, name, reading=True) from error
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
