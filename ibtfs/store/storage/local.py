"""A repository in a folder of a file system: the storage's verbs, and leases.

An object is written beside its place under a name that no reader lists, synced, and moved into
place, and then the folder is synced, and the parent of a folder newly made.
"""

from __future__ import annotations

import fcntl
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from ibtfs.errors import NotARepository, ObjectUnreadable, RepositoryError
from ibtfs.store.layout import FOLDERS
from ibtfs.store.storage.base import (
    StoredObject,
    drop_unfinished,
    is_unfinished,
)
from ibtfs.store.storage.durable import failed, sync_folder, sync_names
from ibtfs.store.storage.lease import FileLease
from ibtfs.store.storage.leases import LeaseBook
from ibtfs.store.storage.place import check_place, exists, is_repository
from ibtfs.store.storage.upload import LocalUpload
from ibtfs.store.storage.volume import LocalVolume

# whatever lies there, opening it never waits
_OBJECT = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalObject:
    """A file opened for reading at any place, as StoredObject says."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self.name = self.shown = name
        # an object may be dropped while another thread still reads from it: the last
        # reference closes it, and a descriptor number is never used after that
        self._close = weakref.finalize(self, os.close, descriptor)
        found = os.fstat(descriptor)
        self.size, self.is_file = found.st_size, stat.S_ISREG(found.st_mode)

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        try:
            data = os.pread(self._descriptor, size, offset)
            while 0 < len(data) < size:  # network file systems may give less than there is
                more = os.pread(self._descriptor, size - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise failed(error, self.name, reading=True) from error
        return data

    def is_removed(self) -> bool:
        """As StoredObject says; not to be asked once it is closed."""
        try:
            return os.fstat(self._descriptor).st_nlink == 0
        except OSError:
            return False  # its disk is gone: whoever reads is told

    def close(self) -> None:
        """Release the descriptor."""
        self._close()

    def __enter__(self) -> LocalObject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()


class LocalStorage(LocalVolume):
    """A repository's objects in a folder of a local file system.

    *root* is absolute.  Folders are made 0700 and files 0600; with *shared*, 0770 (and the group
    of the repository's folder is passed on) and 0660.
    """

    is_far = False

    def __init__(self, root: bytes, *, shared: bool = False) -> None:
        super().__init__(root)
        self._shared = shared
        self._leases: LeaseBook[FileLease] = LeaseBook()

    def shared_as(self, shared: bool) -> LocalStorage:
        """As FolderStorage says."""
        return LocalStorage(self.root, shared=shared)

    def create(self) -> None:
        """As FolderStorage says."""
        self.check_new()
        mode = 0o2770 if self._shared else 0o700
        try:
            os.makedirs(self.root, mode=mode, exist_ok=True)
            os.chmod(self.root, mode)
        except OSError as error:
            raise RepositoryError(f"Cannot make {self.text_root!r}: {error.strerror}") from error

    def check_new(self) -> None:
        """As FolderStorage says."""
        check_place(self.root)

    def has_repository(self) -> bool:
        """As FolderStorage says."""
        return is_repository(self.root)

    def require_there(self) -> None:
        """As FolderStorage says."""
        if not exists(self.root):
            raise NotARepository(f"No such repository: {self.text_root!r} does not exist")

    # The verbs

    def put(self, name: str) -> LocalUpload:
        """As Storage says."""
        return LocalUpload(self, name)

    def replace(self, name: str) -> LocalUpload:
        """As Healing says."""
        return LocalUpload(self, name, in_place=True)

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        with LocalUpload(self, name) as upload:
            upload.write(data)
            upload.finish()

    def open(self, name: str) -> StoredObject:
        """As Storage says."""
        try:
            stored = LocalObject(os.open(self.path(name), _OBJECT), name)
        except OSError as error:
            raise failed(error, name, reading=True) from error
        if not stored.is_file:
            stored.close()
            raise ObjectUnreadable(f"{name}: is not a regular file")
        return stored

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""
        try:
            with self._folder(folder) as descriptor:
                names = os.listdir(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise failed(error, folder) from error
        return sorted(name for name in names if unfinished or not is_unfinished(name))

    def delete(self, name: str) -> None:
        """As Storage says."""
        place, _, base = name.rpartition("/")
        try:
            with self._folder(place) as folder:
                found = os.lstat(base, dir_fd=folder)
                if stat.S_ISLNK(found.st_mode):
                    return  # no object, and not ours
                if not stat.S_ISDIR(found.st_mode):
                    os.unlink(base, dir_fd=folder)
                    sync_names(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise failed(error, name) from error
        self.drop_folder(name if stat.S_ISDIR(found.st_mode) else place)

    def drop_folder(self, name: str) -> None:
        """Remove the folder *name* if it is empty, unless it is one at the top."""
        above, _, base = name.rpartition("/")
        if not above:
            return
        try:
            with self._folder(above) as folder:
                os.rmdir(base, dir_fd=folder)
                sync_names(folder)
        except OSError:
            pass  # not empty, or not there: either is as it should be

    def create_file(self, folder: int, name: str) -> int:
        """Make the file *name* in an open folder, to be written.  Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
        if self._shared:
            os.fchmod(descriptor, 0o660)
        return descriptor

    @contextmanager
    def _folder(self, name: str) -> Iterator[int]:
        """The folder *name*, open; raises OSError."""
        descriptor = self._descend(name, make=False)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def opened_folder(self, name: str, *, make: bool) -> int:
        """The descriptor of the folder *name*; with *make* it is made, durably, if it is missing.

        Raises StorageFull, StorageFailed.
        """
        try:
            return self._descend(name, make=make)
        except OSError as error:
            raise failed(error, name) from error

    def _descend(self, name: str, *, make: bool) -> int:
        """Open the folder *name*, never through a link below the repository's own.

        Where several users write, one of them could lead to the files of another.  The repository's
        own folder is made by create alone: a disk that went away must not be written beside.
        """
        folder = os.open(self.text_root, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for base in name.split("/") if name else ():
                below = self._below(folder, base, make=make)
                os.close(folder)
                folder = below
        except BaseException:
            os.close(folder)
            raise
        return folder

    def _below(self, folder: int, base: str, *, make: bool) -> int:
        try:
            return os.open(base, _FOLDER, dir_fd=folder)
        except FileNotFoundError:
            if not make:
                raise
        try:
            os.mkdir(base, 0o700, dir_fd=folder)
        except FileExistsError:
            return os.open(base, _FOLDER, dir_fd=folder)  # another run has made it
        made = os.open(base, _FOLDER, dir_fd=folder)
        try:
            if self._shared:
                os.fchmod(made, 0o2770)
            sync_names(folder)
        except BaseException:
            os.close(made)
            raise
        return made

    def make_folders(self) -> None:
        """Make the folders of a new repository, durably, and its own name where it lies.

        Raises StorageFull, StorageFailed.
        """
        for folder in FOLDERS:
            os.close(self.opened_folder(folder, make=True))
        try:
            # also what a run made that was cut off before it could sync
            sync_folder(self.text_root)
            try:
                sync_folder(os.path.dirname(self.text_root))
            except PermissionError:
                os.sync()  # who may enter that folder, but not read it, cannot sync it alone
        except OSError as error:
            raise failed(error, self.text_root) from error

    # Leases

    def lease(self, name: str, token: str) -> FileLease:
        """As Leases says."""
        place, _, base = name.rpartition("/")
        folder = self.opened_folder(place, make=True)
        try:
            lease = FileLease(folder, base, token, self._leases.remove)
            self._leases.add(lease)
            return lease
        except OSError as error:
            os.close(folder)
            raise failed(error, name) from error
        except BaseException:
            os.close(folder)
            raise

    def part_name(self, base: str) -> str:
        """What an upload of *base* is called before it is finished."""
        return self._leases.part_name(base)

    def require_leases(self) -> None:
        """Raise LockLost unless all leases that were taken are in place."""
        self._leases.require()

    def drop_unfinished(self, token: str) -> None:
        """As Leases says."""
        drop_unfinished(self, token)

    def is_held(self, name: str) -> bool | None:
        """As Leases says."""
        try:
            descriptor = os.open(self.path(name), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError:
            return None
        try:
            # shared: two who ask at once do not take each other for the owner
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return False

    def age(self, name: str, now: str) -> float:
        """As Leases says."""
        try:
            there = os.stat(self.path(name)).st_mtime
        except OSError:
            return float("inf")
        try:
            return os.stat(self.path(now)).st_mtime - there
        except OSError:
            return 0.0
