"""Leases: empty objects that say that their owner lives."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable

from ibtfs.store.storage.base import UNFINISHED
from ibtfs.store.storage.durable import rename_new, sync_names

LEASE_ATTEMPTS = 3
FLOCK_ATTEMPTS, FLOCK_PAUSE = 100, 0.01
_LOOK = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class FileLease:
    """An empty object that its owner holds, with an flock where the file system has them.

    It is called *name* in the open *folder*, which it closes in the end, and tells *released* so.
    Its owner's uploads are named by *token*.  Raises OSError.
    """

    def __init__(
        self, folder: int, name: str, token: str, released: Callable[[FileLease], None]
    ) -> None:
        self._folder, self._name = folder, name
        self.token, self._released = token, released
        for attempt in range(LEASE_ATTEMPTS):
            try:
                self._make(f"{name}.{os.urandom(6).hex()}{UNFINISHED}")
            except FileNotFoundError:
                # somebody who cleans up took it for left behind before it was locked
                if attempt + 1 == LEASE_ATTEMPTS:
                    raise
            else:
                return

    def _make(self, part: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(part, flags, 0o600, dir_fd=self._folder)
        try:
            self._flock()
            self._fill()
            rename_new(self._folder, part, self._name)
            sync_names(self._folder)
        except BaseException:
            for name in (part, self._name):
                self._unlink(name)
            os.close(self._descriptor)
            raise

    def _fill(self) -> None:
        """Write what its owner wants to find there; nothing."""

    def _unlink(self, name: str) -> None:
        """Remove *name* if it is this lease."""
        try:
            if self._is(name):
                os.unlink(name, dir_fd=self._folder)
        except OSError:
            pass  # the disk went away: it will be found without an owner

    def _is(self, name: str) -> bool:
        # opened, for a network file system may tell from memory what it had under a name
        try:
            there = os.open(name, _LOOK, dir_fd=self._folder)
        except OSError:
            return False
        try:
            return os.path.samestat(os.fstat(there), os.fstat(self._descriptor))
        except OSError:
            return False  # its disk is gone
        finally:
            os.close(there)

    def _flock(self) -> None:
        for _ in range(FLOCK_ATTEMPTS):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(FLOCK_PAUSE)  # somebody looks whether it is held
            except OSError:
                return  # no flock there: the age of the file has to tell
            else:
                return

    def is_in_place(self) -> bool:
        """Whether the object is still there and still this one."""
        return self._is(self._name)

    def refresh(self) -> None:
        """Make it young again."""
        os.utime(self._descriptor)

    def release(self) -> None:
        """Remove it."""
        self._released(self)
        self._unlink(self._name)
        os.close(self._descriptor)
        os.close(self._folder)
