"""A repository in a folder that SFTP leads to: the storage's verbs, and leases.

An object is written beside its place, made durable where the server can, and then renamed, which
SFTP does only where nothing has the name.  Folders cannot be made durable by SFTP.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TypeVar

from ibtfs.errors import (
    LockLost,
    NotARepository,
    ObjectUnreadable,
    RepositoryError,
    RepositoryExists,
    StorageFailed,
)
from ibtfs.store.layout import CONFIG, FOLDERS
from ibtfs.store.storage.address import SftpAddress
from ibtfs.store.storage.base import (
    LOST,
    TOKEN_DIGITS,
    UNFINISHED,
    ObjectToken,
    Space,
    is_unfinished,
    token_of,
)
from ibtfs.store.storage.durable import failed
from ibtfs.store.storage.sftp import wire
from ibtfs.store.storage.sftp.channel import Channel
from ibtfs.store.storage.sftp.client import Handle, SftpClient
from ibtfs.store.storage.sftp.upload import SftpUpload
from ibtfs.store.storage.sftp.wire import Attributes

OPEN_FILES = 200
"""So many files are held open; a server may give no more to a client."""
SETTLES = 3.0
"""Seconds: SFTP knows full ones only."""
UNKNOWN = 1 << 40
Result = TypeVar("Result")


class SftpObject:
    """A file opened for reading at any place, as StoredObject says."""

    def __init__(self, storage: SftpStorage, name: str, size: int) -> None:
        self._storage = storage
        self.name = self.shown = name
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        size = min(size, self.size - offset)
        return self._storage.read(self.name, offset, size) if size > 0 else b""

    def is_removed(self) -> bool:
        """As StoredObject says."""
        return self._storage.look(self.name) is None

    def close(self) -> None:
        """The storage closes what was used longest ago."""

    def __enter__(self) -> SftpObject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()


class SftpLease:
    """An object whose owner makes it young again by the server's clock; he may be anywhere."""

    def __init__(self, storage: SftpStorage, name: str, token: str) -> None:
        self._storage, self._name, self.token = storage, name, token

    def is_in_place(self) -> bool:
        """As Lease says: its name is never used again."""
        try:
            return self._storage.look(self._name) is not None
        except StorageFailed:
            return False

    def refresh(self) -> None:
        """As Lease says."""
        self._storage.touch(self._name)

    def release(self) -> None:
        """As Lease says."""
        self._storage.release(self)
        try:
            self._storage.delete(self._name)
        except StorageFailed:
            pass  # the connection is gone: it will be found too old


class SftpStorage:
    """A repository's objects at *address*; *root* is that as it was given, threads may share it.

    Folders are made 0700 and files 0600; with *shared*, 0770 and 0660.
    """

    def __init__(
        self, root: bytes, address: SftpAddress, client: SftpClient, *, shared: bool = False
    ) -> None:
        self.root, self._address, self.client = root, address, client
        self._shared = shared
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Handle] = OrderedDict()
        self._leases: list[SftpLease] = []
        self._seen: dict[str, tuple[int, float]] = {}

    @property
    def mode(self) -> int:
        """The permissions of new files."""
        return 0o660 if self._shared else 0o600

    def shared_as(self, shared: bool) -> SftpStorage:
        """As FolderStorage says; by the same connection."""
        return SftpStorage(self.root, self._address, self.client, shared=shared)

    def path(self, name: str) -> bytes:
        """Where the object *name* lies."""
        return self._address.path + (b"/" + name.encode() if name else b"")

    def does(
        self, name: str, work: Callable[[Channel], Result], *, reading: bool = False
    ) -> Result:
        """What *work* gives, which bears to be repeated; *name* is for messages.

        Raises ObjectMissing, ObjectUnreadable, StorageFull, StorageFailed.
        """
        try:
            return self.client.again(work)
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                shown = os.fsdecode(self.root)
                raise StorageFailed(f"{shown}: not reached: {error.strerror}") from error
            raise failed(error, name, reading=reading) from error

    def look(self, name: str) -> Attributes | None:
        """What *name* is; None if it is not there.  Raises StorageFailed."""

        def work(channel: Channel) -> Attributes | None:
            try:
                return self.client.look(channel, self.path(name))
            except FileNotFoundError:
                return None

        return self.does(name, work)

    # The place

    def create(self) -> None:
        """Make the folder of a new repository.  Raises RepositoryExists, RepositoryError."""
        self.check_new()
        path, shown = self.path(""), os.fsdecode(self.root)
        try:
            self.client.again(lambda c: self.client.make_folder(c, path, self._folder_mode))
        except OSError as error:
            raise RepositoryError(f"Cannot make {shown!r}: {error.strerror}") from error

    def check_new(self) -> None:
        """Raise unless a repository may be made here.  Raises RepositoryExists, RepositoryError."""
        shown, found = os.fsdecode(self.root), self.look("")
        if found is None:
            above = os.path.dirname(self.path("")) or b"."
            try:
                self.client.again(lambda channel: self.client.look(channel, above))
            except OSError as error:
                text = os.fsdecode(above)
                raise RepositoryError(f"Cannot make {shown!r}: {text!r} does not exist") from error
        elif not stat.S_ISDIR(found.mode):
            raise RepositoryExists(f"{shown!r} is not a folder")
        else:
            names = self.list("")
            if CONFIG in names:
                raise RepositoryExists(f"{shown!r} is a repository already")
            if names:
                raise RepositoryExists(
                    f"{shown!r} is not empty and not a repository: name a new folder"
                )

    def has_repository(self) -> bool:
        """As FolderStorage says."""
        found = self.look(CONFIG)
        return found is not None and stat.S_ISREG(found.mode)

    def require_there(self) -> None:
        """As FolderStorage says."""
        if self.look("") is None:
            raise NotARepository(f"No such repository: {os.fsdecode(self.root)!r} does not exist")

    @property
    def _folder_mode(self) -> int:
        return 0o2770 if self._shared else 0o700

    def make_folders(self) -> None:
        """Make the folders of a new repository."""
        for folder in FOLDERS:
            self.make_folder(folder)

    def make_folder(self, name: str) -> None:
        """Make the folder *name*, which may be there already.  Raises StorageFailed."""
        path, mode = self.path(name), self._folder_mode
        self.does(name, lambda channel: self.client.make_folder(channel, path, mode))

    # The verbs

    def put(self, name: str) -> SftpUpload:
        """As Storage says."""
        return SftpUpload(self, name)

    def replace(self, name: str) -> SftpUpload:
        """As Healing says."""
        self._forget(name)
        return SftpUpload(self, name, in_place=True)

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        with SftpUpload(self, name) as upload:
            upload.write(data)
            upload.finish()

    def open(self, name: str) -> SftpObject:
        """As Storage says."""

        def work(channel: Channel) -> Attributes:
            found = self.client.look(channel, self.path(name))
            if stat.S_ISREG(found.mode):
                self._handle(channel, name)
            return found

        found = self.does(name, work, reading=True)
        if not stat.S_ISREG(found.mode):
            raise ObjectUnreadable(f"{name}: is not a regular file")
        return SftpObject(self, name, found.size)

    def read(self, name: str, offset: int, size: int) -> bytes:
        """*size* bytes of *name*.  Raises ObjectMissing, ObjectUnreadable, StorageFailed."""

        def work(channel: Channel) -> bytes:
            return self.client.read(self._handle(channel, name), offset, size)

        return self.does(name, work, reading=True)

    def _handle(self, channel: Channel, name: str) -> Handle:
        """*name*, open."""
        with self._lock:
            handle = self._open.pop(name, None)
            if handle is not None and handle.channel is channel:
                self._open[name] = handle
                return handle
        handle = self.client.open(channel, self.path(name), wire.FLAG_READ)
        with self._lock:
            self._open[name] = handle
            oldest = self._open.popitem(last=False)[1] if len(self._open) > OPEN_FILES else None
        if oldest is not None and oldest.channel is channel:
            self.client.close(oldest)
        return handle

    def _forget(self, name: str) -> None:
        """Close *name* if it is open."""
        with self._lock:
            handle = self._open.pop(name, None)
        if handle is not None and handle.channel is self.client.channel():
            self.client.close(handle)

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""

        def work(channel: Channel) -> list[bytes]:
            try:
                return self.client.names(channel, self.path(folder))
            except FileNotFoundError:
                return []

        names = map(os.fsdecode, self.does(folder, work))
        return sorted(name for name in names if unfinished or not is_unfinished(name))

    def delete(self, name: str) -> None:
        """As Storage says."""
        self._forget(name)

        def work(channel: Channel) -> bool:
            try:
                self.client.remove(channel, self.path(name))
            except FileNotFoundError:
                return False
            except OSError:
                # a server says no more than that it failed
                if not stat.S_ISDIR(self.client.look(channel, self.path(name)).mode):
                    raise
                return True
            return False

        self.drop_folder(name if self.does(name, work) else name.rpartition("/")[0])

    def drop_folder(self, name: str) -> None:
        """Remove the folder *name* if it is empty, unless it is one at the top."""
        if "/" not in name:
            return

        def work(channel: Channel) -> None:
            try:
                self.client.remove_folder(channel, self.path(name))
            except OSError as error:
                if error.errno == errno.ENOTCONN:
                    raise
                # not empty, or not there: either is as it should be

        self.does(name, work)

    # Leases

    def lease(self, name: str, token: str) -> SftpLease:
        """As Leases says."""
        self.put_new(name, b"")
        lease = SftpLease(self, name, token)
        self._leases.append(lease)
        return lease

    def release(self, lease: SftpLease) -> None:
        """*lease* is given back: what is put does not depend on it any more."""
        self._leases.remove(lease)

    def touch(self, name: str) -> None:
        """Make *name*, which is empty, young by the server's clock.  Raises OSError."""

        def work(channel: Channel) -> None:
            flags = wire.FLAG_WRITE | wire.FLAG_TRUNCATE
            self.client.close(self.client.open(channel, self.path(name), flags)).result()

        self.client.again(work)

    def part_name(self, base: str) -> str:
        """What an upload of *base* is called before it is finished."""
        token = self._leases[-1].token if self._leases else os.urandom(TOKEN_DIGITS // 2).hex()
        return f"{base}.{token}{os.urandom(4).hex()}{UNFINISHED}"

    def require_leases(self) -> None:
        """Raise LockLost unless all leases that were taken are in place."""
        for lease in list(self._leases):
            if not lease.is_in_place():
                raise LockLost(LOST)

    def drop_unfinished(self, token: str) -> None:
        """As Leases says."""
        folders = ["", *FOLDERS]
        for folder in FOLDERS:
            folders += [f"{folder}/{name}" for name in self.list(folder)]
        for folder in folders:
            for name in self.list(folder, unfinished=True):
                if is_unfinished(name) and token_of(name) == token:
                    self.delete(f"{folder}/{name}" if folder else name)

    def is_held(self, name: str) -> bool | None:
        """As Leases says: it cannot be told, but that nothing is held that is not there."""
        return False if self.look(name) is None else None

    def age(self, name: str, now: str) -> float:
        """As Leases says."""
        there, here = self.look(name), self.look(now)
        if there is None:
            return float("inf")
        return float(here.mtime - there.mtime) if here is not None else 0.0

    # What else it tells

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
        found = self.does(
            name, lambda channel: self.client.look(channel, self.path(name)), reading=True
        )
        return found.size, found.mtime * 1_000_000_000, 0, 0
