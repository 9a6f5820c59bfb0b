"""What SFTP tells of a folder on another machine, beyond the storage's verbs."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from ibtfs.errors import StorageFailed
from ibtfs.store.storage.address import SshAddress
from ibtfs.store.storage.base import ObjectToken, Space
from ibtfs.store.storage.durable import failed
from ibtfs.store.storage.sftp.channel import Channel
from ibtfs.store.storage.sftp.client import SftpClient
from ibtfs.store.storage.sftp.wire import Attributes

SETTLES = 3.0
"""Seconds: SFTP knows full ones only."""
UNKNOWN = 1 << 40
Result = TypeVar("Result")


class SftpVolume:
    """The folder at *address*; *root* is that as it was given.  Volume says what its methods do."""

    def __init__(self, root: bytes, address: SshAddress, client: SftpClient) -> None:
        self.root, self.address, self.client = root, address, client
        self._seen: dict[str, tuple[int, float]] = {}

    def path(self, name: str) -> bytes:
        """Where the object *name* lies."""
        return self.address.path + (b"/" + os.fsencode(name) if name else b"")

    def does(
        self,
        name: str,
        work: Callable[[Channel], Result],
        *,
        reading: bool = False,
        patient: bool = True,
    ) -> Result:
        """What *work* gives, which bears to be repeated; *name* is for messages.

        Raises ObjectMissing, ObjectUnreadable, StorageFull, StorageFailed.
        """
        try:
            return self.client.again(work, patient=patient)
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                shown = os.fsdecode(self.root)
                raise StorageFailed(f"{shown}: not reached: {error.strerror}") from error
            raise failed(error, name, reading=reading) from error

    def look(self, name: str) -> Attributes | None:
        """What *name* is; None if it is not there.  Raises StorageFailed."""

        def work(channel: Channel) -> Attributes | None:
            try:
                return self.client.look(channel, self.path(name), follow=not name)
            except FileNotFoundError:
                return None

        return self.does(name, work)

    def space(self) -> Space:
        """As Volume says; as good as endless if the server does not tell."""
        found = self.does("", lambda channel: self.client.space(channel, self.path("")))
        return found or Space(4096, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)

    def refusal(self) -> str:
        """As Volume says: what the server refuses it says when that is tried."""
        return ""

    def sync(self, folders: Iterable[str]) -> None:
        """As Volume says; SFTP cannot do it."""

    def folder_token(self, folder: str, settles_ns: int = 0) -> int:
        """As Volume says: a time that was the same some seconds ago and is older than those."""
        changed, now = self.changed_ns(folder), time.monotonic()
        known, since = self._seen.get(folder, (0, now))
        if changed != known:
            self._seen[folder] = (changed, now)
            return 0
        return changed if now - since > SETTLES else 0

    def has_folder(self, folder: str) -> bool:
        """As Volume says."""
        found = self.look(folder)
        return found is not None and stat.S_ISDIR(found.mode)

    def changed_ns(self, folder: str) -> int:
        """As Volume says."""
        try:
            found = self.look(folder)
        except StorageFailed:
            return 0
        return found.mtime * 1_000_000_000 if found is not None else 0

    def made(self, name: str) -> int:
        """As Volume says."""
        return self.changed_ns(name) // 1_000_000_000

    def token(self, name: str) -> ObjectToken:
        """As Volume says: size and time of modification are all that SFTP knows."""
        found = self.does(name, lambda channel: self.client.look(channel, self.path(name)))
        return found.size, found.mtime * 1_000_000_000, 0, 0


def token_of(found: Attributes) -> ObjectToken | None:
    """As :meth:`SftpVolume.token`, of what was listed; None of what is no file, or not told."""
    if not stat.S_ISREG(found.mode):
        return None
    return found.size, found.mtime * 1_000_000_000, 0, 0
