"""A repository in a folder of a file system: the storage's verbs, leases, and what a volume tells.

An object is written beside its place under a name that no reader lists, synced, and moved into
place, and then the folder is synced, and the parent of a folder newly made.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections.abc import Iterable
from types import TracebackType

from ibtfs.errors import ObjectExists, RepositoryError
from ibtfs.store.layout import FOLDERS
from ibtfs.store.storage.base import UNFINISHED, ObjectToken, Space, is_unfinished
from ibtfs.store.storage.durable import failed, rename_new, sync_folder
from ibtfs.store.storage.lease import FileLease
from ibtfs.store.storage.place import check_place

TOKEN_SETTLES_NS = 100_000_000


class LocalObject:
    """A file opened for reading at any place, as StoredObject says."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self.name = name
        self.size = os.fstat(descriptor).st_size
        # an object may be dropped while another thread still reads from it: the last
        # reference closes it, and a descriptor number is never used after that
        self._close = weakref.finalize(self, os.close, descriptor)

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

    def close(self) -> None:
        """Release the descriptor."""
        self._close()

    def __enter__(self) -> LocalObject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()


class LocalUpload:
    """A file being put, as Upload says."""

    def __init__(self, storage: LocalStorage, name: str) -> None:
        self._storage, self.name = storage, name
        self._path = storage.path(name)
        self._part = f"{self._path}.{os.urandom(6).hex()}{UNFINISHED}"
        self.size = 0
        self._descriptor = storage.create_part(self._part, name)

    def write(self, data: bytes | memoryview) -> None:
        """As Upload says."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise failed(error, self.name) from error
        self.size += len(data)

    def finish(self) -> None:
        """As Upload says."""
        descriptor, self._descriptor = self._descriptor, -1
        try:
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            rename_new(self._part, self._path)
            sync_folder(os.path.dirname(self._path))
        except FileExistsError as error:
            raise ObjectExists(f"{self.name}: is there already") from error
        except OSError as error:
            raise failed(error, self.name) from error

    def abort(self) -> None:
        """As Upload says; a folder of its own goes with it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        try:
            os.unlink(self._part)
        except OSError:
            return  # moved into place, or the disk is gone: nothing to drop
        self._storage.drop_folder(os.path.dirname(self._part))

    def __enter__(self) -> LocalUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()


class LocalStorage:
    """A repository's objects in a folder of a local file system.

    *root* is absolute.  Folders are made 0700 and files 0600; with *shared*, 0770 (and the group
    of the repository's folder is passed on) and 0660.
    """

    def __init__(self, root: bytes, *, shared: bool = False) -> None:
        self.root = root
        self._text_root = os.fsdecode(root)
        self._shared = shared

    @classmethod
    def create(cls, root: bytes, *, shared: bool = False) -> LocalStorage:
        """Make the folder of a new repository.  Raises RepositoryExists, RepositoryError."""
        check_place(root)
        mode = 0o2770 if shared else 0o700
        try:
            os.makedirs(root, mode=mode, exist_ok=True)
            os.chmod(root, mode)
        except OSError as error:
            shown = os.fsdecode(root)
            raise RepositoryError(f"Cannot make {shown!r}: {error.strerror}") from error
        return cls(root, shared=shared)

    def path(self, name: str) -> str:
        """Where the object *name* lies."""
        return f"{self._text_root}/{name}" if name else self._text_root

    # The verbs

    def put(self, name: str) -> LocalUpload:
        """As Storage says."""
        return LocalUpload(self, name)

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        with LocalUpload(self, name) as upload:
            upload.write(data)
            upload.finish()

    def open(self, name: str) -> LocalObject:
        """As Storage says."""
        try:
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise failed(error, name, reading=True) from error
        return LocalObject(descriptor, name)

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""
        try:
            names = os.listdir(self.path(folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise failed(error, folder) from error
        return sorted(name for name in names if unfinished or not is_unfinished(name))

    def delete(self, name: str) -> None:
        """As Storage says."""
        path = self.path(name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            self.drop_folder(path)
            return
        except OSError as error:
            raise failed(error, name) from error
        if not self.drop_folder(os.path.dirname(path)):
            sync_folder(os.path.dirname(path))

    def drop_folder(self, folder: str) -> bool:
        """Remove the empty folder at the path *folder*, unless it is one at the top; whether so."""
        if os.path.dirname(folder) == self._text_root or folder == self._text_root:
            return False
        try:
            os.rmdir(folder)
        except OSError:
            return False  # not empty, or not there: either is as it should be
        sync_folder(os.path.dirname(folder))
        return True

    def create_part(self, part: str, name: str) -> int:
        """Open the hidden file of an upload, making its folder.  Raises StorageFailed."""
        try:
            self._make_folder(os.path.dirname(part))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(part, flags, 0o600)
            if self._shared:
                os.fchmod(descriptor, 0o660)
        except OSError as error:
            raise failed(error, name) from error
        return descriptor

    def _make_folder(self, folder: str) -> None:
        """Make *folder* and what is missing above it, durably."""
        if folder == self._text_root:
            return  # made by create alone: a disk that went away must not be written beside
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make_folder(os.path.dirname(folder))
            os.mkdir(folder, 0o700)
        if self._shared:
            os.chmod(folder, 0o2770)
        sync_folder(os.path.dirname(folder))

    def make_folders(self) -> None:
        """Make the folders of a new repository, durably, and its own name where it lies."""
        for folder in FOLDERS:
            self._make_folder(self.path(folder))
        # also what a run made that was cut off before it could sync
        sync_folder(self._text_root)
        sync_folder(os.path.dirname(self._text_root))

    # Leases

    def lease(self, name: str) -> FileLease:
        """As Leases says."""
        path = self.path(name)
        try:
            self._make_folder(os.path.dirname(path))
            return FileLease(path)
        except OSError as error:
            raise failed(error, name) from error

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

    def age(self, name: str) -> float:
        """As Leases says."""
        try:
            return time.time() - os.stat(self.path(name)).st_mtime
        except OSError:
            return float("inf")

    # The volume

    def space(self) -> Space:
        """As Volume says."""
        try:
            found = os.statvfs(self.root)
        except OSError as error:
            raise failed(error, self._text_root) from error
        return Space(
            found.f_frsize, found.f_blocks, found.f_bfree, found.f_bavail, found.f_files,
            found.f_ffree,
        )  # fmt: skip

    def refusal(self) -> str:
        """As Volume says."""
        if os.statvfs(self.root).f_flag & os.ST_RDONLY:
            return "its file system is mounted read-only"
        folders = [self._text_root, *map(self.path, FOLDERS)]
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

    def folder_token(self, folder: str) -> int:
        """As Volume says."""
        changed = self.changed_ns(folder)
        return changed if time.time_ns() - changed > TOKEN_SETTLES_NS else 0

    def changed_ns(self, folder: str) -> int:
        """As Volume says."""
        try:
            return os.stat(self.path(folder)).st_mtime_ns
        except OSError:
            return 0

    def token(self, name: str) -> ObjectToken:
        """As Volume says: size, times of modification and status change in ns, and inode."""
        try:
            found = os.stat(self.path(name))
        except OSError as error:
            raise failed(error, name, reading=True) from error
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
