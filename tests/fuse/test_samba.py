"""A share of Samba, served by a real smbd: the points of a mount are its previous versions."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ibtfs.store.repository import Repository
from tests.support.commands import outside
from tests.support.faking import set_clock
from tests.support.repositories import back_up, create, reopened, settle

HOUR_NS = 3600 * 10**9
VERSIONS = (b"as it was", b"as it became", b"as it is")
Names = tuple[list[str], list[str]]
"""Options of the mount, and lines for Samba."""
GMT = "@GMT-%Y.%m.%d-%H.%M.%S"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made, source = create(tmp_path / "repository"), tmp_path / "documents"
    source.mkdir()
    for number, text in enumerate(VERSIONS):
        (source / "letter").write_bytes(text)
        settle()
        with pytest.MonkeyPatch.context() as patch:
            set_clock(patch, time.time_ns() - (10 - number) * HOUR_NS)
            back_up(made, source)
    return made


class Share:
    """The share of a folder of which an smbd on the loopback shows the previous versions."""

    def __init__(self, place: Path, port: int) -> None:
        self._place, self._port = place, port

    def ask(self, command: str) -> str:
        done = subprocess.run(
            ["smbclient", "-N", "-p", str(self._port), "-s", f"{self._place}/smb.conf",
             "//127.0.0.1/documents", "-c", command],
            capture_output=True, text=True, check=False, timeout=240, cwd=self._place,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def versions(self, path: str) -> list[str]:
        return sorted(set(re.findall(r"@GMT-[0-9.-]+", self.ask(f"allinfo {path}"))))

    def read(self, path: str) -> bytes:
        self.ask(f"get {path} fetched")
        return (self._place / "fetched").read_bytes()


@contextmanager
def shared(place: Path, folder: Path, lines: list[str]) -> Iterator[Share]:
    """*folder* as a share with *lines* in its configuration."""
    place.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = [f"{key} directory = {place}" for key in ("lock", "state", "cache", "pid", "private")]
    (place / "smb.conf").write_text("\n".join([
        "[global]", *own, f"ncalrpc dir = {place}", f"log file = {place}/log",
        f"smb passwd file = {place}/passwd", "map to guest = bad user", "guest account = root",
        "bind interfaces only = yes", "interfaces = lo", "disable netbios = yes",
        "load printers = no",
        "[documents]", f"path = {folder}", "guest ok = yes", "vfs objects = shadow_copy2",
        *lines, "",
    ]))  # fmt: skip
    command = ["smbd", "-F", "--no-process-group", "-p", str(port), "-s", f"{place}/smb.conf"]
    # it ends its whole process group
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, cwd=place, start_new_session=True
    ) as server:
        try:
            until = time.monotonic() + 120
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < until
                    assert server.poll() is None
                    time.sleep(0.05)
            yield Share(place, port)
        finally:
            server.terminate()


@contextmanager
def mounted(repository: Repository, place: Path, options: list[str]) -> Iterator[None]:
    """*repository* mounted by the command."""
    place.mkdir()
    done = outside("mount", "-q", *options, repository.path, place)
    assert (done.returncode, done.stderr) == (0, b"")
    try:
        yield
    finally:
        assert outside("umount", place).returncode == 0


GIVEN: Names = (["--utc", "--point-format", GMT], [])
USUAL: Names = ([], ["shadow:format = %Y-%m-%d_%H%M%S", "shadow:localtime = yes"])


@pytest.mark.parametrize(("options", "lines"), [GIVEN, USUAL], ids=["given", "usual"])
def test_previous_versions_of_a_file(
    options: list[str], lines: list[str], repository: Repository, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TZ", "Asia/Tokyo")  # of the mount and of Samba
    seconds = [point.time_ns // 10**9 for point in reopened(repository).points.all().points]
    expected = [time.strftime(GMT, time.gmtime(second)) for second in seconds]
    folder, mnt = tmp_path / "documents", tmp_path / "mnt"
    lines = [*lines, f"shadow:snapdir = {mnt}/documents", f"shadow:basedir = {folder}",
             "shadow:sort = desc"]  # fmt: skip
    with mounted(repository, mnt, options), shared(tmp_path / "samba", folder, lines) as share:
        assert share.versions("letter") == sorted(expected)
        for name, text in zip(expected, VERSIONS):
            assert share.read(f"{name}/letter") == text
        assert share.read("letter") == VERSIONS[-1]
