"""What ``ibtfs serve-store`` and its client say to each other.

A message is its size and that of its head (4 and 2 bytes, big endian), the head, an array as
msgpack, and data.  Requests are ``[number, verb, arguments...]``, replies
``[number, "", values...]`` or ``[number, kind of failure, text, errno]``, in any order.  The first
request is ``[0, "hello", MAGIC, version, secret, path]``, its reply ``[0, "", version, modes]``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from ibtfs.errors import (
    FormatDamaged,
    IbtfsError,
    LockLost,
    NotARepository,
    ObjectExists,
    ObjectMissing,
    ObjectUnreadable,
    RepositoryError,
    RepositoryExists,
    StorageFailed,
    StorageFull,
)
from ibtfs.format.packing import pack, unpack_tuple
from ibtfs.store.storage.pipe import ConnectionLost, Malformed

MAGIC, VERSION = "ibtfs store", 1
APPEND_ONLY, WRITE_ONLY = "append-only", "write-only"
HELLO, PING = "hello", "ping"
HEAD_LIMIT, DATA_LIMIT = 16 << 10, 1 << 20
WORDS = 12
"""Values in a head at most; none of them holds others."""
SIZES = 6
PIECE = 256 << 10
"""Bytes that are read or written by one request: many are on their way at once."""
FIRST_BYTES, LAST_BYTES = 64 << 10, 16 << 10
"""What comes with the opening of an object: all of a small one, the end of another."""
PAGE_BYTES = 512 << 10
"""Names in one reply, so many bytes of them."""
TEXT_LIMIT = 2000
PING_SECONDS, IDLE_SECONDS = 20, 90
"""How often a client says that it is there; a server that hears nothing for so long ends."""
BUSY = "busy"
"""A kind of failure: the process of an earlier connection is not gone yet; ask again."""

_KINDS: dict[str, type[IbtfsError]] = {
    "missing": ObjectMissing,
    "unreadable": ObjectUnreadable,
    "exists": ObjectExists,
    "full": StorageFull,
    "failed": StorageFailed,
    "lost": LockLost,
    "none": NotARepository,
    "there": RepositoryExists,
    "place": RepositoryError,
}
_KIND_OF = {kind: name for name, kind in _KINDS.items()}


class Busy(Exception):
    """The process of an earlier connection still has what is asked for."""


class Message(NamedTuple):
    """A request or a reply."""

    head: tuple[Any, ...]
    data: bytes = b""

    @property
    def number(self) -> int:
        """The number of the request."""
        found: int = self.head[0]
        return found


def encoded(head: tuple[Any, ...], data: bytes | memoryview = b"") -> list[bytes | memoryview]:
    """A message as it is sent.  Raises ValueError if it is too long."""
    packed = pack(head)
    if len(packed) > HEAD_LIMIT or len(data) > DATA_LIMIT:
        raise ValueError("a message that is too long")
    sizes = (len(packed) + len(data)).to_bytes(4, "big") + len(packed).to_bytes(2, "big")
    return [sizes + packed, data]


def received(read: Callable[[int], bytes]) -> Message | None:
    """The next message, by *read*, which gives less only at the end; None there.

    Nothing is believed before it is there: raises Malformed of lengths that no message has.
    """
    sizes = read(SIZES)
    if len(sizes) < SIZES:
        return None
    size, head_size = int.from_bytes(sizes[:4], "big"), int.from_bytes(sizes[4:], "big")
    if head_size > HEAD_LIMIT or not head_size <= size <= head_size + DATA_LIMIT:
        raise Malformed(f"a message of {size} bytes")
    body = read(size)
    if len(body) < size:
        return None
    try:
        head = unpack_tuple(body[:head_size], "a message", 2)
    except FormatDamaged as error:
        raise Malformed(str(error)) from error
    if type(head[0]) is not int or type(head[1]) is not str or head[0] < 0:
        raise Malformed("a message without a number")
    if len(head) > WORDS or {tuple, dict} & set(map(type, head)):
        raise Malformed("a message of too much")
    return Message(head, body[head_size:])


def failure(number: int, error: IbtfsError | Busy) -> tuple[Any, ...]:
    """The reply that says what went wrong."""
    if isinstance(error, Busy):
        return (number, BUSY, "", 0)
    kind = next((_KIND_OF[one] for one in type(error).__mro__ if one in _KIND_OF), "failed")
    cause = error.__cause__
    code = cause.errno if isinstance(cause, OSError) and cause.errno else 0
    return (number, kind, str(error)[:TEXT_LIMIT], code)


def answer(reply: Message) -> Message:
    """*reply*, if it is what was asked for.

    Raises what went wrong, ConnectionLost if it may be asked again later, Malformed.
    """
    kind = reply.head[1]
    if not kind:
        return reply
    if kind == BUSY:
        raise ConnectionLost(0, "the server has not seen yet that the last connection ended")
    values = reply.head[2:]
    if kind not in _KINDS or len(values) != 2 or tuple(map(type, values)) != (str, int):
        raise Malformed("a failure of no kind")
    text = "".join(c if c.isprintable() else "?" for c in values[0][:TEXT_LIMIT])
    error = _KINDS[kind](text)
    if values[1]:
        code = values[1] & 0xFFFF
        raise error from OSError(code, os.strerror(code))
    raise error


def values_of(reply: Message, *types: type) -> tuple[Any, ...]:
    """The values of a reply, which are of these *types*.  Raises Malformed."""
    values = reply.head[2:]
    if tuple(map(type, values)) != types:
        raise Malformed("a reply with other values")
    return values
