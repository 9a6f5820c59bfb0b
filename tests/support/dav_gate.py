"""A gate before an HTTP server: it refuses, cuts, holds, counts, and keeps replies to itself."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import BinaryIO

PIECE = 1 << 16
Wish = tuple[int, frozenset[str], bytes]
"""How often, for which methods (all, if none is named), and what is answered instead."""


class Cut(Exception):
    """The connection is to end here."""


class HttpGate:
    """A port before another one, that knows where requests and replies begin and end.

    *delay* seconds are added to each request; :attr:`is_shut` refuses new connections, and
    :attr:`requests` counts what came, by method.  What is asked for by a method of this class
    happens to the next requests that it is for; *methods* are all if none is named.
    """

    def __init__(self, behind: int) -> None:
        self._behind, self.delay, self.is_shut = behind, 0.0, False
        self.requests: Counter[str] = Counter()
        self.heads: list[bytes] = []
        """The last heads of requests, as they came."""
        self.cuts = 0
        self._lock = threading.Lock()
        self._refusals: list[Wish] = []
        self._swallowed: list[Wish] = []
        self._left_sent: int | None = None
        self._left: int | None = None
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    # What is to happen

    def refuse(
        self, times: int, status: int = 503, *, methods: Collection[str] = (),
        headers: Collection[str] = (), body: bytes = b"",
    ) -> None:  # fmt: skip
        """Answer so many requests by *status*; the server does not see them."""
        lines = [f"HTTP/1.1 {status} Refused", f"Content-Length: {len(body)}", *headers, "", ""]
        with self._lock:
            self._refusals.append((times, frozenset(methods), "\r\n".join(lines).encode() + body))

    def swallow(self, times: int = 1, *, methods: Collection[str] = ()) -> None:
        """Let the server do what is asked, and end the connection instead of its reply."""
        with self._lock:
            self._swallowed.append((times, frozenset(methods), b""))

    def cut_after(self, count: int) -> None:
        """End the connection on which the next *count* bytes of replies are over."""
        with self._lock:
            self._left = count

    def cut_after_sent(self, count: int) -> None:
        """End the connection on which the next *count* bytes of requests are over."""
        with self._lock:
            self._left_sent = count

    def clear(self) -> None:
        """Let all pass again, and count from nothing."""
        with self._lock:
            self._refusals, self._swallowed = [], []
            self._left = self._left_sent = None
        self.delay, self.is_shut, self.cuts = 0.0, False, 0
        self.requests.clear()
        self.heads.clear()

    def cut(self) -> None:
        """End all connections now."""
        with self._lock:
            found, self._open = self._open, set()
        for one in found:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it all."""
        self._listening.shutdown(socket.SHUT_RDWR)  # or the thread would go on with its number
        self._thread.join()
        self._listening.close()
        self.cut()

    # What passes

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.is_shut:
                    client.close()
                    continue
                with self._lock:
                    self._open.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server: socket.socket | None = None
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            from_client = client.makefile("rb")
            while head := _head(from_client):
                method = head.split(b" ", 1)[0].decode("ascii", "replace")
                with self._lock:
                    self.requests[method] += 1
                    self.heads = [*self.heads[-99:], head]
                    refusal = _taken(self._refusals, method)
                    is_swallowed = _taken(self._swallowed, method) is not None
                time.sleep(self.delay)
                if refusal is not None:
                    _pass_body(head, from_client, lambda data: None)
                    client.sendall(refusal)
                    continue
                if server is None:
                    server = socket.create_connection(("127.0.0.1", self._behind))
                    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    with self._lock:
                        self._open.add(server)
                    from_server = server.makefile("rb")
                if not self._exchange(head, client, from_client, server, from_server, is_swallowed):
                    break
        except (OSError, ValueError, Cut):
            pass
        finally:
            self._end(client, server)

    def _exchange(
        self, head: bytes, client: socket.socket, from_client: BinaryIO, server: socket.socket,
        from_server: BinaryIO, is_swallowed: bool,
    ) -> bool:  # fmt: skip
        """Pass a request, and what is answered; whether another one may follow."""
        if b"100-continue" in head.lower():
            lines = head.split(b"\r\n")
            head = b"\r\n".join(n for n in lines if not n.lower().startswith(b"expect:"))
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered already
            self._send(server, head, is_reply=False)
            _pass_body(head, from_client, lambda data: self._send(server, data, is_reply=False))
        reply = _head(from_server)
        while reply[9:10] == b"1":
            client.sendall(reply)
            reply = _head(from_server)
        if is_swallowed:
            _pass_body(reply, from_server, lambda data: None, of=head)
            with self._lock:
                self.cuts += 1
            raise Cut
        self._send(client, reply, is_reply=True)
        ends = _pass_body(
            reply, from_server, lambda data: self._send(client, data, is_reply=True), of=head
        )
        return bool(reply) and not ends and b"\r\nconnection: close" not in reply.lower()

    def _send(self, to: socket.socket, data: bytes, *, is_reply: bool) -> None:
        """Send it, or as much of it as may pass."""
        with self._lock:
            left = self._left if is_reply else self._left_sent
            is_over = left is not None and len(data) > left
            if left is not None:
                rest = None if is_over else left - len(data)
                if is_reply:
                    self._left = rest
                else:
                    self._left_sent = rest
            self.cuts += is_over
        to.sendall(data[:left] if is_over else data)
        if is_over:
            raise Cut

    def _end(self, *ends: socket.socket | None) -> None:
        for one in ends:
            if one is not None:
                with self._lock:
                    self._open.discard(one)
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()


def _taken(wishes: list[Wish], method: str) -> bytes | None:
    """The answer of the first of *wishes* that is for *method*, which is one time less."""
    for number, (times, methods, answer) in enumerate(wishes):
        if not methods or method in methods:
            if times > 1:
                wishes[number] = (times - 1, methods, answer)
            else:
                del wishes[number]
            return answer
    return None


def _head(stream: BinaryIO) -> bytes:
    """A head with its empty line; none at the end."""
    lines = []
    while line := stream.readline(PIECE):
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def _field(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.strip().lower() == name:
            return value.strip()
    return b""


def _pass_body(
    head: bytes, stream: BinaryIO, take: Callable[[bytes], None], of: bytes = b""
) -> bool:
    """Pass what follows *head*, of a request or of the reply to *of*; whether the end ends it."""
    if of and (of.startswith(b"HEAD ") or head[9:12] in (b"204", b"304")):
        return False
    if _field(head, b"transfer-encoding").lower() == b"chunked":
        while size := stream.readline(PIECE):
            take(size)
            count = int(size.split(b";")[0], 16)
            _pass(stream, count, take)
            take(stream.readline(PIECE))
            if not count:
                break
        return False
    length = _field(head, b"content-length")
    if length or not of:
        _pass(stream, int(length or 0), take)
        return False
    _pass(stream, 1 << 62, take, may_end=True)
    return True


def _pass(
    stream: BinaryIO, count: int, take: Callable[[bytes], None], *, may_end: bool = False
) -> None:
    while count:
        data = stream.read1(min(count, PIECE))  # type: ignore[attr-defined]
        if not data:
            if may_end:
                return
            raise Cut
        take(data)
        count -= len(data)
