"""The server: requests come in, are done by many threads, and replies go out in any order.

Memory is bounded whatever comes: so many requests are taken at once, and no more read before some
are done.  One that does not speak as it should, or says nothing for long, is left.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ibtfs.errors import IbtfsError, StorageFailed
from ibtfs.store.storage.pipe import Malformed
from ibtfs.store.storage.ssh import wire
from ibtfs.store.storage.ssh.guard import Modes
from ibtfs.store.storage.ssh.session import Session

THREADS = 16
WAITING_BYTES = 32 << 20
WAITING_REQUESTS = 500
END_SECONDS = 30.0
_CHUNK = 1 << 18
log = logging.getLogger(__name__)


class Input:
    """Reads from a descriptor, as long as something comes at least every *idle_seconds*."""

    def __init__(self, descriptor: int, idle_seconds: float) -> None:
        self._descriptor, self._idle = descriptor, idle_seconds
        self._have = bytearray()

    def read(self, size: int) -> bytes:
        """*size* bytes; fewer at the end, or when nothing came for too long."""
        while len(self._have) < size:
            if not select.select([self._descriptor], [], [], self._idle)[0]:
                log.warning("nothing was heard of the client for %d seconds", self._idle)
                break
            data = os.read(self._descriptor, _CHUNK)
            if not data:
                break
            self._have += data
        found = bytes(self._have[:size])
        del self._have[:size]
        return found


class _Room:
    """How much may be under way at once; who wants more waits."""

    def __init__(self) -> None:
        self._bytes = self._count = 0
        self._change = threading.Condition()

    def take(self, size: int) -> None:
        """Wait for room for a request of so many bytes."""
        with self._change:
            self._change.wait_for(
                lambda: self._bytes < WAITING_BYTES and self._count < WAITING_REQUESTS
            )
            self._bytes += size
            self._count += 1

    def give(self, size: int) -> None:
        """Give it back."""
        with self._change:
            self._bytes -= size
            self._count -= 1
            self._change.notify_all()


class Server:
    """Serves the repository in the folder *root* to who comes by *reading* and *writing*.

    Both are descriptors; one client, until it ends.
    """

    def __init__(
        self,
        root: bytes,
        modes: Modes,
        reading: int,
        writing: int,
        idle_seconds: float = wire.IDLE_SECONDS,
    ) -> None:
        self._root, self._modes, self._writing = root, modes, writing
        self._input = Input(reading, idle_seconds)
        self._room = _Room()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="ibtfs-serve")
        self._out, self._lock = threading.Lock(), threading.Condition()
        self._lines: dict[int, deque[Callable[[], None]]] = {}
        self._under_way = 0
        self._ended = False

    def serve(self) -> None:
        """Answer until the client ends; what is under way then is done, what waits is not."""
        try:
            session = self._greet()
            if session is None:
                return
            while (request := wire.received(self._input.read)) is not None:
                self._take(session, request)
        except (Malformed, ValueError) as error:
            log.warning("the client does not speak as it should: %s", error)
            return
        except OSError as error:
            log.warning("the connection failed: %s", error)
            return
        finally:
            self._ended = True
            self._pool.shutdown(wait=False, cancel_futures=True)
            until = time.monotonic() + END_SECONDS
            while self._under_way and time.monotonic() < until:
                time.sleep(0.01)
        if not self._under_way:
            session.end()

    def _greet(self) -> Session | None:
        request = wire.received(self._input.read)
        if request is None:
            return None
        types = tuple(map(type, request.head))
        if types != (int, str, str, int, bytes, bytes) or request.head[:3] != (
            0, wire.HELLO, wire.MAGIC,
        ):  # fmt: skip
            raise Malformed("no greeting")
        version, secret, path = request.head[3:]
        mine, shown = os.path.realpath(self._root), os.fsdecode(path)[:500]
        if version < wire.VERSION or len(secret) < 16:
            self._refuse(f"The server speaks version {wire.VERSION}, which this ibtfs does not")
        elif path and os.path.realpath(path) != mine:
            self._refuse(f"The server serves another repository than {shown!r} by this key")
        else:
            modes = self._modes
            names = [n for n, on in zip((wire.APPEND_ONLY, wire.WRITE_ONLY), modes[:2]) if on]
            self._send(wire.encoded((0, "", wire.VERSION, " ".join(names))))
            return Session(self._root, secret, modes)
        return None

    def _refuse(self, text: str) -> None:
        log.warning("%s", text)
        self._send(wire.encoded(wire.failure(0, StorageFailed(text))))

    def _take(self, session: Session, request: wire.Message) -> None:
        size = len(request.data)
        self._room.take(size)

        def work() -> None:
            try:
                if not self._ended:
                    self._answer(session, request)
            finally:
                self._room.give(size)

        line = session.line_of(request)
        if session.is_behind_uploads(request):
            with self._lock:
                self._lock.wait_for(lambda: not self._lines)
        if line is None:
            self._submit(work)
            return
        with self._lock:
            waiting = self._lines.get(line)
            if waiting is not None:
                waiting.append(work)
                return
            self._lines[line] = deque()
        self._submit(lambda: self._do_line(line, work))

    def _submit(self, work: Callable[[], None]) -> None:
        def counted() -> None:
            with self._lock:
                self._under_way += 1
            try:
                work()
            finally:
                with self._lock:
                    self._under_way -= 1

        self._pool.submit(counted)

    def _do_line(self, line: int, work: Callable[[], None]) -> None:
        """Do *work*, and then what came behind it in its line, one after the other."""
        while True:
            work()
            with self._lock:
                waiting = self._lines[line]
                if not waiting:
                    del self._lines[line]
                    self._lock.notify_all()
                    return
                work = waiting.popleft()

    def _answer(self, session: Session, request: wire.Message) -> None:
        number = request.number
        try:
            values, data = session.answer(request)
            reply = wire.encoded((number, "", *values), data)
        except (IbtfsError, wire.Busy) as error:
            reply = wire.encoded(wire.failure(number, error))
        except Exception as error:
            log.exception("a request failed")
            reply = wire.encoded(
                wire.failure(number, StorageFailed(f"The server failed: {error!r}"))
            )
        with contextlib.suppress(OSError):  # it has gone; that its requests end tells
            self._send(reply)

    def _send(self, parts: list[bytes | memoryview]) -> None:
        with self._out:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[os.write(self._writing, view) :]
