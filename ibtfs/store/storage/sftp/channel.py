"""A connection that speaks SFTP: requests, and the replies to them."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from ibtfs.store.storage.address import SshAddress
from ibtfs.store.storage.pipe import ConnectionLost, PipeChannel, ssh_words
from ibtfs.store.storage.sftp import wire

__all__ = ["Channel", "ConnectionLost", "Reply", "ssh_command"]


class Reply(NamedTuple):
    """A reply: its kind, and what follows the number of the request."""

    kind: int
    fields: wire.Fields


def ssh_command(address: SshAddress) -> list[str]:
    """What connects to *address*: OpenSSH's ssh, so all that its configuration says holds."""
    return [*ssh_words(address), "-s", "--", address.host.strip("[]"), "sftp"]


class Channel(PipeChannel[Reply]):
    """A connection made by *command*; threads may share it.

    *extensions* are those of the server, and their versions.  Raises ConnectionLost.
    """

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(command)
        self.extensions = self._begin(self._greet, "no SFTP of version 3 there")

    def _greet(self) -> dict[bytes, bytes]:
        with contextlib.suppress(BrokenPipeError):  # it may have said why, all the same
            self._out.write(struct.pack(">IBI", 5, wire.INIT, wire.VERSION))
            self._out.flush()
        data = self._packet()
        if not data:
            raise self._end("no connection")
        fields = wire.Fields(data[1:])
        if data[0] != wire.VERSION_REPLY or fields.number() < wire.VERSION:
            raise wire.Malformed("another version")
        found = {}
        while not fields.is_at_end:
            name = fields.string()
            found[name] = fields.string()
        return found

    def _packet(self) -> bytes:
        """The next packet; none at the end.  Raises wire.Malformed."""
        head = self._in.read(4)
        if len(head) < 4:
            return b""
        size = int.from_bytes(head, "big")
        if not 1 <= size <= wire.PACKET_LIMIT:
            raise wire.Malformed(f"a reply of {size} bytes")
        data = self._in.read(size)
        return data if len(data) == size else b""

    def _next(self) -> tuple[int, Reply] | None:
        data = self._packet()
        if not data:
            return None
        return int.from_bytes(data[1:5], "big"), Reply(data[0], wire.Fields(data[5:]))

    def send(self, kind: int, *parts: bytes | memoryview) -> Future[Reply]:
        """Send a request; its reply comes later.  Raises ConnectionLost."""
        size = 5 + sum(map(len, parts))
        return self._sent(lambda request: [struct.pack(">IBI", size, kind, request), *parts])
