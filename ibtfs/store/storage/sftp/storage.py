"""A repository in a folder that SFTP leads to: the storage's verbs, and leases.

An object is written beside its place, made durable where the server can, and then renamed, which
SFTP does only where nothing has the name.  Folders cannot be made durable by SFTP.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from ibtfs.errors import (
    LockLost,
    NotARepository,
    ObjectUnreadable,
    RepositoryError,
    RepositoryExists,
)
from ibtfs.store.layout import CONFIG, FOLDERS, KEYS, is_left_of_making
from ibtfs.store.storage.address import SshAddress
from ibtfs.store.storage.background import Background
from ibtfs.store.storage.base import (
    UNFINISHED,
    drop_unfinished,
    is_unfinished,
)
from ibtfs.store.storage.far import Names
from ibtfs.store.storage.leases import LeaseBook
from ibtfs.store.storage.sftp import wire
from ibtfs.store.storage.sftp.channel import Channel
from ibtfs.store.storage.sftp.client import SftpClient
from ibtfs.store.storage.sftp.files import OpenFiles, SftpObject
from ibtfs.store.storage.sftp.lease import SftpLease
from ibtfs.store.storage.sftp.upload import SftpUpload
from ibtfs.store.storage.sftp.volume import SftpVolume, token_of
from ibtfs.store.storage.sftp.wire import Attributes
from ibtfs.store.storage.surveying import surveyed

LEASE_ATTEMPTS = 3
IN_FLIGHT = 32


class SftpStorage(SftpVolume):
    """A repository's objects at *address*; *root* is that as it was given, threads may share it.

    Folders are made 0700 and files 0600; with *shared*, 0770 and 0660.
    """

    is_far = True

    def __init__(
        self, root: bytes, address: SshAddress, client: SftpClient, *, shared: bool = False
    ) -> None:
        super().__init__(root, address, client)
        self._shared = shared
        self._files = OpenFiles(self)
        self._background = Background(IN_FLIGHT)
        self.leases: LeaseBook[SftpLease] = LeaseBook()

    @property
    def mode(self) -> int:
        """The permissions of new files."""
        return 0o660 if self._shared else 0o600

    def shared_as(self, shared: bool) -> SftpStorage:
        """As FolderStorage says; by the same connection."""
        return SftpStorage(self.root, self.address, self.client, shared=shared)

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
            keys = self.list(KEYS) if KEYS in names else []
            if not all(is_left_of_making(name, keys) for name in names):
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

    def make_folders_above(self, name: str) -> None:
        """Make the folders that *name* is to lie in, but the repository's own."""
        parts = name.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            self.make_folder("/".join(parts[:count]))

    # The verbs

    def put(self, name: str) -> SftpUpload:
        """As Storage says."""
        return SftpUpload(self, name)

    def replace(self, name: str) -> SftpUpload:
        """As Healing says."""
        return SftpUpload(self, name, in_place=True)

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        with SftpUpload(self, name) as upload:
            upload.write(data)
            upload.finish()

    def open(self, name: str) -> SftpObject:
        """As Storage says."""

        number = self._files.new_number()

        def work(channel: Channel) -> Attributes:
            found = self.client.look(channel, self.path(name))
            if stat.S_ISREG(found.mode):
                with self._files.using(channel, name, number):
                    pass
            return found

        found = self.does(name, work)
        if not stat.S_ISREG(found.mode):
            raise ObjectUnreadable(f"{name}: is not a regular file")
        return SftpObject(self._files, name, number, found.size)

    def open_end(self, name: str, most: int, size: int = -1) -> tuple[SftpObject, bytes]:
        """As FarPlace says."""
        number = self._files.new_number()

        def work(channel: Channel) -> tuple[Attributes, bytes]:
            listed = size
            if listed < 0:
                # what is no file may keep who opens it waiting
                found = self.client.look(channel, self.path(name))
                if not stat.S_ISREG(found.mode):
                    return found, b""
                listed = found.size
            with self._files.using(channel, name, number) as handle:
                return self.client.read_end(handle, most, listed)

        found, end = self.does(name, work, reading=True)
        if not stat.S_ISREG(found.mode) or len(end) != min(found.size, most):
            raise ObjectUnreadable(f"{name}: is not a regular file, or changes")
        return SftpObject(self._files, name, number, found.size), end

    def survey(self, folders: Sequence[str]) -> dict[str, Names]:
        """As FarPlace says."""
        return surveyed(folders, self._names, self._background)

    def _names(self, folder: str) -> Names:
        path = self.path(folder)

        def work(channel: Channel) -> list[tuple[bytes, Attributes]]:
            try:
                return self.client.entries(channel, path)
            except FileNotFoundError:
                return []
            except OSError as error:
                # a server says no more than that it failed
                is_failure = error.errno == errno.EIO
                if is_failure and not stat.S_ISDIR(self.client.look(channel, path).mode):
                    return []
                raise

        return {os.fsdecode(name): token_of(found) for name, found in self.does(folder, work)}

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""

        def work(channel: Channel) -> list[bytes]:
            try:
                return self.client.names(channel, self.path(folder))
            except FileNotFoundError:
                return []

        names = map(os.fsdecode, self.does(folder, work))
        return sorted(name for name in names if unfinished or not is_unfinished(name))

    def delete(self, name: str, *, patient: bool = True) -> None:
        """As Storage says; unless *patient*, a lost connection is not waited for."""

        def work(channel: Channel) -> bool:
            try:
                self.client.remove(channel, self.path(name))
            except FileNotFoundError:
                return False
            except OSError:
                try:
                    found = self.client.look(channel, self.path(name))
                except FileNotFoundError:
                    return False
                if not stat.S_ISDIR(found.mode):
                    raise
                return True
            return False

        is_folder = self.does(name, work, patient=patient)
        self.drop_folder(name if is_folder else name.rpartition("/")[0])

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

        self.does(name, work, patient=False)

    # Leases

    def lease(self, name: str, token: str) -> SftpLease:
        """As Leases says."""
        base = name.rpartition("/")[2]
        for attempt in range(LEASE_ATTEMPTS):
            # named as no upload that was begun under a lock: who cleans up is to leave it alone
            part = f"{base}.{os.urandom(6).hex()}{UNFINISHED}"
            try:
                with SftpUpload(self, name, part=part) as upload:
                    upload.finish()
            except LockLost:
                if attempt + 1 == LEASE_ATTEMPTS:
                    raise
            else:
                break
        lease = SftpLease(self, name, token)
        self.leases.add(lease)
        return lease

    def release(self, lease: SftpLease) -> None:
        """*lease* is given back: what is put does not depend on it any more."""
        self.leases.remove(lease)

    def touch(self, name: str) -> None:
        """Make *name*, which is empty, young by the server's clock.  Raises OSError."""

        def work(channel: Channel) -> None:
            flags = wire.FLAG_WRITE | wire.FLAG_TRUNCATE
            self.client.close(self.client.open(channel, self.path(name), flags)).result()

        self.client.again(work, patient=False)

    def drop_unfinished(self, token: str) -> None:
        """As Leases says."""
        drop_unfinished(self, token)

    def is_held(self, name: str) -> bool | None:
        """As Leases says: it cannot be told, but that nothing is held that is not there."""
        return False if self.look(name) is None else None

    def age(self, name: str, now: str) -> float:
        """As Leases says."""
        there, here = self.look(name), self.look(now)
        if there is None:
            return float("inf")
        return float(here.mtime - there.mtime) if here is not None else 0.0
