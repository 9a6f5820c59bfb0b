"""A server of ibtfs and its client: cut, killed, spoken to wrongly; whatever was under way is done
once, or told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ibtfs.errors import IbtfsError, LockLost, ObjectExists, ObjectMissing, StorageFailed
from ibtfs.format.packing import pack
from ibtfs.store.leftovers import FENCED
from ibtfs.store.storage import waiting
from ibtfs.store.storage.address import is_remote, is_served, ssh_address
from ibtfs.store.storage.base import is_unfinished, token_of, whole
from ibtfs.store.storage.pipe import ConnectionLost
from ibtfs.store.storage.ssh import parts, wire
from ibtfs.store.storage.ssh import upload as upload_module
from ibtfs.store.storage.ssh.channel import StoreChannel, served_command
from ibtfs.store.storage.ssh.client import StoreClient, replied
from ibtfs.store.storage.ssh.guard import Modes
from ibtfs.store.storage.ssh.server import Server
from ibtfs.store.storage.ssh.storage import StoreStorage
from tests.support.sshd import Gate, served
from tests.support.sshd import Server as Sshd

MIB = 1 << 20
TOKEN = "0a1b2c3d"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with served(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def gate(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setenv("PATH", server.path)
    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.01)
    gate = Gate(server.port)
    yield gate
    gate.close()


def storage_by(command: list[str], folder: Path, retry_seconds: float = 60) -> StoreStorage:
    path = os.fsencode(folder)
    client = StoreClient(lambda s: StoreChannel(command, s, path), "ssh://here", retry_seconds)
    return StoreStorage(b"ssh://here", ssh_address(b"ssh://here" + path), client)


def behind(gate: Gate, folder: Path, retry_seconds: float = 60) -> StoreStorage:
    address = ssh_address(b"ssh://127.0.0.1:%d%b" % (gate.port, os.fsencode(folder)))
    return storage_by(served_command(address), folder, retry_seconds)


def words_of(folder: Path, *options: str) -> list[str]:
    """What starts a server without ssh."""
    return [sys.executable, "-m", "ibtfs", "serve-store", *options, str(folder)]


def made(storage: StoreStorage) -> StoreStorage:
    storage.create()
    storage.make_folders()
    return storage


@pytest.fixture
def near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreStorage:
    """A server that is started without ssh."""
    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.01)
    return made(storage_by(words_of(tmp_path / "repository"), tmp_path / "repository"))


def kill_server(storage: StoreStorage) -> None:
    """Have the server's process killed as it is, which sh has become."""
    channel = storage.client._channel
    assert channel is not None
    os.kill(channel._process.pid, signal.SIGKILL)


# Connections that are lost


@pytest.mark.parametrize("seed", range(2))
def test_all_is_done_once_though_the_connection_is_cut_anywhere(
    gate: Gate, tmp_path: Path, seed: int
) -> None:
    """Also where the reply is lost, and not the request."""
    storage = made(behind(gate, tmp_path / "repository"))
    rng = random.Random(seed)
    lease = storage.lease("locks/l", TOKEN)
    expected: dict[str, bytes] = {}
    for number in range(6):
        gate.cut_after(rng.randrange(400))
        gate.cut_after_sent(rng.randrange(150_000))
        name, data = f"archives/x{number % 3}/data.{number}", rng.randbytes(rng.randrange(200_000))
        with storage.put(name) as upload:
            for first in range(0, len(data), 50_000):
                upload.write(data[first : first + 50_000])
            upload.finish()
        expected[name] = data
        gate.cut_after(rng.randrange(100_000))
        assert whole(storage, name, MIB) == data
        if number % 4 == 3:
            gate.cut_after_sent(rng.randrange(200))
            storage.delete(name)
            del expected[name]
        folders = {name.rpartition("/")[0] for name in expected}
        found = [f"{f}/{n}" for f in sorted(folders) for n in storage.list(f, unfinished=True)]
        assert sorted(found) == sorted(expected)
        assert lease.is_in_place()
    assert gate.cuts > 3
    lease.release()
    assert storage.list("locks", unfinished=True) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_is_killed_in_the_middle(
    near: StoreStorage, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that forgets, as if its machine had started anew, what was not made durable."""
    monkeypatch.setattr(upload_module, "KEPT", 3 * MIB)
    monkeypatch.setattr(upload_module, "SYNCED", MIB)
    rng = random.Random(seed)
    data = rng.randbytes(9 * MIB)
    lease = near.lease("locks/l", TOKEN)
    with near.put("archives/x/data.1") as upload:
        at = 0
        while at < len(data):
            size = rng.randrange(1, 2 * MIB)
            upload.write(data[at : at + size])
            at += size
            if rng.random() < 0.5:
                kill_server(near)
                for part in (tmp_path / "repository/archives/x").glob("*"):
                    os.truncate(part, min(part.stat().st_size, upload._settled))
        kill_server(near)
        upload.finish()
    assert (tmp_path / "repository/archives/x/data.1").read_bytes() == data
    assert os.listdir(tmp_path / "repository/archives/x") == ["data.1"]
    assert lease.is_in_place()
    assert near.is_held("locks/l")
    lease.release()


def test_a_reply_that_is_lost_is_found_out(near: StoreStorage) -> None:
    """The object got its name, and who did that was killed before he could say so."""
    upload = near.put("points/p")
    upload.write(b"12345")
    near.list("points", unfinished=True)
    channel = near.client._channel
    assert channel is not None
    replied(channel.ask("finish", upload._number, 5))
    upload._was_finished = True  # as it would be
    kill_server(near)
    upload.finish()
    assert whole(near, "points/p", 5) == b"12345"
    with pytest.raises(ObjectExists):
        near.put_new("points/p", b"54321")


def test_an_object_of_somebody_else_is_not_taken_for_ones_own(
    near: StoreStorage, tmp_path: Path
) -> None:
    upload = near.put("ibtfs.json")
    upload.write(b"ours..")
    (tmp_path / "repository/ibtfs.json").write_bytes(b"theirs")
    upload._was_finished = True
    kill_server(near)
    with pytest.raises(ObjectExists), upload:
        upload.finish()
    assert whole(near, "ibtfs.json", 9) == b"theirs"
    assert os.listdir(tmp_path / "repository").count("ibtfs.json") == 1


def test_a_lock_outlives_its_connection_and_is_taken_up_again(
    near: StoreStorage, tmp_path: Path
) -> None:
    other = storage_by(words_of(tmp_path / "repository"), tmp_path / "repository")
    lease = near.lease("locks/l", TOKEN)
    upload = near.put("points/p")
    upload.write(b"1")
    assert other.is_held("locks/l")
    assert token_of(other.list("points", unfinished=True)[0]) == TOKEN
    kill_server(near)
    until = time.monotonic() + 10
    while other.is_held("locks/l"):
        assert time.monotonic() < until
    assert other.is_held("locks/l") is None  # he may come back
    assert other.list("locks") == ["l"]
    with pytest.raises(StorageFailed):
        other.lease("locks/l", TOKEN)
    assert lease.is_in_place()
    assert other.is_held("locks/l")
    upload.finish()
    lease.release()
    assert other.is_held("locks/l") is False


@pytest.mark.parametrize("how", ["gone", "another"])
def test_a_lock_that_was_broken_meanwhile_is_lost(
    near: StoreStorage, tmp_path: Path, how: str
) -> None:
    lease = near.lease("locks/l", TOKEN)
    upload = near.put("points/p")
    upload.write(b"1")
    near.list("points", unfinished=True)
    kill_server(near)
    (tmp_path / "repository/locks/l").unlink()
    if how == "another":
        (tmp_path / "repository/locks/l").write_bytes(b"")
    assert not lease.is_in_place()
    with pytest.raises(LockLost), upload:
        upload.finish()
    assert near.list("points", unfinished=True) == []
    lease.release()
    assert near.list("locks") == (["l"] if how == "another" else [])
    near.put_new("points/q", b"")


def test_an_upload_that_was_dropped_meanwhile_is_not_begun_again(
    near: StoreStorage, tmp_path: Path
) -> None:
    lease = near.lease("locks/l", TOKEN)
    upload = near.put("points/p")
    upload.write(b"1")
    (part,) = near.list("points", unfinished=True)
    assert is_unfinished(part)
    assert FENCED.search(part)
    upload.write(b"2")
    kill_server(near)
    (tmp_path / "repository/points" / part).unlink()
    with pytest.raises(LockLost), upload:
        upload.finish()
    assert near.list("points", unfinished=True) == []
    lease.release()


def test_the_process_of_a_connection_that_nobody_saw_end_is_waited_for(
    near: StoreStorage, tmp_path: Path
) -> None:
    """It still holds the lock: the client comes back until it is gone."""
    lease = near.lease("locks/l", TOKEN)
    old = near.client._channel
    assert old is not None
    near.client._drop(old)
    threading.Timer(
        parts.FLOCK_SECONDS + 0.5, lambda: os.kill(old._process.pid, signal.SIGKILL)
    ).start()
    assert lease.is_in_place()
    lease.release()
    old.close()


def test_one_that_stays_away_is_told_and_ends_everything_soon(gate: Gate, tmp_path: Path) -> None:
    storage = made(behind(gate, tmp_path / "repository", retry_seconds=0.5))
    lease = storage.lease("locks/l", TOKEN)
    gate.is_shut = True
    gate.cut()
    began = time.monotonic()
    with pytest.raises(StorageFailed, match=r"ssh://here: not reached: .*"):
        storage.list("points")
    with pytest.raises(StorageFailed):
        lease.is_in_place()
    lease.release()
    assert time.monotonic() - began < 20
    gate.is_shut = False
    assert storage.list("locks") == ["l"]


def test_the_server_ends_with_its_client(tmp_path: Path) -> None:
    process = subprocess.Popen(words_of(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for part in wire.encoded((0, wire.HELLO, wire.MAGIC, 1, bytes(16), b"")):
        process.stdin.write(part)
    process.stdin.flush()
    reply = wire.received(process.stdout.read)
    assert reply is not None
    assert reply.head == (0, "", 1, "")
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()


# Many at once


def test_many_requests_are_under_way_at_once(near: StoreStorage, tmp_path: Path) -> None:
    """And a slow one does not hold the others up."""
    data = [os.urandom(200_000) for _ in range(24)]
    wrong: list[int] = []

    def work(number: int) -> None:
        near.put_new(f"archives/x/data.{number}", data[number])
        with near.open(f"archives/x/data.{number}") as stored:
            for first in range(0, 200_000, 30_000):
                if stored.read(first, 30_000) != data[number][first : first + 30_000]:
                    wrong.append(number)
        if near.list("archives/x").count(f"data.{number}") != 1:
            wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    channel = near.client.channel()
    futures = [channel.ask("list", "points", False, "") for _ in range(3000)]
    assert all(replied(future).data == b"" for future in futures)
    for thread in threads:
        thread.join()
    assert wrong == []


def test_long_lists_come_in_pages(near: StoreStorage, tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    names = sorted(f"{number:0200}" for number in range(6000))
    for name in names:
        (tmp_path / "repository/tags" / name).touch()
    assert near.list("tags") == names


# What is not the protocol


def answers_of(*sent: bytes, root: bytes = b"/nowhere") -> bytes:
    """What a server says to *sent*, and then the end."""
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    ends: list[BaseException] = []

    def serve() -> None:
        try:
            Server(root, Modes(), their_in, their_out, idle_seconds=10).serve()
        except BaseException as error:
            ends.append(error)
        os.close(their_out)
        os.close(their_in)

    thread = threading.Thread(target=serve)
    thread.start()
    with open(our_out, "wb") as out, open(our_in, "rb") as found:
        try:
            out.write(b"".join(sent))
            out.close()
        except BrokenPipeError:
            pass
        said = found.read()
    thread.join(30)
    assert not thread.is_alive()
    assert ends == []
    return said


def message(*head: Any, data: bytes = b"") -> bytes:
    return b"".join(bytes(part) for part in wire.encoded(head, data))


GREETING = message(0, wire.HELLO, wire.MAGIC, 1, bytes(16), b"")
scalars = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1), st.text(max_size=20), st.booleans(), st.none(),
    st.binary(max_size=20), st.sampled_from(["", ".", "..", "/", "a/../..", "points/x", "a\0b"]),
)  # fmt: skip
VERBS = [
    "open",
    "read",
    "close",
    "removed",
    "put",
    "resume",
    "write",
    "sync",
    "finish",
    "abort",
    "list",
    "delete",
    "lease",
    "in place",
    "refresh",
    "release",
    "drop",
    "held",
    "age",
    "space",
    "refusal",
    "settle",
    "changes",
    "token",
    "create",
    "check new",
    "ping",
    "none",
]


@given(st.binary(max_size=300))
@settings(max_examples=40, deadline=None)
def test_bytes_that_mean_nothing_end_the_server(sent: bytes) -> None:
    assert answers_of(sent) == b""


@given(st.lists(st.binary(max_size=100), max_size=4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_bytes_that_mean_nothing_behind_a_greeting(sent: list[bytes], framed: bool) -> None:
    if framed:
        sent = [(len(one) & 0xFFFF).to_bytes(4, "big") + len(one).to_bytes(2, "big") + one
                for one in sent]  # fmt: skip
    assert answers_of(GREETING, *sent)


@given(st.lists(st.tuples(st.sampled_from(VERBS), st.lists(scalars, max_size=6)), max_size=8))
@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_requests_of_nonsense_are_answered(
    tmp_path: Path, asked: list[tuple[str, list[Any]]]
) -> None:
    """Each of them, and nothing beside the repository is touched."""
    root = tmp_path / "inside/repository"
    (root / "points").mkdir(parents=True, exist_ok=True)
    sent = [message(n, verb, *words) for n, (verb, words) in enumerate(asked, 1)]
    said = answers_of(GREETING, *sent, message(99, "ping"), root=os.fsencode(root))
    assert os.listdir(tmp_path) == ["inside"]
    assert os.listdir(tmp_path / "inside") in ([], ["repository"])
    at, heads = 0, []

    def read(size: int) -> bytes:
        nonlocal at
        at += size
        return said[at - size : at]

    while (reply := wire.received(read)) is not None:
        heads.append(reply.head)
    assert heads[0][:2] == (0, "")


def test_lengths_that_no_message_has_cost_no_memory() -> None:
    heads = [bytes(part[6:]) for part in (message(1, *range(12)), message(1, "ping", (1, 2)))]
    for head in heads:
        framed = len(head).to_bytes(4, "big") + len(head).to_bytes(2, "big") + head
        assert answers_of(GREETING, framed, message(77, "ping")) == answers_of(GREETING)
    for sizes in (b"\xff" * 6, b"\x7f\xff\xff\xff\0\5", b"\0\0\0\1\0\2", b"\0\x20\0\0\0\0"):
        assert answers_of(sizes + bytes(100)) == b""


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ((0, wire.HELLO, wire.MAGIC, 0, bytes(16), b""), "version 1"),
        ((0, wire.HELLO, wire.MAGIC, 1, bytes(3), b""), "version 1"),
        ((0, wire.HELLO, wire.MAGIC, 1, bytes(16), b"/other"), "another repository"),
    ],
)
def test_who_greets_wrongly_is_told(head: tuple[Any, ...], said: str) -> None:
    assert said.encode() in answers_of(message(*head))


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "no number": lambda n: message("x", "", 1),
    "another number": lambda n: message(n + 7, "", True),
    "no values": lambda n: message(n, ""),
    "other values": lambda n: message(n, "", "x", "y", "z"),
    "no kind": lambda n: message(n, "nonsense", "x", 1),
    "a failure of no text": lambda n: message(n, "failed", 1, 1),
    "too long": lambda n: b"\xff\xff\xff\xff\0\5hello",
    "too much": lambda n: message(n, "", 5, 0, data=bytes(MIB)),
    "below nothing": lambda n: message(n, "", -1, -1),
    "half of it": lambda n: message(n, "", 5, 0)[:-2],
    "not msgpack": lambda n: b"\0\0\0\3\0\3\xc1\xc1\xc1",
    "deep": lambda n: (9000).to_bytes(4, "big") + (9000).to_bytes(2, "big") + b"\x91" * 9000,
    "names with slashes": lambda n: message(n, "", True, data=b"../x\0a/b"),
    "names again and again": lambda n: message(n, "", False, data=b"a\0b"),
    "names in no order": lambda n: message(n, "", True, data=b"b\0a"),
    "a terminal": lambda n: message(n, "failed", "\x1b[2J\n\n", 0),
    "nothing": lambda n: b"",
}


ANSWERING = """
import os, select, sys
def read(size):
    found = b""
    while len(found) < size:
        found += os.read(0, size - len(found)) or sys.exit()
    return found
for name in sys.argv[1:]:
    read(int.from_bytes(read(6)[:4], "big"))
    with open(name, "rb") as said, open(1, "wb", closefd=False) as out:
        out.write(said.read())
    if not select.select([0], [], [], 0.1)[0]:
        break
"""
"""Answers each request by the next of the files that are named, and ends when none comes soon."""


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_server_that_answers_wrongly_is_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.01)
    command = [sys.executable, "-ISc", ANSWERING]
    for number in range(9):
        reply = HOSTILE[kind](number) if number else message(0, "", 1, "")
        (tmp_path / f"{number}").write_bytes(reply)
        command.append(f"{tmp_path}/{number}")
    asks: list[Callable[[StoreStorage], object]] = [
        lambda s: s.open("points/p"), lambda s: s.list("points"), lambda s: s.token("points/p"),
        lambda s: s.space(), lambda s: s.lease("locks/l", TOKEN),
        lambda s: s.put_new("points/p", b"1"),
    ]  # fmt: skip
    for ask in asks:
        began = time.monotonic()
        storage = storage_by(command, tmp_path, retry_seconds=0.1)
        error: IbtfsError | None = None
        try:
            ask(storage)
        except IbtfsError as caught:
            error = caught
        assert error is None or str(error).isprintable()
        # of what is put it only matters that it went well, and who lists gives a lease
        assert error or ask is asks[-1] or (ask is asks[-2] and kind.startswith("names"))
        assert time.monotonic() - began < 20


def test_what_greets_wrongly_is_told(tmp_path: Path) -> None:
    said = (
        ("no ibtfs serve-store there", "echo Welcome to this machine"),
        (r"no connection \(hello\)", "echo hello >&2"),
        ("no connection", "exit 1"),
    )
    for text, script in said:
        storage = storage_by(["sh", "-c", script], tmp_path)
        with pytest.raises(StorageFailed, match=text):
            storage.list("points")


@given(st.binary(max_size=200))
@settings(max_examples=15, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_a_client_bears_any_bytes(tmp_path: Path, said: bytes) -> None:
    (tmp_path / "said").write_bytes(message(0, "", 1, "") + said)
    storage = storage_by(["cat", f"{tmp_path}/said"], tmp_path, retry_seconds=0.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(waiting, "FIRST_WAIT", 0.01)
        with pytest.raises(IbtfsError):
            storage.open("points/p")


# Addresses


def test_addresses() -> None:
    assert is_remote(b"ssh://me@host:22/a")
    assert is_served(b"SSH://host/a")
    assert not is_served(b"sftp://host/a")
    assert ssh_address(b"ssh://me@host:22/a%20b/") == ("me", "host", 22, b"/a b")
    command = served_command(ssh_address(b"ssh://host/it's here"))
    assert command[-1].endswith("""ibtfs serve-store -- '/it'"'"'s here'""")
    assert pack(wire.MAGIC)


def test_what_is_lost_is_told_as_such() -> None:
    with pytest.raises(ConnectionLost):
        wire.answer(wire.Message((1, wire.BUSY, "", 0)))
    with pytest.raises(ObjectMissing):
        wire.answer(wire.Message((1, "missing", "x", 2)))
