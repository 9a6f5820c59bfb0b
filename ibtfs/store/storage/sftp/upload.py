"""An object being put by SFTP: written beside its place, then named, by several connections."""

from __future__ import annotations

import errno
import stat
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import NamedTuple, Protocol, TypeVar

from ibtfs.errors import LockLost, ObjectExists, ObjectMissing, StorageFailed, StorageFull
from ibtfs.store.storage.base import LOST, Space
from ibtfs.store.storage.sftp import wire
from ibtfs.store.storage.sftp.channel import Channel, Reply
from ibtfs.store.storage.sftp.client import Handle, SftpClient, done

IN_FLIGHT = 4 << 20
"""Bytes that are on their way at most: what a slow reply does not hold up."""
Result = TypeVar("Result")


class Place(Protocol):
    """What an upload needs of its storage; SftpStorage says what each does."""

    client: SftpClient

    @property
    def mode(self) -> int:
        """The permissions of new files."""
        ...

    def path(self, name: str) -> bytes:
        """Where an object lies."""
        ...

    def does(self, name: str, work: Callable[[Channel], Result]) -> Result:
        """Work that may be repeated."""
        ...

    def make_folder(self, name: str) -> None:
        """Make a folder."""
        ...

    def drop_folder(self, name: str) -> None:
        """Remove a folder if it is empty."""
        ...

    def part_name(self, base: str) -> str:
        """The name under which an upload of *base* is begun."""
        ...

    def require_leases(self) -> None:
        """Raise LockLost unless the owner's leases are in place."""
        ...

    def space(self) -> Space:
        """The file system."""
        ...


class _Written(NamedTuple):
    """A piece that was sent: where it lies, its bytes, and the reply to come."""

    offset: int
    data: memoryview
    reply: Future[Reply] | None


class SftpUpload:
    """A file being put, as Upload says; *in_place* of what has its name, or as a new one."""

    def __init__(self, storage: Place, name: str, *, in_place: bool = False) -> None:
        self._storage, self.name, self._in_place = storage, name, in_place
        folder, _, base = name.rpartition("/")
        self._folder = folder
        self._part = f"{folder}/" * bool(folder) + storage.part_name(base)
        self._client = storage.client
        self.size = 0
        self._on_way: deque[_Written] = deque()
        self._bytes_on_way = 0
        self._is_open = True
        self._was_named = False
        self._handle: Handle | None = None
        try:
            self._begin()
        except ObjectMissing:
            storage.make_folder(folder)
            self._begin()

    def _begin(self) -> None:
        flags = wire.FLAG_WRITE | wire.FLAG_CREATE

        def work(channel: Channel) -> Handle:
            # not as a new one: what a lost reply told of is this upload's
            path, mode = self._storage.path(self._part), self._storage.mode
            handle = self._client.open(channel, path, flags, mode)
            if mode & stat.S_IRWXG:
                self._client.set_mode(channel, path, mode)
            return handle

        self._handle = self._storage.does(self.name, work)

    def _opened(self, channel: Channel) -> Handle:
        """The part, open on *channel*; what may not have arrived is sent again."""
        handle = self._handle
        if handle is not None and handle.channel is channel:
            return handle
        # never made anew: if it is gone, somebody took its owner for dead
        handle = self._client.open(channel, self._storage.path(self._part), wire.FLAG_WRITE)
        again = list(self._on_way)
        self._on_way.clear()
        for piece in again:
            reply = self._client.write(handle, piece.offset, piece.data)
            self._on_way.append(piece._replace(reply=reply))
        self._handle = handle
        return handle

    def write(self, data: bytes | memoryview) -> None:
        """As Upload says."""
        for piece in self._client.pieces(bytes(data)):
            while self._bytes_on_way >= IN_FLIGHT:
                self._settle_one()
            self._on_way.append(_Written(self.size, piece, None))
            self._bytes_on_way += len(piece)
            self.size += len(piece)
            self._do(self._send_last)

    def _send_last(self, channel: Channel) -> None:
        handle = self._opened(channel)
        last = self._on_way[-1]
        if last.reply is None or (last.reply.done() and last.reply.exception()):
            reply = self._client.write(handle, last.offset, last.data)
            self._on_way[-1] = last._replace(reply=reply)

    def _settle_one(self) -> None:
        """Wait for the reply to what was sent first."""

        def work(channel: Channel) -> None:
            self._opened(channel)
            first = self._on_way[0]
            assert first.reply is not None
            done(first.reply)

        self._do(work)
        self._bytes_on_way -= len(self._on_way.popleft().data)

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
        return space.blocks_available * space.block_size < IN_FLIGHT or not space.files_free

    def finish(self) -> None:
        """As Upload says."""
        while self._on_way:
            self._settle_one()
        self._do(self._end)
        self._storage.require_leases()
        self._do(self._name)
        self._is_open = False

    def _end(self, channel: Channel) -> None:
        handle = self._opened(channel)
        synced, closed = self._client.sync(handle), self._client.close(handle)
        self._handle = None
        if synced is not None:
            done(synced)
        done(closed)

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
        """Whether *name* is what was put here, as its size tells: names are random."""
        try:
            return self._client.look(channel, name).size == self.size
        except FileNotFoundError:
            return False

    def abort(self) -> None:
        """As Upload says; a folder of its own goes with it."""
        if not self._is_open:
            return
        self._is_open = False

        def work(channel: Channel) -> None:
            if self._handle is not None and self._handle.channel is channel:
                self._client.close(self._handle)
            try:
                self._client.remove(channel, self._storage.path(self._part))
            except FileNotFoundError:
                return

        try:
            self._storage.does(self.name, work)
            self._storage.drop_folder(self._folder)
        except (StorageFailed, StorageFull):
            pass  # the connection is gone: what was begun is found later

    def __enter__(self) -> SftpUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.abort()
