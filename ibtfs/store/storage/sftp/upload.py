"""An object being put by SFTP: written beside its place, then named, by several connections.

What was written is kept until the server has made it durable: a server that starts anew may forget
what it only acknowledged, and then it is sent again.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import NamedTuple, Protocol, TypeVar

from ibtfs.errors import LockLost, ObjectExists, ObjectMissing, StorageFailed, StorageFull
from ibtfs.store.storage.base import LOST, Space
from ibtfs.store.storage.leases import LeaseBook
from ibtfs.store.storage.sftp import wire
from ibtfs.store.storage.sftp.channel import Channel, Reply
from ibtfs.store.storage.sftp.client import Handle, SftpClient
from ibtfs.store.storage.sftp.lease import SftpLease
from ibtfs.store.storage.sftp.replies import done

KEPT = 8 << 20
"""Bytes that are kept, and on their way, at most; then the server is to make them durable."""
COMPARED = 64 << 10
"""Of an object that may be this one, so many bytes are compared, and its size."""
Result = TypeVar("Result")


class Place(Protocol):
    """What an upload needs of its storage; SftpStorage says what each does."""

    client: SftpClient
    leases: LeaseBook[SftpLease]

    @property
    def mode(self) -> int:
        """The permissions of new files."""
        ...

    def path(self, name: str) -> bytes:
        """Where an object lies."""
        ...

    def does(self, name: str, work: Callable[[Channel], Result], *, patient: bool = True) -> Result:
        """Work that may be repeated."""
        ...

    def make_folders_above(self, name: str) -> None:
        """Make the folders that an object is to lie in."""
        ...

    def drop_folder(self, name: str) -> None:
        """Remove a folder if it is empty."""
        ...

    def space(self) -> Space:
        """The file system."""
        ...


class _Piece(NamedTuple):
    """*data* that belongs at *offset*."""

    offset: int
    data: memoryview


class SftpUpload:
    """A file being put, as Upload says; *in_place* of what has its name, or as a new one.

    *part* is how it is called meanwhile, if that matters.  Used by one thread.
    """

    def __init__(
        self, storage: Place, name: str, *, in_place: bool = False, part: str | None = None
    ) -> None:
        self._storage, self.name, self._in_place = storage, name, in_place
        self._folder, _, base = name.rpartition("/")
        part = part or storage.leases.part_name(base)
        self._part = f"{self._folder}/{part}" if self._folder else part
        self._client = storage.client
        self.size = 0
        self._begins = bytearray()
        self._kept: list[_Piece] = []
        self._kept_bytes = 0
        # of the open handle: how many of the kept pieces were sent, and what was answered
        self._handle: Handle | None = None
        self._sent: list[Future[Reply]] = []
        self._is_open, self._was_named = True, False
        try:
            self._begin()
        except ObjectMissing:
            storage.make_folders_above(name)
            self._begin()

    def _begin(self) -> None:
        def work(channel: Channel) -> Handle:
            # not as a new one: what a lost reply told of is this upload's
            path, mode = self._storage.path(self._part), self._storage.mode
            flags = wire.FLAG_WRITE | wire.FLAG_CREATE
            handle = self._client.open(channel, path, flags, mode)
            if mode & stat.S_IRWXG:
                self._client.set_mode(channel, path, mode)
            return handle

        self._handle = self._storage.does(self.name, work)

    def _opened(self, channel: Channel) -> Handle:
        """The part, open on *channel*; of what is kept nothing was sent on another one."""
        handle = self._handle
        if handle is None or handle.channel is not channel:
            if self.size > self._kept_bytes and not self._client.can_sync(channel):
                raise OSError(errno.EIO, "the connection was lost while it was written")
            # never made anew: if it is gone, somebody took its owner for dead
            path = self._storage.path(self._part)
            handle = self._client.open(channel, path, wire.FLAG_WRITE)
            self._handle, self._sent = handle, []
        return handle

    def write(self, data: bytes | memoryview) -> None:
        """As Upload says."""
        data = bytes(data)
        self._begins += data[: max(COMPARED - len(self._begins), 0)]
        for piece in self._client.pieces(data):
            if self._kept_bytes + len(piece) > KEPT:
                self._settle()
            self._kept.append(_Piece(self.size, piece))
            self._kept_bytes += len(piece)
            self.size += len(piece)
        self._do(self._send)

    def _send(self, channel: Channel) -> Handle:
        """Send what was not sent yet."""
        handle = self._opened(channel)
        while len(self._sent) < len(self._kept):
            piece = self._kept[len(self._sent)]
            self._sent.append(self._client.write(handle, piece.offset, piece.data))
        return handle

    def _arrive(self, channel: Channel) -> Handle:
        """See that all was written, and is durable where the server can make it."""
        handle = self._send(channel)
        for reply in self._sent:
            done(reply)
        synced = self._client.sync(handle)
        if synced is not None:
            done(synced)
        return handle

    def _settle(self) -> None:
        """Let go of what is kept, when it has arrived."""
        self._do(self._arrive)
        self._kept, self._kept_bytes, self._sent = [], 0, []

    def _do(self, work: Callable[[Channel], Result]) -> Result:
        try:
            return self._storage.does(self.name, work)
        except ObjectMissing as error:
            raise LockLost(LOST) from error
        except StorageFailed as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno == errno.EIO and self._is_full():
                raise StorageFull(
                    f"No space left in the repository, writing {self.name!r}: free some room"
                ) from error
            raise

    def _is_full(self) -> bool:
        """Whether that is why the server, which does not say, failed."""
        try:
            space = self._storage.space()
        except StorageFailed:
            return False
        return space.blocks_available * space.block_size < KEPT or not space.files_free

    def finish(self) -> None:
        """As Upload says."""
        self._do(self._end)
        self._storage.leases.require()
        self._do(self._name)
        self._is_open = False

    def _end(self, channel: Channel) -> None:
        handle = self._arrive(channel)
        found = self._client.look(channel, self._storage.path(self._part)).size
        if found != self.size:
            raise OSError(errno.EIO, f"{self.size} bytes were written, and {found} are there")
        self._handle = None
        done(self._client.close(handle))

    def _name(self, channel: Channel) -> None:
        """Give the part its name; it has it already if the reply that said so was lost."""
        part, name = self._storage.path(self._part), self._storage.path(self.name)
        is_again, self._was_named = self._was_named, True
        try:
            if self._in_place:
                self._client.replace(channel, part, name)
            else:
                self._client.rename(channel, part, name)
        except FileExistsError as error:
            if is_again and self._is_this(channel, name):
                self._client.remove(channel, part)  # servers name first, and then remove
                return
            raise ObjectExists(f"{self.name}: is there already") from error
        except FileNotFoundError:
            if not (is_again and self._is_this(channel, name)):
                raise LockLost(LOST) from None

    def _is_this(self, channel: Channel, name: bytes) -> bool:
        """Whether *name* is what was put here: names are random, but for that of small ones."""
        try:
            if self._client.look(channel, name).size != self.size:
                return False
            handle = self._client.open(channel, name, wire.FLAG_READ)
            begins = self._client.read(handle, 0, len(self._begins))
        except FileNotFoundError:
            return False
        self._client.drop(handle)
        return begins == self._begins

    def abort(self) -> None:
        """As Upload says; a folder of its own goes with it."""
        if not self._is_open:
            return
        self._is_open = False

        def work(channel: Channel) -> None:
            handle = self._handle
            if handle is not None and handle.channel is channel:
                self._client.close(handle)
            try:
                self._client.remove(channel, self._storage.path(self._part))
            except FileNotFoundError:
                return

        try:
            self._storage.does(self.name, work, patient=False)
            self._storage.drop_folder(self._folder)
        except (ObjectMissing, StorageFailed, StorageFull):
            pass  # the connection is gone: what was begun is found later

    def __enter__(self) -> SftpUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.abort()
