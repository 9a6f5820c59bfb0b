"""A connection that goes away: whatever was under way is done once, or told."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.errors import ObjectExists, StorageFailed, UsageError
from ibtfs.store.storage.address import SftpAddress, is_remote, sftp_address
from ibtfs.store.storage.base import whole
from ibtfs.store.storage.sftp import client as client_module
from ibtfs.store.storage.sftp.channel import Channel, ssh_command
from ibtfs.store.storage.sftp.client import SftpClient
from ibtfs.store.storage.sftp.storage import SftpStorage
from tests.support.sshd import Gate, Server, served

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def gate(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setenv("PATH", server.path)
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.01)
    gate = Gate(server.port)
    yield gate
    gate.close()


def storage_behind(gate: Gate, folder: Path, retry_seconds: float = 30) -> SftpStorage:
    address = SftpAddress("", "127.0.0.1", gate.port, os.fsencode(folder))
    client = SftpClient(lambda: Channel(ssh_command(address)), retry_seconds)
    return SftpStorage(b"sftp://here", address, client)


@pytest.fixture
def storage(gate: Gate, tmp_path: Path) -> SftpStorage:
    made = storage_behind(gate, tmp_path / "repository")
    made.create()
    made.make_folders()
    return made


@pytest.mark.parametrize("seed", range(4))
def test_all_is_done_once_though_the_connection_is_cut_anywhere(
    storage: SftpStorage, gate: Gate, seed: int
) -> None:
    """Also where the reply is lost, and not the request."""
    rng = random.Random(seed)
    expected: dict[str, bytes] = {}
    for number in range(12):
        gate.cut_after(rng.randrange(3000))
        name, data = f"archives/x{number % 3}/data.{number}", rng.randbytes(rng.randrange(200_000))
        with storage.put(name) as upload:
            for first in range(0, len(data), 50_000):
                upload.write(data[first : first + 50_000])
            upload.finish()
        expected[name] = data
        gate.cut_after(rng.randrange(300_000))
        assert whole(storage, name, MIB) == data
        gate.cut_after(rng.randrange(2000))
        if number % 4 == 3:
            storage.delete(name)
            del expected[name]
        folders = {name.rpartition("/")[0] for name in expected}
        gate.cut_after(rng.randrange(2000))
        found = [f"{f}/{n}" for f in sorted(folders) for n in storage.list(f, unfinished=True)]
        assert sorted(found) == sorted(expected)
    assert gate.cuts > 12
    for name, data in expected.items():
        assert whole(storage, name, MIB) == data


def test_a_name_that_is_taken_is_told_though_the_connection_is_cut(
    storage: SftpStorage, gate: Gate
) -> None:
    storage.put_new("points/p", b"first")
    for count in range(0, 1500, 61):
        gate.cut_after(count)
        with pytest.raises(ObjectExists, match="points/p"):
            storage.put_new("points/p", b"another")
    assert gate.cuts > 5
    assert whole(storage, "points/p", 10) == b"first"


def test_a_network_that_is_away_for_a_while_is_waited_for(storage: SftpStorage, gate: Gate) -> None:
    data = os.urandom(3 * MIB)
    with storage.put("archives/x/data.1") as upload:
        upload.write(data[:MIB])
        gate.is_shut = True
        gate.cut()
        timer = threading.Timer(1.0, setattr, (gate, "is_shut", False))
        timer.start()
        upload.write(data[MIB:])
        upload.finish()
        timer.join()
    assert whole(storage, "archives/x/data.1", 4 * MIB) == data


def test_one_that_stays_away_is_told_and_ends_everything_soon(gate: Gate, tmp_path: Path) -> None:
    storage = storage_behind(gate, tmp_path / "repository", retry_seconds=0.5)
    storage.create()
    storage.make_folders()
    lease = storage.lease("locks/l", "0a1b2c3d")
    gate.is_shut = True
    gate.cut()
    began = time.monotonic()
    with pytest.raises(StorageFailed, match=r"sftp://here: not reached: .*"):
        storage.list("points")
    assert not lease.is_in_place()
    lease.release()  # each is tried once more, and not for half a second
    assert time.monotonic() - began < 10
    gate.is_shut = False
    assert storage.list("locks") == ["l"]


def test_what_cannot_be_reached_at_all_is_told_at_once(gate: Gate, tmp_path: Path) -> None:
    gate.is_shut = True
    began = time.monotonic()
    with pytest.raises(StorageFailed, match="not reached"):
        storage_behind(gate, tmp_path).list("")
    assert time.monotonic() - began < 10


def test_a_server_that_answers_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "no SFTP there": "echo Welcome to this machine",
        "too old": r"printf '\0\0\0\5\2\0\0\0\2'; sleep 5",
        "no SFTP there \\(hello\\)": "echo hello >&2",
    }
    for text, script in said.items():
        (tmp_path / "ssh").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        client = SftpClient(lambda: Channel(ssh_command(SftpAddress("", "x", 0, b"/x"))))
        with pytest.raises(OSError, match=text):
            client.again(lambda channel: client.look(channel, b"/x"))


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (b"sftp://host/a/b", ("", "host", 0, b"/a/b")),
        (b"sftp://me@host:22/a/b/", ("me", "host", 22, b"/a/b")),
        (b"sftp://me@host/~/a%20b", ("me", "host", 0, b"a b")),
        (b"sftp://[::1]:2222/a", ("", "[::1]", 2222, b"/a")),
        (b"sftp://me@[fe80::1]/a", ("me", "[fe80::1]", 0, b"/a")),
        (b"me@host:a/b", ("me", "host", 0, b"a/b")),
        (b"me@host:/a\xff", ("me", "host", 0, b"/a\xff")),
    ],
)
def test_addresses(place: bytes, expected: tuple[str, str, int, bytes]) -> None:
    assert is_remote(place)
    assert sftp_address(place) == expected


@pytest.mark.parametrize("place", [b"/a@b:c", b"./a@b:c", b"a", b"host:path", b"a/sftp://x/y"])
def test_paths_of_this_machine(place: bytes) -> None:
    assert not is_remote(place)


@pytest.mark.parametrize(
    "place",
    [b"sftp://", b"sftp:///a", b"sftp://host", b"sftp://host/", b"sftp://host/~", b"s3://a/b",
     b"sftp://-oProxyCommand=x/a", b"me@-oProxyCommand=x:a", b"-x@host:a", b"sftp://host:0/a",
     b"sftp://host:x/a", b"sftp://host:70000/a", b"sftp://a b/c", b"me@host:",
     b"sftp://host/a%00b", b"sftp://ho\xffst/a"],
)  # fmt: skip
def test_what_is_no_address_is_refused(place: bytes) -> None:
    with pytest.raises(UsageError):
        sftp_address(place)
