"""A connection to a server: requests with the words of a verb, and the replies to them."""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ibtfs.errors import IbtfsError
from ibtfs.store.storage.address import SshAddress
from ibtfs.store.storage.pipe import ConnectionLost, Malformed, PipeChannel, ssh_words
from ibtfs.store.storage.ssh import wire

HERE = '"$PATH:$HOME/.local/bin:$HOME/bin:/usr/local/bin"'
"""Where ibtfs is looked for there: a shell that is not logged in knows fewer places."""


def served_command(address: SshAddress) -> list[str]:
    """What starts a server at *address*; a server that is forced upon the key ignores it."""
    path = shlex.quote(os.fsdecode(address.path))
    asked = f"env PATH={HERE} ibtfs serve-store -- {path}"
    return [*ssh_words(address), "-T", "--", address.host.strip("[]"), asked]


class StoreChannel(PipeChannel[wire.Message]):
    """A connection made by *command*; threads may share it.  *modes* are those of the server.

    *secret* tells the server whose uploads and locks are ours, *path* which repository is meant.
    Raises ConnectionLost, and what the server says to the greeting.
    """

    def __init__(self, command: Sequence[str], secret: bytes, path: bytes) -> None:
        super().__init__(command)
        self._closed = threading.Event()
        greeting = (0, wire.HELLO, wire.MAGIC, wire.VERSION, secret, path)
        self.modes = self._begin(lambda: self._greet(greeting), "no ibtfs serve-store there")
        threading.Thread(target=self._keep, name="ibtfs-ping", daemon=True).start()

    def _greet(self, greeting: tuple[Any, ...]) -> frozenset[str]:
        with contextlib.suppress(BrokenPipeError):  # it may have said why, all the same
            for part in wire.encoded(greeting):
                self._out.write(part)
            self._out.flush()
        reply = wire.received(self._in.read)
        if reply is None:
            raise self._end("no connection")
        try:
            version, modes = wire.values_of(wire.answer(reply), int, str)
        except IbtfsError:
            self.close()
            raise
        if reply.number or version != wire.VERSION:
            raise Malformed("another version")
        return frozenset(modes.split())

    def _next(self) -> tuple[int, wire.Message] | None:
        reply = wire.received(self._in.read)
        return None if reply is None else (reply.number, reply)

    def _keep(self) -> None:
        """Say now and then that somebody is here."""
        with contextlib.suppress(ConnectionLost):
            while not self._closed.wait(wire.PING_SECONDS) and self.owner == os.getpid():
                self.ask(wire.PING)

    def ask(self, verb: str, *words: Any, data: bytes | memoryview = b"") -> Future[wire.Message]:
        """Send a request; its reply comes later.  Raises ConnectionLost."""
        return self._sent(lambda number: wire.encoded((number, verb, *words), data))

    def close(self) -> None:
        """As PipeChannel says."""
        self._closed.set()
        super().close()


Connect = Callable[[bytes], StoreChannel]
"""Makes a connection for who knows a secret."""
