"""Leases: empty objects that say that their owner lives."""

from __future__ import annotations

import fcntl
import os

from ibtfs.store.storage.base import UNFINISHED
from ibtfs.store.storage.durable import rename_new, sync_folder

LEASE_ATTEMPTS = 3


class FileLease:
    """An empty object that its owner holds, with an flock where the file system has them."""

    def __init__(self, path: str) -> None:
        self._path = path
        for attempt in range(LEASE_ATTEMPTS):
            try:
                self._make(f"{path}.{os.urandom(6).hex()}{UNFINISHED}")
            except FileNotFoundError:
                # somebody who cleans up took it for left behind before it was locked
                if attempt + 1 == LEASE_ATTEMPTS:
                    raise
            else:
                return

    def _make(self, part: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(part, flags, 0o600)
        try:
            self._flock()
            rename_new(part, self._path)
            sync_folder(os.path.dirname(self._path))
        except BaseException:
            for name in (part, self._path):
                self._unlink(name)
            os.close(self._descriptor)
            raise

    def _unlink(self, name: str) -> None:
        """Remove *name* if it is this lease."""
        try:
            if os.path.samestat(os.stat(name), os.fstat(self._descriptor)):
                os.unlink(name)
        except OSError:
            pass  # not there, or the disk went away: it will be found without an owner

    def _flock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # no flock there: the age of the file has to tell

    def is_in_place(self) -> bool:
        """Whether the object is still there and still this one."""
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))

    def refresh(self) -> None:
        """Make it young again."""
        os.utime(self._descriptor)

    def release(self) -> None:
        """Remove it."""
        self._unlink(self._path)
        os.close(self._descriptor)
