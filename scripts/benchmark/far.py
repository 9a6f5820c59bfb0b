"""A port of this machine that leads to another one as if that were far away, and counts.

`tc netem` is not in every kernel, and a pause for each piece that passes would make the line slow
as well as long. So each piece is handed on at its time, however many are under way: what is added
is a round trip, also to connecting, and only the window of TCP bounds what it carries.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress

PIECE = 1 << 16
WINDOW = 4 << 20
"""Bytes that are under way in a connection, each way, at most; about what Linux allows."""
HEAD_LIMIT = 1 << 14
LINE = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) (/\S*) HTTP/1\.1\r\n")
COPYING = b"x-amz-copy-source:"


class Counted:
    """What passed: bytes *sent* and *received* by clients, requests of HTTP by kind."""

    def __init__(self) -> None:
        self.sent = self.received = 0
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()


class Far:
    """Leads to the port *behind* of this machine, with *round_trip* seconds more; see *port*.

    To be closed; a context manager does so.
    """

    def __init__(self, behind: int, round_trip: float) -> None:
        self._behind, self._round_trip = behind, round_trip
        self._counted = Counted()
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def counted(self) -> Counted:
        """Return what passed since this was asked last."""
        now, self._counted = self._counted, Counted()
        return now

    def close(self) -> None:
        """End all connections."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Far:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _connection(self, client: socket.socket) -> None:
        # the client believes to be connected already: what it says waits for the handshake
        connected_at = time.monotonic() + self._round_trip
        one_way = self._round_trip / 2
        time.sleep(self._round_trip + one_way)
        server = socket.create_connection(("127.0.0.1", self._behind))
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(one)
        heads = Heads()
        answers = threading.Thread(
            target=_pass, args=(server, client, one_way, 0.0, self._received), daemon=True
        )
        answers.start()
        _pass(client, server, one_way, connected_at, lambda data: self._sent(heads, data))
        answers.join()
        for one in (client, server):
            self._open.discard(one)
            one.close()

    def _sent(self, heads: Heads, data: bytes) -> None:
        counted, kinds = self._counted, heads.feed(data)
        with counted.lock:
            counted.sent += len(data)
            counted.requests.update(kinds)

    def _received(self, data: bytes) -> None:
        counted = self._counted
        with counted.lock:
            counted.received += len(data)


class Heads:
    """Finds the heads of requests of HTTP in what a client sends."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the kinds of the requests whose heads end in *data*, the next that is sent."""
        found, held = [], self._held + data
        while (line := LINE.search(held)) and (end := held.find(b"\r\n\r\n", line.start())) >= 0:
            found.append(_kind(line, held[line.end() : end + 4]))
            held = held[end + 4 :]
        self._held = held[-HEAD_LIMIT:]
        return found


def _kind(line: re.Match[bytes], head: bytes) -> str:
    """Return the method, or what S3 calls it."""
    method, path = line[1].decode(), line[2]
    if method == "GET" and b"?" in path and (b"list-type=" in path or b"delimiter=" in path):
        return "LIST"
    return "COPY" if COPYING in head.lower() else method


def _pass(
    source: socket.socket,
    target: socket.socket,
    seconds: float,
    not_before: float,
    count: Callable[[bytes], None],
) -> None:
    """Hand on what comes from *source*, each piece *seconds* after it came, or after that time."""
    way = _Way(target)
    handing = threading.Thread(target=way.hand_on, daemon=True)
    handing.start()
    try:
        while data := source.recv(PIECE):
            count(data)
            way.take(max(time.monotonic(), not_before) + seconds, data)
    except OSError:
        pass  # it was closed by the other side
    way.take(time.monotonic() + seconds, b"")
    handing.join()


class _Way:
    """Pieces under way to *target*, and when each arrives; nothing is the end of it."""

    def __init__(self, target: socket.socket) -> None:
        self._target = target
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._changed = threading.Condition()

    def take(self, arrives_at: float, data: bytes) -> None:
        """Send a piece on its way; waits while the window is full."""
        with self._changed:
            self._changed.wait_for(lambda: self._size < WINDOW)
            self._pieces.append((arrives_at, data))
            self._size += len(data)
            self._changed.notify_all()

    def hand_on(self) -> None:
        """Let the pieces arrive, until the last has."""
        data, is_lost = b"x", False
        while data:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces)
                arrives_at, data = self._pieces.popleft()
            time.sleep(max(arrives_at - time.monotonic(), 0))
            try:
                if data and not is_lost:
                    self._target.sendall(data)
                elif not data:
                    self._target.shutdown(socket.SHUT_WR)
            except OSError:
                is_lost = True  # what comes is dropped, so that who takes it does not wait for ever
            with self._changed:
                self._size -= len(data)
                self._changed.notify_all()
