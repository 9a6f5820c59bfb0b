"""The places that the contract of a storage is tried at: a folder, and real servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.storage.opening import storage_at
from tests.support.sshd import Server, served


@pytest.fixture(scope="package")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests of one process."""
    with served(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def _local(_: pytest.FixtureRequest, folder: Path) -> bytes:
    return os.fsencode(folder)


def _sftp(request: pytest.FixtureRequest, folder: Path) -> bytes:
    server: Server = request.getfixturevalue("sshd")
    request.getfixturevalue("monkeypatch").setenv("PATH", server.path)
    return b"sftp://127.0.0.1:%d%b" % (server.port, os.fsencode(folder))


def _ssh(request: pytest.FixtureRequest, folder: Path) -> bytes:
    return _sftp(request, folder).replace(b"sftp://", b"ssh://")


MADE: Mapping[str, Callable[[pytest.FixtureRequest, Path], bytes]] = {
    "local": _local,
    "sftp": _sftp,
    "ssh": _ssh,
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
