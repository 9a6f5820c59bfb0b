"""What a server answers: what was asked for, or why not, as an OSError."""

from __future__ import annotations

import errno
import os
from concurrent.futures import Future
from typing import NamedTuple

from ibtfs.store.storage.sftp import wire
from ibtfs.store.storage.sftp.channel import Reply
from ibtfs.store.storage.sftp.wire import Attributes

_ERRNOS = {
    wire.EOF: errno.ENODATA,
    wire.NO_SUCH_FILE: errno.ENOENT,
    wire.PERMISSION_DENIED: errno.EACCES,
    wire.UNSUPPORTED: errno.EOPNOTSUPP,
}


class Refusal(NamedTuple):
    """What a server says when it does not do something."""

    code: int
    text: str

    def error(self) -> OSError:
        """The error that says so; most of what can go wrong has one code for all of it."""
        if self.code in _ERRNOS:
            found = _ERRNOS[self.code]
            return OSError(found, os.strerror(found))
        return OSError(errno.EIO, f"the server says: {self.text or self.code}")


def refusal(reply: Reply) -> Refusal:
    """What a reply that is no answer says.  Raises Malformed."""
    if reply.kind != wire.STATUS:
        raise wire.Malformed(f"a reply of kind {reply.kind}")
    code = reply.fields.number()
    text = "" if reply.fields.is_at_end else reply.fields.string().decode(errors="replace")
    return Refusal(code, text)


def done(future: Future[Reply]) -> None:
    """Wait for a reply that says nothing but whether it went well.  Raises OSError."""
    said = refusal(future.result())
    if said.code != wire.OK:
        raise said.error()


def handle_of(future: Future[Reply]) -> bytes:
    """The name of what was opened.  Raises OSError."""
    reply = future.result()
    if reply.kind != wire.HANDLE:
        raise refusal(reply).error()
    return reply.fields.string()


def data_of(future: Future[Reply]) -> bytes:
    """What was read; nothing at the end of a file.  Raises OSError."""
    reply = future.result()
    if reply.kind == wire.DATA:
        return reply.fields.string()
    said = refusal(reply)
    if said.code == wire.EOF:
        return b""
    raise said.error()


def attributes_of(future: Future[Reply]) -> Attributes:
    """What a file is.  Raises OSError."""
    reply = future.result()
    if reply.kind != wire.ATTRS:
        raise refusal(reply).error()
    return reply.fields.attributes()


def entries_of(fields: wire.Fields) -> list[tuple[bytes, Attributes]]:
    """The names that a folder has, as far as they can be names, and what each is."""
    found = []
    for _ in range(fields.number()):
        name = fields.string()
        fields.string()  # the line that ls would show
        attributes = fields.attributes()
        if name not in (b".", b"..") and b"/" not in name and b"\0" not in name:
            found.append((name, attributes))
    return found
