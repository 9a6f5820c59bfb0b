"""Files on another machine: what SFTP can do, many requests at once, and again if need be."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

from ibtfs.store.storage.base import Space
from ibtfs.store.storage.sftp import wire
from ibtfs.store.storage.sftp.channel import Channel, ConnectionLost, Reply
from ibtfs.store.storage.sftp.wire import Attributes, number, string

RETRY_SECONDS = 15 * 60
"""So long a connection that was lost is tried again: a router may be started anew meanwhile."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
PIECE = 32 << 10
"""What every server takes and gives at once."""
LIST_AHEAD = 4
_LIMITS, _SYNC, _SPACE = b"limits@openssh.com", b"fsync@openssh.com", b"statvfs@openssh.com"
_REPLACE = b"posix-rename@openssh.com"
_ERRNOS = {
    wire.EOF: errno.ENODATA,
    wire.NO_SUCH_FILE: errno.ENOENT,
    wire.PERMISSION_DENIED: errno.EACCES,
    wire.UNSUPPORTED: errno.EOPNOTSUPP,
}
Result = TypeVar("Result")


class Handle(NamedTuple):
    """A file that is open, and the connection that it is open on."""

    channel: Channel
    name: bytes


class _Limits(NamedTuple):
    read: int = PIECE
    write: int = PIECE


class SftpClient:
    """The files that *connect* leads to; threads may share it.

    Paths are bytes.  What goes wrong is raised as OSError, with ENOTCONN if there is no connection.
    One that was lost is made anew, and :meth:`again` repeats what was under way, for
    *retry_seconds*; after that each is tried once.
    """

    def __init__(
        self, connect: Callable[[], Channel], retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self._connect, self._retry_seconds = connect, retry_seconds
        self._gave_up = False
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._limits = _Limits()
        self._was_there = False
        self._close: weakref.finalize[..., SftpClient] | None = None

    # The connection

    def channel(self) -> Channel:
        """The connection, made if there is none.  Raises ConnectionLost."""
        with self._lock:
            channel = self._channel
            if channel is not None and channel.owner != os.getpid():
                channel.leave()
                self._drop(channel)
                channel = None
            if channel is None:
                channel = self._connect()
                self._channel = channel
                self._close = weakref.finalize(self, channel.close)
                self._limits = self._asked_limits(channel)
                self._was_there = True
            return channel

    def _drop(self, channel: Channel) -> None:
        if self._channel is channel:
            self._channel = None
            if self._close is not None:
                self._close.detach()

    def lost(self, channel: Channel) -> None:
        """Give up a connection that failed."""
        with self._lock:
            if self._channel is channel:
                self._drop(channel)
                channel.close()

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

    def again(self, work: Callable[[Channel], Result]) -> Result:
        """What *work* gives, with another connection if one is lost; it must bear to be repeated.

        Raises OSError.
        """
        wait, began = FIRST_WAIT, time.monotonic()
        while True:
            channel = None
            try:
                channel = self.channel()
                result = work(channel)
                self._gave_up = False
                return result
            except wire.Malformed as error:
                if channel is not None:
                    self.lost(channel)
                raise OSError(errno.EPROTO, f"the server answers wrongly: {error}") from error
            except ConnectionLost as error:
                if channel is not None:
                    self.lost(channel)
                if time.monotonic() - began > self._retry_seconds:
                    self._gave_up = True
                if self._gave_up or not self._was_there:
                    raise OSError(errno.ENOTCONN, error.strerror) from error
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    # Files

    def open(self, channel: Channel, path: bytes, flags: int, mode: int = 0) -> Handle:
        """Open a file; *mode* are the permissions of a new one.  Raises OSError."""
        attributes = wire.mode_attributes(mode) if flags & wire.FLAG_CREATE else wire.NO_ATTRIBUTES
        future = channel.send(wire.OPEN, string(path), number(flags), attributes)
        return Handle(channel, _handle(future))

    def close(self, handle: Handle) -> Future[Reply]:
        """Begin to close a file; what was written may fail only now."""
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
            piece = _data(future)
            while 0 < len(piece) < wanted:  # a server may give less than was asked for
                place = (at + len(piece), wanted - len(piece))
                more = _data(self._begin_read(handle, *place))
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

    def sync(self, handle: Handle) -> Future[Reply] | None:
        """Begin to make a file durable; None if the server cannot."""
        if handle.channel.extensions.get(_SYNC) != b"1":
            return None
        return handle.channel.send(wire.EXTENDED, string(_SYNC), string(handle.name))

    # Names

    def look(self, channel: Channel, path: bytes) -> Attributes:
        """What *path* is, itself.  Raises OSError."""
        return _attributes(channel.send(wire.LSTAT, string(path)))

    def names(self, channel: Channel, path: bytes) -> list[bytes]:
        """The names in a folder, in no order.  Raises OSError."""
        handle = Handle(channel, _handle(channel.send(wire.OPENDIR, string(path))))
        found: list[bytes] = []
        try:
            while True:
                # a reply holds about a hundred names
                ahead = [channel.send(wire.READDIR, string(handle.name)) for _ in range(LIST_AHEAD)]
                replies = [future.result() for future in ahead]
                for reply in replies:
                    if reply.kind != wire.NAME:
                        refusal = _refusal(reply)
                        if refusal.code == wire.EOF:
                            return found
                        raise refusal.error()
                    found += _names(reply.fields)
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
        if channel.extensions.get(_REPLACE) == b"1":
            done(channel.send(wire.EXTENDED, string(_REPLACE), string(old), string(new)))
            return
        done(channel.send(wire.REMOVE, string(new)))
        done(channel.send(wire.RENAME, string(old), string(new)))

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
            raise _refusal(reply).error()
        _, size, blocks, free, available, files, files_free = (
            reply.fields.long() for _ in range(7)
        )
        return Space(size, blocks, free, available, files, files_free)


class _Refusal(NamedTuple):
    """What a server says when it does not do something."""

    code: int
    text: str

    def error(self) -> OSError:
        """The error that says so; most of what can go wrong has one code for all of it."""
        if self.code in _ERRNOS:
            found = _ERRNOS[self.code]
            return OSError(found, os.strerror(found))
        return OSError(errno.EIO, f"the server says: {self.text or self.code}")


def _refusal(reply: Reply) -> _Refusal:
    if reply.kind != wire.STATUS:
        raise wire.Malformed(f"a reply of kind {reply.kind}")
    code = reply.fields.number()
    text = "" if reply.fields.is_at_end else reply.fields.string().decode(errors="replace")
    return _Refusal(code, text)


def done(future: Future[Reply]) -> None:
    """Wait for a reply that says nothing but whether it went well.  Raises OSError."""
    refusal = _refusal(future.result())
    if refusal.code != wire.OK:
        raise refusal.error()


def _handle(future: Future[Reply]) -> bytes:
    reply = future.result()
    if reply.kind != wire.HANDLE:
        raise _refusal(reply).error()
    return reply.fields.string()


def _data(future: Future[Reply]) -> bytes:
    reply = future.result()
    if reply.kind == wire.DATA:
        return reply.fields.string()
    refusal = _refusal(reply)
    if refusal.code == wire.EOF:
        return b""
    raise refusal.error()


def _attributes(future: Future[Reply]) -> Attributes:
    reply = future.result()
    if reply.kind != wire.ATTRS:
        raise _refusal(reply).error()
    return reply.fields.attributes()


def _names(fields: wire.Fields) -> list[bytes]:
    found = []
    for _ in range(fields.number()):
        found.append(fields.string())
        fields.string()  # the line that ls would show
        fields.attributes()
    return [name for name in found if name not in (b".", b"..")]
