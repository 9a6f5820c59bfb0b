"""The storage verbs on a local folder: put, put_new, get, list, delete.

Nothing above this module knows paths, opens files or calls fsync.  Names are text such as
``archives/<id>/data.1``.  An object is invisible until it is whole and durable: it is written
beside its place under a name that no reader lists, synced, and moved into place, and then the
folder is synced, and the parent of a folder newly made.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections.abc import Iterable, Sequence
from types import TracebackType

from ibtfs.errors import ObjectUnreadable
from ibtfs.store.storage.durable import PART, failed, rename_new, sync_folder
from ibtfs.store.storage.lease import Lease

STAMP_SETTLES_NS = 100_000_000
FOLDERS = ("archives", "damaged", "locks", "points", "tags")


class StoredObject:
    """An object opened for reading at any place; threads may share it."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self.name = name
        self.size = os.fstat(descriptor).st_size
        # an object may be dropped while another thread still reads from it: the last
        # reference closes it, and a descriptor number is never used after that
        self._close = weakref.finalize(self, os.close, descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """*size* bytes from *offset*; fewer where the object ends.

        Raises ObjectUnreadable, StorageFailed.
        """
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
        """Release the descriptor; closing twice is harmless."""
        self._close()

    def __enter__(self) -> StoredObject:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Upload:
    """An object being put: write, then finish; dropped without a trace when left otherwise."""

    def __init__(self, storage: LocalStorage, name: str) -> None:
        self._storage, self.name = storage, name
        self._path = storage.path(name)
        self._part = f"{self._path}.{os.urandom(6).hex()}{PART}"
        self.size = 0
        self._descriptor = storage.create_part(self._part, name)

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*.  Raises StorageFull, StorageFailed."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise failed(error, self.name) from error
        self.size += len(data)

    def finish(self) -> None:
        """Make the object durable, then visible.

        Raises FileExistsError if it is not new, StorageFull, StorageFailed.
        """
        descriptor, self._descriptor = self._descriptor, -1
        try:
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._storage.reveal(self._part, self._path)
        except FileExistsError:
            raise
        except OSError as error:
            raise failed(error, self.name) from error

    def abort(self) -> None:
        """Drop what was written; harmless after finish."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        try:
            os.unlink(self._part)
        except OSError:
            pass  # moved into place, or the disk is gone: nothing to drop

    def __enter__(self) -> Upload:
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

    def path(self, name: str) -> str:
        """Where the object *name* lies."""
        return f"{self._text_root}/{name}"

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

    def reveal(self, part: str, path: str) -> None:
        """Move a durable file into place, and make its name durable.

        Raises FileExistsError.
        """
        rename_new(part, path)
        sync_folder(os.path.dirname(path))

    def refusal(self) -> str:
        """Why nothing can be written here; empty if that may be tried."""
        if os.statvfs(self.root).f_flag & os.ST_RDONLY:
            return "its file system is mounted read-only"
        folders = [self._text_root, *map(self.path, FOLDERS)]
        shut = [
            path
            for path in folders
            if os.path.lexists(path) and not os.access(path, os.W_OK | os.X_OK)
        ]
        return f"this user may not write to {shut[0]!r}" if shut else ""

    def make_folders(self) -> None:
        """Make the folders of a new repository, durably, and its own name where it lies."""
        for folder in FOLDERS:
            self._make_folder(self.path(folder))
        # also what a run made that was cut off before it could sync
        sync_folder(self._text_root)
        sync_folder(os.path.dirname(self._text_root))

    def sync(self, folders: Iterable[str]) -> None:
        """Make the names in *folders* durable, whoever put them there.  Raises StorageFailed."""
        for folder in folders:
            try:
                sync_folder(self.path(folder))
            except OSError as error:
                raise failed(error, folder) from error

    def upload(self, name: str) -> Upload:
        """Begin to put *name*, which must be new, as a stream."""
        return Upload(self, name)

    def put_new(self, name: str, data: bytes) -> None:
        """Put *data*, failing with FileExistsError if *name* exists."""
        with Upload(self, name) as upload:
            upload.write(data)
            upload.finish()

    def open(self, name: str) -> StoredObject:
        """Open *name* for reading.  Raises ObjectMissing, StorageFailed."""
        try:
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise failed(error, name, reading=True) from error
        return StoredObject(descriptor, name)

    def get(self, name: str, limit: int) -> bytes:
        """All of *name*, which may not exceed *limit* bytes.  Raises ObjectMissing."""
        with self.open(name) as stored:
            if stored.size > limit:
                raise ObjectUnreadable(f"{name}: {stored.size} bytes, too large for what it is")
            return stored.read(0, stored.size)

    def list(self, folder: str) -> list[str]:
        """The names in *folder*, sorted, hidden ones left out; none if it does not exist."""
        try:
            names = os.listdir(self.path(folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise failed(error, folder) from error
        return sorted(name for name in names if not name.endswith(PART))

    def folder_stamp(self, folder: str) -> int:
        """A number that changes when names in *folder* do; 0 if it is not there, or was just
        changed, so that the next change may not show."""
        changed = self.changed_ns(folder)
        return changed if time.time_ns() - changed > STAMP_SETTLES_NS else 0

    def changed_ns(self, folder: str) -> int:
        """When a name in *folder* last came or went; 0 if it is not there."""
        try:
            return os.stat(self.path(folder)).st_mtime_ns
        except OSError:
            return 0

    def parts(self, folder: str) -> Sequence[str]:
        """The hidden objects in *folder*: what a run that was cut off left behind."""
        return [name for name in self.all(folder) if name.endswith(PART)]

    def all(self, folder: str) -> Sequence[str]:
        """The objects in *folder*, hidden ones too, each with its whole name."""
        try:
            return [f"{folder}/{name}" for name in os.listdir(self.path(folder))]
        except OSError:
            return []

    def stamp(self, name: str) -> tuple[int, int, int, int]:
        """Size, times of modification and status change in ns, and inode of *name*.

        Raises ObjectMissing.
        """
        try:
            found = os.stat(self.path(name))
        except OSError as error:
            raise failed(error, name, reading=True) from error
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    def size(self, name: str) -> int:
        """The size of *name* in bytes.  Raises ObjectMissing."""
        try:
            return os.stat(self.path(name)).st_size
        except OSError as error:
            raise failed(error, name) from error

    def delete(self, name: str) -> None:
        """Remove *name*, durably; its folder too if it is left empty.  Missing is fine."""
        path = self.path(name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise failed(error, name) from error
        folder = os.path.dirname(path)
        sync_folder(folder)

    def delete_folder(self, folder: str) -> None:
        """Remove *folder* if it is empty."""
        try:
            os.rmdir(self.path(folder))
        except OSError:
            pass  # not empty or not there: either is as it should be

    def lease(self, name: str) -> Lease:
        """Make an empty object that is held as long as its owner lives.  Raises StorageFailed."""
        path = self.path(name)
        try:
            self._make_folder(os.path.dirname(path))
            return Lease(path)
        except OSError as error:
            raise failed(error, name) from error

    def is_held(self, name: str) -> bool | None:
        """Whether a lease's owner lives on this machine; None if that cannot be told."""
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
        """Seconds since *name* was written or refreshed; endless if it is not there."""
        try:
            return time.time() - os.stat(self.path(name)).st_mtime
        except OSError:
            return float("inf")

    def statistics(self) -> os.statvfs_result:
        """What statvfs says of the file system that holds the repository."""
        return os.statvfs(self.root)
