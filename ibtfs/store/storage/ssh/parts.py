"""What a client of a server has on the disk: its uploads and its locks, which outlive a connection.

Both bear the client's mark, a hash of what only it knows: in the name of a part, and in a lock.
By it who comes back by another connection goes on with them, and nobody else does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable

from blake3 import blake3

from ibtfs.errors import LockLost, StorageFailed
from ibtfs.store.storage.base import LOST, TOKEN_DIGITS, UNFINISHED
from ibtfs.store.storage.durable import failed, sync_names
from ibtfs.store.storage.lease import FileLease
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.ssh.wire import Busy
from ibtfs.store.storage.upload import LocalUpload

MARK_BYTES = 10
FLOCK_SECONDS, FLOCK_PAUSE = 3.0, 0.05
LOCK_BYTES = 64 << 10
_SUFFIX = re.compile(rf"[0-9a-f]{{{2 * TOKEN_DIGITS}}}\Z")


def mark_of(secret: bytes) -> str:
    """What marks all that belongs to the client who knows *secret*."""
    return blake3(b"ibtfs serve-store" + secret).hexdigest(MARK_BYTES)


def part_name(name: str, mark: str, suffix: str) -> str:
    """How an upload of *name* is called; *suffix* begins with the token of a lease."""
    return f"{name}.{mark}.{suffix}{UNFINISHED}"


def is_suffix(suffix: str) -> bool:
    """Whether *suffix* may be that of an upload."""
    return _SUFFIX.match(suffix) is not None


def take_flock(descriptor: int) -> None:
    """Take the flock of a file, or have none where there are none.

    Raises Busy if somebody else keeps it: the process of a connection that was lost ends soon.
    """
    until = time.monotonic() + FLOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise Busy from None
            time.sleep(FLOCK_PAUSE)
        except OSError:
            return
        else:
            return


class PartFolders:
    """What an upload needs of *storage*: its part, called *part*, is gone on with at *resumed_at*.

    Below 0 it is made anew.
    """

    def __init__(self, storage: LocalStorage, part: str, resumed_at: int) -> None:
        self._storage, self._part, self._at = storage, part, resumed_at
        self.require_leases, self.drop_folder = storage.require_leases, storage.drop_folder

    def part_name(self, base: str) -> str:
        """As Folders says."""
        return self._part

    def opened_folder(self, name: str, *, make: bool) -> int:
        """As Folders says."""
        return self._storage.opened_folder(name, make=make and self._at < 0)

    def create_file(self, folder: int, name: str) -> int:
        """As Folders says.  Raises Busy."""
        if self._at < 0:
            descriptor = self._storage.create_file(folder, name)
            take_flock(descriptor)
            return descriptor
        descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
        try:
            take_flock(descriptor)
            # it may have been named, or removed, while its flock was waited for
            there, mine = os.stat(name, dir_fd=folder), os.fstat(descriptor)
            if not os.path.samestat(there, mine) or mine.st_nlink != 1:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if mine.st_size < self._at or not stat.S_ISREG(mine.st_mode):
                raise OSError(errno.EIO, "what was written before is not there any more")
            os.ftruncate(descriptor, self._at)
            os.lseek(descriptor, self._at, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


class ServedUpload(LocalUpload):
    """An upload of a client, begun anew or gone on with; it is its own as long as it is open."""

    def __init__(
        self, storage: LocalStorage, name: str, part: str, *, in_place: bool, resumed_at: int
    ) -> None:
        folders = PartFolders(storage, part, resumed_at)
        try:
            super().__init__(folders, name, in_place=in_place)
        except Busy:
            os.close(self._folder)
            raise
        self.size = max(resumed_at, 0)

    def written(self, limit: int) -> bytes:
        """What was written, unless it is longer than *limit*.  Raises StorageFailed."""
        if self.size > limit:
            raise StorageFailed(f"{self.name}: {self.size} bytes, too large for what it is")
        try:
            descriptor = os.open(
                self._part, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._folder
            )
            with open(descriptor, "rb") as file:
                return file.read(limit + 1)
        except FileNotFoundError as error:
            raise LockLost(LOST) from error
        except OSError as error:
            raise failed(error, self.name) from error

    def sync(self) -> None:
        """Make durable what was written.  Raises StorageFull, StorageFailed."""
        try:
            os.fdatasync(self._descriptor)
            sync_names(self._folder)
        except OSError as error:
            raise failed(error, self.name) from error

    def finish(self) -> None:
        """As Upload says; until it has its name nobody else writes to it."""
        kept = os.dup(self._descriptor)
        try:
            super().finish()
        finally:
            os.close(kept)

    def leave(self) -> None:
        """Close it as it is: it may be gone on with."""
        if self._is_open:
            self._close()


class ServedLease(FileLease):
    """A lease that bears the *mark* of its owner, and the runs that are his.

    It is made, if *anew*, or taken up again.  Raises OSError, Busy.
    """

    def __init__(
        self,
        folder: int,
        name: str,
        token: str,
        released: Callable[[FileLease], None],
        *,
        mark: str,
        anew: bool,
    ) -> None:
        self._mark, self._anew = mark, anew
        self.runs: set[str] = set()
        super().__init__(folder, name, token, released)

    def _make(self, part: str) -> None:
        try:
            self._take_up()
        except FileNotFoundError:
            if not self._anew:
                raise
            super()._make(part)

    def _fill(self) -> None:
        os.pwrite(self._descriptor, f"{self._mark}\n".encode(), 0)

    def _take_up(self) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(self._name, flags, dir_fd=self._folder)
        try:
            mark, *runs = os.pread(self._descriptor, LOCK_BYTES, 0).decode("ascii").split("\n")
            if mark != self._mark:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            take_flock(self._descriptor)
            if not self._is(self._name):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            self.runs.update(filter(None, runs))
        except BaseException as error:
            os.close(self._descriptor)
            if isinstance(error, UnicodeError):
                raise FileExistsError(errno.EEXIST, "is of somebody else") from error
            raise

    def claim(self, run_id: str) -> None:
        """Note that a run is the owner's.  Raises OSError."""
        line = f"{run_id}\n".encode()
        end = os.fstat(self._descriptor).st_size
        if end + len(line) > LOCK_BYTES:
            raise OSError(errno.EFBIG, "too many runs under one lock")
        os.pwrite(self._descriptor, line, end)
        self.runs.add(run_id)

    def leave(self) -> None:
        """Let go of it, and leave its object where it is."""
        os.close(self._descriptor)
        os.close(self._folder)


class ServedStorage(LocalStorage):
    """A folder that a server serves to the client with *mark*."""

    def __init__(self, root: bytes, mark: str, *, shared: bool = False) -> None:
        super().__init__(root, shared=shared)
        self._mark = mark
        self.held: dict[str, ServedLease] = {}
        self.lost: set[str] = set()

    def upload(
        self, name: str, suffix: str, *, in_place: bool = False, resumed_at: int = -1
    ) -> ServedUpload:
        """Begin an upload, or go on with one.

        Raises ObjectMissing if there is none to go on with, StorageFull, StorageFailed, Busy.
        """
        part = part_name(name.rpartition("/")[2], self._mark, suffix)
        return ServedUpload(self, name, part, in_place=in_place, resumed_at=resumed_at)

    def take_lease(self, name: str, token: str, *, anew: bool) -> bool:
        """Make, if *anew*, or take up again a lease; whether it is held.

        From one that is lost on nothing is finished any more until it is released.  Raises Busy,
        StorageFailed.
        """
        if name in self.held:
            return True
        place, _, base = name.rpartition("/")
        folder = self.opened_folder(place, make=anew)

        def released(_: FileLease) -> None:
            del self.held[name]

        try:
            lease = ServedLease(folder, base, token, released, mark=self._mark, anew=anew)
        except BaseException as error:
            os.close(folder)
            if isinstance(error, (FileNotFoundError, FileExistsError)) and not anew:
                self.lost.add(name)
                return False
            if isinstance(error, OSError):
                raise failed(error, name) from error
            raise
        self.held[name] = lease
        return True

    def release(self, name: str) -> None:
        """Give a lease back."""
        self.lost.discard(name)
        lease = self.held.get(name)
        if lease is not None:
            lease.release()

    def require_leases(self) -> None:
        """As LocalStorage says."""
        if self.lost or not all(lease.is_in_place() for lease in list(self.held.values())):
            raise LockLost(LOST)
