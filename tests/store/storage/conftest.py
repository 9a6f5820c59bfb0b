"""The places that the contract of a storage is tried at: a folder, and real servers."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.storage.opening import storage_at
from tests.support import dav_servers
from tests.support.dav_servers import Apache, DavServer, Rclone
from tests.support.seaweed import BUCKET, Seaweed, aws_environment, seaweed
from tests.support.sshd import Server, served


@pytest.fixture(scope="package")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests of one process."""
    with served(tmp_path_factory.mktemp("sshd"), is_prepared=True) as server:
        yield server


@pytest.fixture(scope="package")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A server for the tests of one process."""
    with seaweed(tmp_path_factory.mktemp("seaweed") / "s") as server:
        yield server


@pytest.fixture(scope="package")
def apache() -> Iterator[DavServer]:
    """A server for the tests of one process."""
    with dav_servers.served(Apache) as server:
        yield server


@pytest.fixture(scope="package")
def rclone() -> Iterator[DavServer]:
    """A server for the tests of one process."""
    with dav_servers.served(Rclone) as server:
        yield server


def _local(_: pytest.FixtureRequest, folder: Path) -> bytes:
    return os.fsencode(folder)


def _by_ssh(request: pytest.FixtureRequest, folder: Path) -> bytes:
    server: Server = request.getfixturevalue("sshd")
    request.getfixturevalue("monkeypatch").setenv("PATH", server.path)
    return f"{request.param}://127.0.0.1:{server.port}{folder}".encode()


def _s3(request: pytest.FixtureRequest, folder: Path) -> bytes:
    server: Seaweed = request.getfixturevalue("weed")
    aws_environment(request.getfixturevalue("monkeypatch"), server.s3)
    return f"s3://{BUCKET}/{folder.parent.name}/repository".encode()


def _dav(request: pytest.FixtureRequest, _: Path) -> bytes:
    server: DavServer = request.getfixturevalue(request.param)
    return os.fsencode(server.address(secrets.token_hex(8)))


def _weed_dav(request: pytest.FixtureRequest, folder: Path) -> bytes:
    server: Seaweed = request.getfixturevalue("weed")
    return f"dav://127.0.0.1:{server.webdav_port}/{folder.parent.name}".encode()


MADE: Mapping[str, Callable[[pytest.FixtureRequest, Path], bytes]] = {
    "local": _local,
    "sftp": _by_ssh,
    "ssh": _by_ssh,
    "s3": _s3,
    "apache": _dav,
    "rclone": _dav,
    "weed-dav": _weed_dav,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the storage has, as it lies on the disk, if it lies on one of this machine."""
    return tmp_path / "repository"


@pytest.fixture
def place(request: pytest.FixtureRequest, folder: Path) -> bytes:
    """Where a repository may be made, in a storage of the kind that is asked for."""
    return MADE[request.param](request, folder)


@pytest.fixture
def storage(place: bytes) -> FolderStorage:
    """The storage at that place, made."""
    made = storage_at(place)
    made.create()
    made.make_folders()
    return made
