"""A port before a server of HTTP that refuses requests, loses replies, and cuts them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import NamedTuple

PIECE = 1 << 16
BUSY = 503
MANY = 429


class Request(NamedTuple):
    """What was asked for."""

    method: str
    path: str


class _Fault(NamedTuple):
    method: str
    part: str
    action: str
    value: int


class HttpGate:
    """Passes each request on, by a connection of its own, unless something is to happen to it.

    *requests* are those that came.  What is to happen does so once for each call, to the next
    request whose method is *method* and whose path has *part* in it; both may be empty.  Before
    that, *spare* requests are let alone.  *delay* in seconds is added to each.
    """

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self.requests: list[Request] = []
        self.spare, self.delay = 0, 0.0
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def left(self) -> int:
        """How many faults did not happen yet."""
        return len(self._faults)

    def refuse(self, status: int, method: str = "", part: str = "", *, times: int = 1) -> None:
        """Answer *status*, and do nothing."""
        self._expect(_Fault(method, part, "refuse", status), times)

    def lose(self, method: str = "", part: str = "", *, times: int = 1) -> None:
        """Have it done, and end the connection instead of an answer."""
        self._expect(_Fault(method, part, "lose", 0), times)

    def drop(self, method: str = "", part: str = "", *, times: int = 1) -> None:
        """End the connection before anything is done."""
        self._expect(_Fault(method, part, "drop", 0), times)

    def cut(self, count: int, method: str = "", part: str = "", *, times: int = 1) -> None:
        """End the connection behind *count* bytes of the answer."""
        self._expect(_Fault(method, part, "cut", count), times)

    def cut_sent(self, count: int, method: str = "", part: str = "", *, times: int = 1) -> None:
        """Pass *count* bytes of the request on, and end both connections."""
        self._expect(_Fault(method, part, "cut_sent", count), times)

    def _expect(self, fault: _Fault, times: int) -> None:
        with self._lock:
            self._faults += [fault] * times

    def forget(self) -> None:
        """Let nothing happen any more."""
        with self._lock:
            self._faults = []

    def close(self) -> None:
        """End it."""
        self._listening.shutdown(socket.SHUT_RDWR)  # or the thread would go on with its number
        self._thread.join()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, ValueError):
            while request := _read(client):
                if not self._answer(client, request):
                    return

    def _answer(self, client: socket.socket, request: bytes) -> bool:
        """Answer one request; whether the connection goes on."""
        method, path = request.partition(b"\r\n")[0].decode().split(" ")[:2]
        fault = self._happens(Request(method, path))
        time.sleep(self.delay)
        action = fault.action if fault is not None else ""
        value = fault.value if fault is not None else 0
        if action == "refuse":
            client.sendall(b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\n\r\n" % value)
            return True
        if action == "drop":
            return False
        if action == "cut_sent":
            with socket.create_connection(("127.0.0.1", self._behind)) as server:
                server.sendall(request[:value])
            return False
        head, blank, body = request.partition(b"\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self._behind)) as server:
            server.sendall(head + b"\r\nConnection: close" + blank + body)
            left = value if action == "cut" else None
            while data := server.recv(PIECE):
                if action != "lose":
                    client.sendall(data if left is None else data[:left])
                    left = None if left is None else left - min(left, len(data))
        return False

    def _happens(self, request: Request) -> _Fault | None:
        with self._lock:
            self.requests.append(request)
            if self.spare > 0:
                self.spare -= 1
                return None
            for fault in self._faults:
                if fault.method in {"", request.method} and fault.part in request.path:
                    self._faults.remove(fault)
                    return fault
        return None


def _read(client: socket.socket) -> bytes:
    """A request, whole; nothing at the end."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        more = client.recv(PIECE)
        if not more:
            return b""
        data += more
    head = bytes(data[: data.index(b"\r\n\r\n")]).lower()
    size = next(
        (int(line.partition(b":")[2]) for line in head.split(b"\r\n")
         if line.startswith(b"content-length:")), 0,
    )  # fmt: skip
    while len(data) < len(head) + 4 + size:
        more = client.recv(PIECE)
        if not more:
            return b""
        data += more
    return bytes(data)
