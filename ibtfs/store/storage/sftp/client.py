"""Files on another machine: what SFTP can do, many requests at once, and again if need be."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

from ibtfs.store.storage.base import Space
from ibtfs.store.storage.reconnecting import Reconnecting
from ibtfs.store.storage.sftp import wire
from ibtfs.store.storage.sftp.channel import Channel, ConnectionLost, Reply
from ibtfs.store.storage.sftp.replies import (
    attributes_of,
    data_of,
    done,
    entries_of,
    handle_of,
    refusal,
)
from ibtfs.store.storage.sftp.wire import Attributes, number, string
from ibtfs.store.storage.waiting import RETRY_SECONDS

PIECE = 32 << 10
"""What every server takes and gives at once."""
LIST_AHEAD = 4
MOST = 1 << 40
"""Of blocks, files and bytes of a block, whatever a server tells."""
NAMES_LIMIT = 10_000_000
_LIMITS, _SYNC, _SPACE = b"limits@openssh.com", b"fsync@openssh.com", b"statvfs@openssh.com"
_REPLACE, _LINK = b"posix-rename@openssh.com", b"hardlink@openssh.com"


class Handle(NamedTuple):
    """A file that is open, and the connection that it is open on."""

    channel: Channel
    name: bytes


class _Limits(NamedTuple):
    read: int = PIECE
    write: int = PIECE


class SftpClient(Reconnecting[Channel]):
    """The files that *connect* leads to; threads may share it.

    Paths are bytes; messages call it *shown*.  What goes wrong is raised as OSError.
    """

    def __init__(
        self, connect: Callable[[], Channel], shown: str, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        super().__init__(connect, shown, retry_seconds)
        self._limits = _Limits()

    def _settle(self, channel: Channel) -> None:
        self._limits = self._asked_limits(channel)

    def _asked_limits(self, channel: Channel) -> _Limits:
        if channel.extensions.get(_LIMITS) != b"1":
            return _Limits()
        reply = channel.send(wire.EXTENDED, string(_LIMITS)).result()
        if reply.kind != wire.EXTENDED_REPLY:
            return _Limits()
        _, read, write = (reply.fields.long() for _ in range(3))
        return _Limits(
            max(PIECE, min(read, wire.PACKET_LIMIT >> 2)),
            max(PIECE, min(write, wire.PACKET_LIMIT >> 2)),
        )

    # Files

    def open(self, channel: Channel, path: bytes, flags: int, mode: int = 0) -> Handle:
        """Open a file; *mode* are the permissions of a new one.  Raises OSError."""
        attributes = wire.mode_attributes(mode) if flags & wire.FLAG_CREATE else wire.NO_ATTRIBUTES
        future = channel.send(wire.OPEN, string(path), number(flags), attributes)
        return Handle(channel, handle_of(future))

    def close(self, handle: Handle) -> Future[Reply]:
        """Begin to close a file."""
        return handle.channel.send(wire.CLOSE, string(handle.name))

    def drop(self, handle: Handle) -> None:
        """Close a file that was read, if its connection is still there."""
        if handle.channel.owner == os.getpid():
            with contextlib.suppress(ConnectionLost):
                self.close(handle)

    def read(self, handle: Handle, offset: int, size: int) -> bytes:
        """*size* bytes from *offset*, fewer at the end of the file.  Raises OSError."""
        most = self._limits.read
        places = [(at, min(most, offset + size - at)) for at in range(offset, offset + size, most)]
        futures = [self._begin_read(handle, *place) for place in places]
        pieces = []
        for (at, wanted), future in zip(places, futures):
            piece = data_of(future)
            if len(piece) > wanted:
                raise wire.Malformed("more than was asked for")
            while 0 < len(piece) < wanted:  # a server may give less than was asked for
                place = (at + len(piece), wanted - len(piece))
                more = data_of(self._begin_read(handle, *place))
                if not more:
                    break
                piece += more
            pieces.append(piece)
            if len(piece) < wanted:
                break
        return b"".join(pieces)

    def _begin_read(self, handle: Handle, offset: int, size: int) -> Future[Reply]:
        place = struct.pack(">QI", offset, size)
        return handle.channel.send(wire.READ, string(handle.name), place)

    def pieces(self, data: bytes | memoryview) -> list[memoryview]:
        """*data* in pieces that can be written."""
        view, most = memoryview(data), self._limits.write
        return [view[at : at + most] for at in range(0, len(view), most)]

    def write(self, handle: Handle, offset: int, piece: memoryview) -> Future[Reply]:
        """Begin to write a piece."""
        head = string(handle.name) + struct.pack(">QI", offset, len(piece))
        return handle.channel.send(wire.WRITE, head, piece)

    def can_sync(self, channel: Channel) -> bool:
        """Whether the server can make a file durable."""
        return channel.extensions.get(_SYNC) == b"1"

    def sync(self, handle: Handle) -> Future[Reply] | None:
        """Begin to make a file durable; None if the server cannot."""
        if not self.can_sync(handle.channel):
            return None
        return handle.channel.send(wire.EXTENDED, string(_SYNC), string(handle.name))

    def read_end(self, handle: Handle, most: int, size: int) -> tuple[Attributes, bytes]:
        """What a file is, and its last *most* bytes; it should have *size*.  Raises OSError."""
        asked = handle.channel.send(wire.FSTAT, string(handle.name))
        first = max(size - most, 0)
        end = self.read(handle, first, size - first) if size > 0 else b""
        found = attributes_of(asked)
        if found.size != size:
            first = max(found.size - most, 0)
            end = self.read(handle, first, found.size - first)
        return found, end

    # Names

    def look(self, channel: Channel, path: bytes, *, follow: bool = False) -> Attributes:
        """What *path* is, or what it leads to if *follow*.  Raises OSError."""
        kind = wire.STAT if follow else wire.LSTAT
        return attributes_of(channel.send(kind, string(path)))

    def names(self, channel: Channel, path: bytes) -> list[bytes]:
        """The names in a folder, in no order.  Raises OSError."""
        return [name for name, _ in self.entries(channel, path)]

    def entries(self, channel: Channel, path: bytes) -> list[tuple[bytes, Attributes]]:
        """The names in a folder, in no order, and what each is.  Raises OSError."""
        handle = Handle(channel, handle_of(channel.send(wire.OPENDIR, string(path))))
        found: list[tuple[bytes, Attributes]] = []
        try:
            while True:
                # a reply holds about a hundred names
                ahead = [channel.send(wire.READDIR, string(handle.name)) for _ in range(LIST_AHEAD)]
                replies = [future.result() for future in ahead]
                for reply in replies:
                    if reply.kind != wire.NAME:
                        said = refusal(reply)
                        if said.code == wire.EOF:
                            return found
                        raise said.error()
                    found += entries_of(reply.fields)
                    if len(found) > NAMES_LIMIT:
                        raise wire.Malformed("a folder without end")
        finally:
            self.close(handle)

    def make_folder(self, channel: Channel, path: bytes, mode: int) -> None:
        """Make a folder, which may be there already.  Raises OSError."""
        try:
            done(channel.send(wire.MKDIR, string(path), wire.mode_attributes(mode)))
        except OSError:
            if not stat.S_ISDIR(self.look(channel, path).mode):
                raise
        else:
            self.set_mode(channel, path, mode)

    def set_mode(self, channel: Channel, path: bytes, mode: int) -> None:
        """Set permissions, whatever the server's umask took away.  Raises OSError."""
        done(channel.send(wire.SETSTAT, string(path), wire.mode_attributes(mode)))

    def rename(self, channel: Channel, old: bytes, new: bytes) -> None:
        """Give *old* the name *new*, which nothing has.  Raises OSError, FileExistsError."""
        if _LINK not in channel.extensions:
            # another server than OpenSSH's may rename over what is there
            with contextlib.suppress(FileNotFoundError):
                self.look(channel, new)
                raise FileExistsError(errno.EEXIST, "is there already")
        try:
            done(channel.send(wire.RENAME, string(old), string(new)))
        except FileNotFoundError:
            raise
        except OSError as error:
            # a server says no more than that it failed
            try:
                self.look(channel, new)
            except FileNotFoundError:
                raise error from None
            raise FileExistsError(errno.EEXIST, "is there already") from error

    def replace(self, channel: Channel, old: bytes, new: bytes) -> None:
        """Give *old* the name *new*, whatever has it.  Raises OSError."""
        if channel.extensions.get(_REPLACE) != b"1":
            raise OSError(errno.EOPNOTSUPP, "the server cannot put one file in another's place")
        done(channel.send(wire.EXTENDED, string(_REPLACE), string(old), string(new)))

    def remove(self, channel: Channel, path: bytes) -> None:
        """Remove a file.  Raises OSError."""
        done(channel.send(wire.REMOVE, string(path)))

    def remove_folder(self, channel: Channel, path: bytes) -> None:
        """Remove an empty folder.  Raises OSError."""
        done(channel.send(wire.RMDIR, string(path)))

    def space(self, channel: Channel, path: bytes) -> Space | None:
        """The file system that *path* is in; None if the server does not tell.  Raises OSError."""
        if channel.extensions.get(_SPACE) != b"2":
            return None
        reply = channel.send(wire.EXTENDED, string(_SPACE), string(path)).result()
        if reply.kind != wire.EXTENDED_REPLY:
            raise refusal(reply).error()
        _, size, blocks, free, available, files, files_free = (
            reply.fields.long() for _ in range(7)
        )
        found = (size, blocks, free, available, files, files_free)
        return Space(*(min(value, MOST) for value in found))
