"""Files on another machine that are open for reading."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
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


class OpenFiles:
    """The open files of *storage*, by number; those used longest ago are closed for others.

    Threads may share it.
    """

    def __init__(self, storage: FilesStorage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Handle] = OrderedDict()
        self._numbers = itertools.count()

    def new_number(self) -> int:
        """A number for another file."""
        return next(self._numbers)

    def read(self, name: str, number: int, offset: int, size: int) -> bytes:
        """*size* bytes of *name*, opened as *number*.

        Raises ObjectMissing, ObjectUnreadable, StorageFailed.
        """

        def work(channel: Channel) -> bytes:
            handle = self.opened(channel, name, number)
            return self._storage.client.read(handle, offset, size)

        return self._storage.does(name, work, reading=True)

    def opened(self, channel: Channel, name: str, number: int) -> Handle:
        """*name*, open as *number*; opened again if it was closed for others.  Raises OSError."""
        with self._lock:
            handle = self._open.pop(number, None)
            if handle is not None and handle.channel is channel:
                self._open[number] = handle
                return handle
        client = self._storage.client
        handle = client.open(channel, self._storage.path(name), wire.FLAG_READ)
        with self._lock:
            self._open[number] = handle
            oldest = self._open.popitem(last=False)[1] if len(self._open) > OPEN_FILES else None
        if oldest is not None:
            client.drop(oldest)
        return handle

    def is_removed(self, name: str) -> bool:
        """Whether *name* is there no more.  Raises StorageFailed."""
        return self._storage.look(name) is None

    def let_go(self, number: int) -> None:
        """Close what was opened as *number*."""
        with self._lock:
            handle = self._open.pop(number, None)
        if handle is not None:
            self._storage.client.drop(handle)


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
