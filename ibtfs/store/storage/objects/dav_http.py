"""HTTP: requests to one server, over connections that are kept; the home of urllib3."""

from __future__ import annotations

import io
import logging
import os
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

from ibtfs.errors import LibraryMissing, StorageFailed
from ibtfs.store.storage.address import DavAddress
from ibtfs.store.storage.limited import UNLIMITED, Rate
from ibtfs.store.storage.objects.client import NotReached
from ibtfs.store.storage.objects.dav_login import Login, known_login

try:
    import urllib3
    from urllib3.exceptions import HTTPError, ReadTimeoutError
except ImportError as error:
    raise LibraryMissing(
        "WebDAV needs the Python library urllib3: pip install 'ibtfs[webdav]'"
    ) from error

CONNECT_SECONDS, ANSWER_SECONDS = 20.0, 120.0
WRITTEN_SECONDS = 600.0
"""So long a server may take to answer when it has got an object, or moves one."""
PAUSE_LIMIT = 30.0
"""So long is not asked, at most, when the server says how long that should be."""
CONNECTIONS = 32
PIECE = 1 << 18
SENT = 1 << 16
"""Bytes that are sent at once: each may take as long as a connection, however slow the line is."""
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)  # of heads that were cut off
LOGIN_TRIES = 3


class Reply:
    """What a server answers: its *status*, and what follows piece by piece."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response, self.status = response, response.status

    def header(self, name: str) -> str:
        """A line of its head; empty if there is none."""
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        """All lines of that name."""
        return self._response.headers.getlist(name)

    def read(self, size: int) -> bytes:
        """The next *size* bytes; fewer at its end.  Raises NotReached if it is cut off."""
        pieces, left = [], size
        while left:
            try:
                piece = self._response.read(min(left, PIECE), decode_content=False)
            except (HTTPError, OSError) as error:
                raise NotReached(_said(error)) from error
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Read over *size* bytes, or to the end."""
        while size > 0 and (piece := self.read(min(size, PIECE))):
            size -= len(piece)

    @property
    def has_length(self) -> bool:
        """Whether its end can be told from a connection that is cut."""
        chunked = self.header("Transfer-Encoding").lower() == "chunked"
        return chunked or self.header("Content-Length").isdecimal()

    def end(self) -> None:
        """Keep the connection if little is left, and none of it is wanted; or else close it."""
        try:
            left = PIECE
            while left > 0 and (piece := self._response.read(left, decode_content=False)):
                left -= len(piece)
            if left > 0:
                self._response.release_conn()
                return
        except (HTTPError, OSError):
            pass
        self.close()

    def close(self) -> None:
        """Let go of what was not read."""
        self._response.close()
        self._response.release_conn()


class HttpServer:
    """The server that *address* names, and gets no more than *up* allows.

    Threads may share it, and forked processes.
    """

    def __init__(self, address: DavAddress, up: Rate = UNLIMITED.up) -> None:
        self._address, self._up = address, up
        self._pool: tuple[int, urllib3.HTTPConnectionPool] | None = None
        self._login: Login | None = None
        self._lock = threading.Lock()
        self._not_before = 0.0

    def url(self, path: str) -> str:
        """All of the address of *path*, which servers compare with what they were asked by."""
        address = self._address
        scheme, usual = ("https", 443) if address.is_secure else ("http", 80)
        port = f":{address.port}" if address.port not in {0, usual} else ""
        return f"{scheme}://{address.host}{port}{path}"

    @contextmanager
    def asked(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None,
        body: bytes | BinaryIO = b"", size: int = 0,
    ) -> Iterator[Reply]:  # fmt: skip
        """The reply to a request for *path*; *body*, of *size* bytes, is sent from its beginning.

        What is not read of it by the end of the context is dropped.  Raises NotReached, and
        StorageFailed if the server wants to know who asks, or sends elsewhere.
        """
        login = self._known_login()
        wait = self._not_before - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, PAUSE_LIMIT))
        for count in range(1, LOGIN_TRIES + 1):
            said = login.header(method, path)
            reply = self._sent(method, path, {**(headers or {}), **_authorization(said)}, body,
                               size)  # fmt: skip
            if reply.status != 401:
                break
            has_more = login.asked(reply.headers("WWW-Authenticate"), said)
            reply.end()
            if not has_more or count == LOGIN_TRIES:
                what = "refuses the user or the password" if said else "asks for a password"
                raise StorageFailed(f"{self._address.host} {what} (~/.netrc may have it)")
        self._heed(reply)
        try:
            yield reply
        finally:
            reply.close()

    def _sent(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | BinaryIO, size: int
    ) -> Reply:
        lines = {"User-Agent": "ibtfs", "Accept-Encoding": "identity", **headers}
        if method == "PUT" or size:
            lines["Content-Length"] = str(size)
        file = io.BytesIO(body) if isinstance(body, bytes) else body
        sent = _paced(file, self._up) if size else b""
        is_written = method == "MOVE" or size > SENT  # what is small is there at once, or never
        timeout = urllib3.Timeout(
            connect=CONNECT_SECONDS, read=WRITTEN_SECONDS if is_written else ANSWER_SECONDS
        )
        try:
            response = self._connections().urlopen(
                method, path, body=sent, headers=lines, retries=False, redirect=False,
                timeout=timeout, preload_content=False, decode_content=False,
            )  # fmt: skip
        except (HTTPError, OSError) as error:
            if any(isinstance(one, ssl.SSLCertVerificationError) for one in _causes(error)):
                text = f"{self._address.host}: its certificate is not to be trusted: {_said(error)}"
                raise StorageFailed(text) from error
            raise NotReached(_said(error)) from error
        return Reply(response)

    def _heed(self, reply: Reply) -> None:
        """Ask nothing for a while if the server has said so."""
        after = reply.header("Retry-After")
        if reply.status in {429, 503} and after.isascii() and after.isdecimal():
            self._not_before = time.monotonic() + min(int(after[:6]), PAUSE_LIMIT)

    def _known_login(self) -> Login:
        with self._lock:
            if self._login is None:
                address = self._address
                user, password = address.user, address.password
                if not password:
                    user, password = known_login(address.host.strip("[]"), user)
                self._login = Login(user, password, at_once=address.is_secure)
            return self._login

    def _connections(self) -> urllib3.HTTPConnectionPool:
        """The connections of this process: what its parent has open is not for both."""
        pool = self._pool
        if pool is None or pool[0] != os.getpid():
            pool = self._pool = (os.getpid(), self._made_pool())
        return pool[1]

    def _made_pool(self) -> urllib3.HTTPConnectionPool:
        address = self._address
        if address.is_secure:
            return urllib3.HTTPSConnectionPool(
                address.host, address.port or 443, maxsize=CONNECTIONS, blocksize=SENT,
                ssl_context=ssl.create_default_context(),
            )  # fmt: skip
        return urllib3.HTTPConnectionPool(
            address.host, address.port or 80, maxsize=CONNECTIONS, blocksize=SENT
        )


def _paced(file: BinaryIO, rate: Rate) -> Iterator[bytes]:
    """All of *file*, piece by piece, no faster than *rate*."""
    file.seek(0)
    while piece := file.read(SENT):
        rate.take(len(piece))
        yield piece


def _authorization(said: str) -> dict[str, str]:
    return {"Authorization": said} if said else {}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """*error*, and what it tells of."""
    yield error
    for one in (*error.args, error.__cause__):
        if isinstance(one, BaseException):
            yield from _causes(one)


def _said(error: BaseException) -> str:
    """*error* in a few words."""
    causes = list(_causes(error))
    for one in causes:
        if isinstance(one, ssl.SSLError):
            return str(getattr(one, "verify_message", "") or one.reason or "TLS failed")
    for one in causes:
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    if any(isinstance(one, (ReadTimeoutError, TimeoutError)) for one in causes):
        return "no answer in time"
    return "the connection ended"
