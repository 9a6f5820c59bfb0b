"""The servers that repositories of the set "remote" lie on: sshd and SeaweedFS, on the loopback."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from benchmark.far import Counted
from benchmark.measure import Failure
from tests.support import seaweed, sshd

SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
_REQUEST = re.compile(rb"^debug\d: request \d+: (?!sent )([a-z-]+)", re.MULTILINE)


class Server(Protocol):
    """A server whose repositories are reached by *port*, or by another that leads to it.

    *environment* is what commands need besides.
    """

    port: int
    environment: dict[str, str]

    def address(self, tool: str, port: int, name: str) -> str:
        """Return what *tool* calls the repository *name* that *port* leads to."""
        ...

    def requests(self, counted: Counted) -> dict[str, int]:
        """Return how often what was asked for since this was asked last; *counted* passed."""
        ...


class Sftp:
    """OpenSSH's sshd; its sftp-server writes down each request."""

    def __init__(self, place: Path, server: sshd.Server, log: Path) -> None:
        self._place, self._log, self._seen = place, log, 0
        self.port, self.environment = server.port, {"PATH": server.path}

    def address(self, tool: str, port: int, name: str) -> str:
        """As Server says; for restic a path with one slash lies in the home directory."""
        slash = "/" if tool == "restic" else ""
        return f"sftp://127.0.0.1:{port}{slash}{self._place / name}"

    def requests(self, counted: Counted) -> dict[str, int]:
        """As Server says."""
        if not self._log.exists():
            return {}
        with self._log.open("rb") as log:
            log.seek(self._seen)
            text = log.read()
            self._seen += len(text)
        return dict(Counter(found[1].decode() for found in _REQUEST.finditer(text)))


class S3:
    """SeaweedFS."""

    def __init__(self, server: seaweed.Seaweed) -> None:
        self.port = server.s3_port
        self.environment = {
            "AWS_ACCESS_KEY_ID": seaweed.KEY, "AWS_SECRET_ACCESS_KEY": seaweed.SECRET,
            "AWS_REGION": "us-east-1",
        }  # fmt: skip

    def address(self, tool: str, port: int, name: str) -> str:
        """As Server says."""
        url = f"http://127.0.0.1:{port}"
        if tool == "restic":
            return f"s3:{url}/{seaweed.BUCKET}/{name}"
        return f"s3://{seaweed.BUCKET}/{name}?endpoint={url}"

    def requests(self, counted: Counted) -> dict[str, int]:
        """As Server says."""
        return dict(counted.requests)


@contextmanager
def sftp(place: Path, _: Path) -> Iterator[Server]:
    """Serve SFTP; all lies in *place*.  Raises Failure if OpenSSH is not installed."""
    if not SFTP_SERVER.exists() or not Path(sshd.SSHD).exists():
        raise Failure("SFTP is measured with Debian's openssh-server")
    log = place / "requests"
    with sshd.served(place / "sshd", f"{SFTP_SERVER} -e -l DEBUG3 2>>{log}") as server:
        yield Sftp(place, server, log)


@contextmanager
def s3(place: Path, weed: Path) -> Iterator[Server]:
    """Serve S3 by the program *weed*; all lies in *place*."""
    with seaweed.seaweed(place / "weed", str(weed)) as server:
        yield S3(server)


KINDS: dict[str, Callable[[Path, Path], AbstractContextManager[Server]]] = {"sftp": sftp, "s3": s3}
"""What serves each kind of repository: in a folder, with the program of SeaweedFS."""
