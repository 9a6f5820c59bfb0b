"""A connection that goes away: whatever was under way is done once, or told."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.errors import ObjectExists, ObjectMissing, StorageFailed, UsageError
from ibtfs.store.leftovers import FENCED
from ibtfs.store.storage import waiting
from ibtfs.store.storage.address import SshAddress, address_of, is_remote, ssh_address
from ibtfs.store.storage.base import is_unfinished, whole
from ibtfs.store.storage.sftp import files
from ibtfs.store.storage.sftp.channel import Channel, ConnectionLost, ssh_command
from ibtfs.store.storage.sftp.client import SftpClient
from ibtfs.store.storage.sftp.storage import SftpStorage
from ibtfs.store.storage.sftp.upload import SftpUpload
from tests.support.sshd import Gate, Server, served

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def gate(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setenv("PATH", server.path)
    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.01)
    gate = Gate(server.port)
    yield gate
    gate.close()


def storage_behind(gate: Gate, folder: Path, retry_seconds: float = 30) -> SftpStorage:
    address = SshAddress("", "127.0.0.1", gate.port, os.fsencode(folder))
    client = SftpClient(lambda: Channel(ssh_command(address)), "sftp://here", retry_seconds)
    return SftpStorage(b"sftp://here", address, client)


@pytest.fixture
def storage(gate: Gate, tmp_path: Path) -> SftpStorage:
    made = storage_behind(gate, tmp_path / "repository")
    made.create()
    made.make_folders()
    return made


def put_all(upload: SftpUpload, data: bytes) -> None:
    upload.write(data)
    upload.finish()


@pytest.mark.parametrize("seed", range(2))
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
    for count in range(0, 1500, 125):
        gate.cut_after(count)
        with pytest.raises(ObjectExists, match="points/p"):
            storage.put_new("points/p", b"another")
    assert gate.cuts > 3
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
    with pytest.raises(StorageFailed):
        lease.is_in_place()
    lease.release()  # each is tried once more, and not for half a second
    assert time.monotonic() - began < 20
    gate.is_shut = False
    assert storage.list("locks") == ["l"]


def test_what_cannot_be_reached_at_all_is_told_at_once(gate: Gate, tmp_path: Path) -> None:
    gate.is_shut = True
    began = time.monotonic()
    with pytest.raises(StorageFailed, match="not reached"):
        storage_behind(gate, tmp_path).list("")
    assert time.monotonic() - began < 20


def test_a_server_that_answers_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        ("no SFTP of version 3 there", "echo Welcome to this machine"),
        ("no SFTP of version 3 there", r"printf '\0\0\0\5\2\0\0\0\2'; sleep 5"),
        (r"no connection \(hello\)", "echo hello >&2"),
        ("no connection", "exit 1"),
    )
    for text, script in said:
        (tmp_path / "ssh").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        client = SftpClient(lambda: Channel(ssh_command(SshAddress("", "x", 0, b"/x"))), "sftp://x")
        with pytest.raises(OSError, match=text):
            client.again(lambda channel: client.look(channel, b"/x"))


@pytest.mark.parametrize("seed", range(3))
def test_what_is_sent_again_is_sent_whole_though_it_is_cut_again(
    storage: SftpStorage, gate: Gate, tmp_path: Path, seed: int
) -> None:
    """And though the server forgets what it did not make durable, as if it had started anew."""
    rng = random.Random(seed)
    data = rng.randbytes(11 * MIB)
    with storage.put("archives/x/data.1") as upload:
        at = 0
        while at < len(data):
            size = rng.randrange(1, 3 * MIB)
            if rng.random() < 0.7:
                gate.cut_after_sent(rng.randrange(2 * MIB))
            upload.write(data[at : at + size])
            at += size
            if rng.random() < 0.4:
                gate.cut()
                durable = upload.size - upload._kept_bytes
                for part in (tmp_path / "repository/archives/x").iterdir():
                    os.truncate(part, min(part.stat().st_size, durable))
        gate.cut_after_sent(rng.randrange(MIB))
        upload.finish()
    assert gate.cuts
    assert (tmp_path / "repository/archives/x/data.1").read_bytes() == data


def test_what_cannot_be_made_durable_is_not_taken_for_stored(
    storage: SftpStorage, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SftpClient, "can_sync", lambda *_: False)
    with storage.put("archives/x/data.1") as upload:
        upload.write(bytes(9 * MIB))
        gate.cut()
        with pytest.raises(StorageFailed, match="was lost while it was written"):
            put_all(upload, bytes(MIB))
    assert storage.list("archives", unfinished=True) == []
    storage.put_new("points/p", b"small ones are kept")


def test_a_server_without_extensions(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Channel, "_greet", lambda channel, greet=Channel._greet: greet(channel) and {}
    )
    storage = storage_behind(gate, tmp_path / "repository")
    storage.create()
    storage.make_folders()
    data = os.urandom(MIB)
    storage.put_new("points/p", data)
    assert whole(storage, "points/p", MIB) == data
    with pytest.raises(ObjectExists):
        storage.put_new("points/p", b"another")
    with (
        storage.replace("points/p") as upload,
        pytest.raises(StorageFailed, match="in another's place"),
    ):
        put_all(upload, b"x")
    assert whole(storage, "points/p", MIB) == data
    assert storage.list("points", unfinished=True) == ["p"]
    assert storage.space().blocks_available > 1 << 30


def test_an_object_of_somebody_else_is_not_taken_for_ones_own(
    storage: SftpStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Though the reply that would have told was lost, and the sizes are the same."""
    rename, lost = SftpClient.rename, [True]

    def losing(client: SftpClient, channel: Channel, old: bytes, new: bytes) -> None:
        if lost:
            lost.clear()
            (tmp_path / "repository/ibtfs.json").write_bytes(b"theirs")
            raise ConnectionLost(errno.ENOTCONN, "the connection ended")
        rename(client, channel, old, new)

    monkeypatch.setattr(SftpClient, "rename", losing)
    with pytest.raises(ObjectExists):
        storage.put_new("ibtfs.json", b"ours..")
    assert whole(storage, "ibtfs.json", 9) == b"theirs"


def test_ctrl_c_in_the_middle_of_a_request_ends_soon(storage: SftpStorage) -> None:
    began = time.monotonic()
    upload = storage.put("archives/x/data.1")
    channel = storage.client.channel()

    class Out:
        """Takes half of a request."""

        def __init__(self) -> None:
            self.real = channel._out

        def write(self, data: bytes) -> None:
            self.real.write(bytes(data)[: len(data) // 2])

        def flush(self) -> None:
            self.real.flush()
            raise KeyboardInterrupt

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    channel._out = Out()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt), upload:
        upload.write(bytes(MIB))
    assert time.monotonic() - began < 20
    assert storage.list("archives", unfinished=True) == []


def test_files_that_are_read_are_not_closed_for_others(
    storage: SftpStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "OPEN_FILES", 2)
    names = [f"points/{number}" for number in range(6)]
    for name in names:
        storage.put_new(name, name.encode() * 20_000)
    opened = [storage.open(name) for name in names]
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            number = rng.randrange(len(names))
            if opened[number].read(0, 160_000) != names[number].encode() * 20_000:
                wrong.append(names[number])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(storage._files._open) <= 2 + len(threads)


def test_what_is_collected_is_closed_without_a_lock(storage: SftpStorage) -> None:
    storage.put_new("points/p", b"1")
    stored = storage.open("points/p")
    channel = storage.client.channel()
    with channel._writing, channel._lock, storage._files._lock:  # as by the garbage collector
        del stored
    assert whole(storage, "points/p", 1) == b"1"
    assert len(storage._files._open) <= 1


def test_connections_that_were_lost_leave_nothing_open(storage: SftpStorage, gate: Gate) -> None:
    storage.put_new("points/p", b"1")
    stored = storage.open("points/p")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(8):
        gate.cut()
        assert stored.read(0, 1) == b"1"
    until = time.monotonic() + 60
    while len(os.listdir("/proc/self/fd")) > before + 8:  # those of the gate may take a moment
        assert time.monotonic() < until, os.listdir("/proc/self/fd")
        time.sleep(0.05)


def test_a_lock_in_the_making_is_left_alone(storage: SftpStorage) -> None:
    made: list[str] = []
    finish = SftpUpload.finish

    def seen(upload: SftpUpload) -> None:
        made.extend(n for n in storage.list("locks", unfinished=True) if is_unfinished(n))
        finish(upload)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SftpUpload, "finish", seen)
        lease = storage.lease("locks/l", "0a1b2c3d")
    (part,) = made
    assert FENCED.search(part) is None
    lease.release()


def test_folders_that_are_missing_are_made(storage: SftpStorage, tmp_path: Path) -> None:
    (tmp_path / "repository/archives").rmdir()
    storage.put_new("archives/x/data.1", b"1")
    assert storage.list("archives/x") == ["data.1"]
    shutil.rmtree(tmp_path / "repository")
    with pytest.raises((ObjectMissing, StorageFailed)):
        storage.put_new("points/p", b"1")  # a disk that went away is not written beside
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (b"sftp://host/a/b", ("", "host", 0, b"/a/b")),
        (b"sftp://me@host:22/a/b/", ("me", "host", 22, b"/a/b")),
        (b"sftp://me@host/~/a%20b", ("me", "host", 0, b"a b")),
        (b"sftp://[::1]:2222/a", ("", "[::1]", 2222, b"/a")),
        (b"sftp://me@[fe80::1]/a", ("me", "[fe80::1]", 0, b"/a")),
        (b"me@host:a/b", ("me", "host", 0, b"a/b")),
        (b"me@host:~/a", ("me", "host", 0, b"a")),
        (b"me@[::1]:a", ("me", "[::1]", 0, b"a")),
        (b"SFTP://host/a", ("", "host", 0, b"/a")),
        (b"me@host:/a\xff", ("me", "host", 0, b"/a\xff")),
    ],
)
def test_addresses(place: bytes, expected: tuple[str, str, int, bytes]) -> None:
    assert is_remote(place)
    assert ssh_address(place) == expected


@pytest.mark.parametrize("place", [b"/a@b:c", b"./a@b:c", b"a", b"host:path", b"a/sftp://x/y"])
def test_paths_of_this_machine(place: bytes) -> None:
    assert not is_remote(place)


@pytest.mark.parametrize(
    "place",
    [b"sftp://", b"sftp:///a", b"sftp://host", b"sftp://host/", b"sftp://host/~", b"s4://a/b",
     b"sftp://-oProxyCommand=x/a", b"me@-oProxyCommand=x:a", b"-x@host:a", b"sftp://host:0/a",
     b"sftp://host:x/a", b"sftp://host:70000/a", b"sftp://a b/c", b"me@host:",
     b"sftp://host/a%00b", b"sftp://ho\xffst/a", b"sftp://[::1/a", b"S4://a/b"],
)  # fmt: skip
def test_what_is_no_address_is_refused(place: bytes) -> None:
    with pytest.raises(UsageError):
        address_of(place)
