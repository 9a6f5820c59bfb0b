"""Files on another machine that are open for reading."""

from __future__ import annotations

import errno
import itertools
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, TypeVar

from ibtfs.store.storage.sftp import wire
from ibtfs.store.storage.sftp.channel import Channel
from ibtfs.store.storage.sftp.client import Handle, SftpClient
from ibtfs.store.storage.sftp.wire import Attributes

OPEN_FILES = 200
"""So many files are held open; a server may give no more to a client."""
Result = TypeVar("Result")


class FilesStorage(Protocol):
    """What open files need of their storage; SftpVolume says what each does."""

    client: SftpClient

    def path(self, name: str) -> bytes:
        """Where an object lies."""
        ...

    def does(
        self, name: str, work: Callable[[Channel], Result], *, reading: bool = False
    ) -> Result:
        """Work that may be repeated."""
        ...

    def look(self, name: str) -> Attributes | None:
        """What an object is."""
        ...


class _OpenFile:
    """A file that is open, and how many are reading from it."""

    __slots__ = ("handle", "users")

    def __init__(self, handle: Handle) -> None:
        self.handle, self.users = handle, 0


class OpenFiles:
    """The open files of *storage*, by number; those used longest ago are closed for others.

    Threads may share it.
    """

    def __init__(self, storage: FilesStorage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _OpenFile] = OrderedDict()
        self._numbers = itertools.count()
        # what nobody has any more; closed later, for that may be found out anywhere
        self._left: deque[int] = deque()

    def new_number(self) -> int:
        """A number for another file."""
        return next(self._numbers)

    def read(self, name: str, number: int, offset: int, size: int) -> bytes:
        """*size* bytes of *name*, opened as *number*.

        Raises ObjectMissing, ObjectUnreadable, StorageFailed.
        """

        def work(channel: Channel) -> bytes:
            with self.using(channel, name, number) as handle:
                return self._storage.client.read(handle, offset, size)

        return self._storage.does(name, work, reading=True)

    @contextmanager
    def using(self, channel: Channel, name: str, number: int) -> Iterator[Handle]:
        """*name*, open as *number*; opened again if it was closed for others.  Raises OSError."""
        self._close_left()
        found = self._taken(channel, number)
        if found is None:
            handle = self._opened(channel, name)
            with self._lock:
                found = self._open.get(number)
                if found is None or found.handle.channel is not channel:
                    found = self._open[number] = _OpenFile(handle)
                found.users += 1
            if found.handle is not handle:  # another thread was as quick
                self._storage.client.drop(handle)
            self._close_some(OPEN_FILES)
        try:
            yield found.handle
        finally:
            with self._lock:
                found.users -= 1

    def _taken(self, channel: Channel, number: int) -> _OpenFile | None:
        with self._lock:
            found = self._open.get(number)
            if found is None or found.handle.channel is not channel:
                return None
            self._open.move_to_end(number)
            found.users += 1
            return found

    def _opened(self, channel: Channel, name: str) -> Handle:
        client, path = self._storage.client, self._storage.path(name)
        try:
            return client.open(channel, path, wire.FLAG_READ)
        except OSError as error:
            # a server that has too many open says no more than that it failed
            if error.errno != errno.EIO or not self._close_some(len(self._open) // 2):
                raise
            return client.open(channel, path, wire.FLAG_READ)

    def _close_some(self, most: int) -> bool:
        """Close files that nobody reads from until only *most* are open; whether any was."""
        closed = []
        with self._lock:
            for number in list(self._open):
                if len(self._open) <= most:
                    break
                if not self._open[number].users:
                    closed.append(self._open.pop(number).handle)
        for handle in closed:
            self._storage.client.drop(handle)
        return bool(closed)

    def _close_left(self) -> None:
        while self._left:
            try:
                number = self._left.popleft()
            except IndexError:
                return
            with self._lock:
                found = self._open.get(number)
                if found is None or found.users:
                    continue
                del self._open[number]
            self._storage.client.drop(found.handle)

    def is_removed(self, name: str) -> bool:
        """Whether *name* is there no more.  Raises StorageFailed."""
        return self._storage.look(name) is None

    def let_go(self, number: int) -> None:
        """Have what was opened as *number* closed; called wherever garbage is collected."""
        self._left.append(number)


class SftpObject:
    """A file opened for reading at any place, as StoredObject says.

    *number* is what *files* know it by.
    """

    def __init__(self, files: OpenFiles, name: str, number: int, size: int) -> None:
        self._files, self._number = files, number
        self.name = self.shown = self._stored_as = name
        self.size = size
        self._close = weakref.finalize(self, files.let_go, number)

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        return self._files.read(self._stored_as, self._number, offset, size)

    def is_removed(self) -> bool:
        """As StoredObject says."""
        return self._files.is_removed(self._stored_as)

    def close(self) -> None:
        """As StoredObject says."""
        self._close()

    def __enter__(self) -> SftpObject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()
