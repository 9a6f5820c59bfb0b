"""A connection by a program that is run: requests, and a thread that takes the replies.

How requests and replies look on the wire is for those that build upon it.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import io
import itertools
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import BinaryIO, Generic, TypeVar, cast

from ibtfs.store.storage.address import SshAddress

CONNECT_SECONDS = 20
SAID_BYTES = 4096
_QUIET = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
"""Ctrl-C is for ibtfs, which gives its lock back by this connection."""
Result = TypeVar("Result")
Reply = TypeVar("Reply")


class ConnectionLost(ConnectionError):
    """The connection ended: the same request may be sent by another one."""


class Malformed(Exception):
    """The other side does not speak as it should."""


def ssh_words(address: SshAddress) -> list[str]:
    """How OpenSSH's ssh is called for *address*, but for the options and the words behind."""
    words = [
        "ssh",
        "-o",
        f"ConnectTimeout={CONNECT_SECONDS}",
        "-o",
        "ServerAliveInterval=15",
        "-o",
        "ServerAliveCountMax=4",
    ]
    if address.port:
        words += ["-p", str(address.port)]
    if address.user:
        words += ["-l", address.user]
    return words


class PipeChannel(abc.ABC, Generic[Reply]):
    """A connection made by *command*; threads may share it.  Raises ConnectionLost."""

    def __init__(self, command: Sequence[str]) -> None:
        self._said = b""
        try:
            self._process = subprocess.Popen(
                [*_QUIET, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise ConnectionLost(errno.ENOTCONN, f"{command[0]}: {error.strerror}") from error
        self._out = cast(BinaryIO, self._process.stdin)
        self._in = cast(BinaryIO, self._process.stdout)
        self._beside = cast(io.BufferedReader, self._process.stderr)
        self._listening = threading.Thread(target=self._listen, name="ibtfs-ssh", daemon=True)
        self._listening.start()
        self.owner = os.getpid()
        self._numbers = itertools.count(1)
        # two: while one thread waits for the other side to take what it writes, replies go on
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._waiting: dict[int, Future[Reply]] = {}
        self._is_open = True
        self._is_read = False

    def _begin(self, greet: Callable[[], Result], wrong: str) -> Result:
        """What *greet* gives, from when on replies are taken; *wrong* is what to say of nonsense.

        Raises ConnectionLost.
        """
        try:
            found = greet()
        except ConnectionLost:
            raise
        except OSError as error:
            raise self._end("no connection") from error
        except Malformed as error:
            raise self._end(wrong) from error
        except BaseException:
            self.close()
            raise
        self._is_read = True
        thread = threading.Thread(target=self._take_replies, name="ibtfs-replies", daemon=True)
        thread.start()
        return found

    @abc.abstractmethod
    def _next(self) -> tuple[int, Reply] | None:
        """The next reply, and the number of its request; None at the end.  Raises Malformed."""

    def _end(self, what: str) -> ConnectionLost:
        """Give the connection up; the error that says so, with what ssh said last."""
        self._process.kill()
        self._process.wait()
        self._listening.join(CONNECT_SECONDS)
        lines = [line.strip() for line in self._said.decode(errors="replace").splitlines()]
        said = [line for line in lines if line]
        self.close()
        return ConnectionLost(errno.ENOTCONN, f"{what} ({said[-1]})" if said else what)

    def _listen(self) -> None:
        """Keep the last of what ssh and the server say beside."""
        with contextlib.suppress(OSError, ValueError):
            while data := self._beside.read1(SAID_BYTES):
                self._said = (self._said + data)[-SAID_BYTES:]
        self._beside.close()

    def _take_replies(self) -> None:
        """Give each reply to whoever waits for it, until the connection ends."""
        try:
            with contextlib.suppress(OSError, ValueError, Malformed):
                while (found := self._next()) is not None:
                    number, reply = found
                    with self._lock:
                        future = self._waiting.pop(number, None)
                    if future is not None:
                        future.set_result(reply)
        finally:
            with self._lock:
                self._is_open = False
                waiting, self._waiting = self._waiting, {}
            for future in waiting.values():
                future.set_exception(ConnectionLost(errno.ENOTCONN, "the connection ended"))
            self._in.close()  # by who reads it: nobody else can

    def _sent(self, frame: Callable[[int], Sequence[bytes | memoryview]]) -> Future[Reply]:
        """Send a request, which *frame* makes of its number; its reply comes later.

        Raises ConnectionLost.
        """
        future: Future[Reply] = Future()
        with self._writing:
            request = next(self._numbers) & 0xFFFFFFFF
            parts = frame(request)
            with self._lock:
                if not self._is_open:
                    raise ConnectionLost(errno.ENOTCONN, "the connection ended")
                self._waiting[request] = future
            try:
                for part in parts:
                    self._out.write(part)
                self._out.flush()
            except BaseException as error:
                # also where Ctrl-C left half of a request: nothing may follow it
                with self._lock:
                    self._waiting.pop(request, None)
                    self._is_open = False
                if not isinstance(error, (OSError, ValueError)):
                    raise
                raise ConnectionLost(errno.ENOTCONN, "the connection ended") from error
        return future

    def close(self) -> None:
        """End it, in the process that made it."""
        if self.owner != os.getpid():
            return
        self._is_open = False
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # what was not sent yet
            self._out.close()
        if not self._is_read:
            self._in.close()

    def leave(self) -> None:
        """Let go, in a forked process, of a connection that its parent goes on with.

        What is closed here is closed there, too, and ssh would outlive both otherwise.
        """
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for stream in (self._out, self._in, self._beside):
            os.dup2(nothing, stream.fileno(), inheritable=False)
        os.close(nothing)
