"""WebDAV servers as they are: what each does beside the letter, lost and hostile replies."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ibtfs.errors import (
    ObjectExists,
    ObjectMissing,
    StorageFailed,
    StorageFull,
    UsageError,
)
from ibtfs.store.storage import waiting
from ibtfs.store.storage.address import DavAddress, address_of, dav_address, is_remote
from ibtfs.store.storage.base import FolderStorage, whole
from ibtfs.store.storage.objects import dav_stream
from ibtfs.store.storage.objects.asking import Asking
from ibtfs.store.storage.objects.client import NotReached
from ibtfs.store.storage.objects.dav import DavClient
from ibtfs.store.storage.objects.dav_replies import AHEAD_LIMIT, Entries, Malformed, parts_of
from ibtfs.store.storage.opening import storage_at
from tests.support.dav_gate import HttpGate
from tests.support.dav_servers import PASSWORD, USER, Apache, DavServer

MIB = 1 << 20
ODD = ["ä", "a b", "%25+", "#?&;='\"", "[<>]", "~x", "a%2Fb", "\udcff"]
KINDS = ["apache", "rclone"]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> DavServer:
    server: DavServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.01)


@pytest.fixture
def gate(server: DavServer) -> Iterator[HttpGate]:
    gate = HttpGate(server.port)
    yield gate
    gate.close()


def client_at(port: int, path: str, login: str = "", seconds: float = 20) -> DavClient:
    return DavClient(dav_address(f"dav://{login}127.0.0.1:{port}/{path}".encode()), seconds)


@pytest.fixture
def client(gate: HttpGate) -> DavClient:
    made = client_at(gate.port, f"r{os.urandom(8).hex()}")
    made.make_folder("")
    return made


@pytest.fixture
def storage(gate: HttpGate) -> FolderStorage:
    made = storage_at(f"dav://127.0.0.1:{gate.port}/s{os.urandom(8).hex()}".encode())
    made.create()
    made.make_folders()
    return made


# What servers do


def test_ranges(client: DavClient) -> None:
    data = os.urandom(300_000)
    client.put("x", data)
    client.put("empty", b"")
    for offset, size in [(0, 1), (0, 300_000), (1000, 70_000), (299_990, 10)]:
        assert client.read("x", offset, size) == data[offset : offset + size]
    assert client.read("x", 299_990, 1000) == data[-10:]
    assert client.read("x", 0, MIB) == data
    assert client.read("x", 300_000, 1) == client.read("x", 400_000, 1) == b""
    assert client.read("empty", 0, 10) == b""
    with pytest.raises(ObjectMissing):
        client.read("none", 0, 1)


def test_odd_names(client: DavClient, server: DavServer) -> None:
    names = ODD if isinstance(server, Apache) else ODD[:-1]  # which is not UTF-8
    client.make_folder("ö #")
    for name in names:
        client.put(f"ö #/{name}", name.encode("utf-8", "surrogateescape"))
    assert sorted(client.names("ö #")) == sorted(names)
    for name in names:
        client.rename(f"ö #/{name}", f"ö #/{name}.new", replace=False)
        found = client.look(f"ö #/{name}.new")
        assert found is not None
        assert found.size == len(name.encode("utf-8", "surrogateescape"))
        client.remove(f"ö #/{name}.new")
    assert client.names("ö #") == {}


def test_a_tag_tells_other_bytes_and_stays_the_same_else(client: DavClient) -> None:
    client.put("x", b"12345")
    first = client.look("x")
    time.sleep(2.1)  # a tag that is young is a weak one
    assert client.look("x") == first
    client.put("x", b"54321")
    second = client.look("x")
    assert first is not None
    assert second is not None
    assert second.tag != first.tag


def test_many_names(client: DavClient, server: DavServer) -> None:
    client.make_folder("many")
    (folder,) = server.folder.glob("*/many")
    for number in range(3000):
        (folder / f"n{number}").write_bytes(b"x" * (number % 7))
    found = client.names("many")
    assert len(found) == 3000
    assert found["n20"] is not None
    assert found["n20"].size == 6
    assert abs(found["n20"].changed_ns / 1e9 - time.time()) < 60


def test_names_tell_objects_from_folders_and_of_nothing_else(client: DavClient) -> None:
    client.put("x", b"1")
    client.make_folder("f")
    client.make_folder("f")
    client.make_folder("f/g")
    client.put("f/y", b"12")
    found = client.names("")
    assert found.keys() == {"x", "f"}
    assert found["f"] is None
    assert found["x"] == client.look("x")
    assert client.look("f") is None
    assert client.names("f").keys() == {"g", "y"}
    assert client.names("none") == client.names("x") == {}
    assert client.has_folder("f")
    assert not client.has_folder("x")
    assert not client.has_folder("none")
    with pytest.raises(ObjectMissing):
        client.make_folder("none/f")
    with pytest.raises(ObjectMissing):
        client.put("none/x", b"")
    with pytest.raises(StorageFailed):
        client.make_folder("x")


def test_many_make_the_same_folder_at_once(client: DavClient) -> None:
    wrong: list[Exception] = []
    asking = Asking(client, "the server")  # which may answer that it is busy, as rclone does
    asking.again(lambda: client.names(""))

    def make() -> None:
        try:
            for number in range(20):
                asking.again(partial(client.make_folder, f"f{number}"))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(client.names("")) == 20


def test_a_name_is_given_to_what_is_there_where_nothing_has_it(client: DavClient) -> None:
    client.put("a", b"first")
    client.rename("a", "b", replace=False)
    assert client.names("").keys() == {"b"}
    client.put("a", b"second")
    with pytest.raises(ObjectExists):
        client.rename("a", "b", replace=False)
    assert client.read("b", 0, 9) == b"first"
    client.rename("a", "b", replace=True)
    assert client.read("b", 0, 9) == b"second"
    for replace in (False, True):
        with pytest.raises(ObjectMissing):
            client.rename("a", "c", replace=replace)
    # some servers remove what has the name before they look
    with pytest.raises(ObjectMissing):
        client.rename("a", "b", replace=True)
    assert client.read("b", 0, 9) == b"second"


def test_a_folder_is_removed_only_when_it_is_empty(client: DavClient) -> None:
    client.make_folder("f")
    client.put("f/x", b"1")
    client.remove("f")
    client.remove_folder("f")
    assert client.read("f/x", 0, 1) == b"1"
    client.remove_folder("f/x")
    client.remove("f/x")
    client.remove("f/x")
    client.remove_folder("f")
    client.remove_folder("f")
    assert client.names("") == {}


def test_what_is_put_while_its_folder_is_removed_is_not_lost(
    client: DavClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether somebody puts it before the folder is put aside, or makes the folder anew."""
    move = DavClient._move

    for is_anew in (False, True):
        client.remove("f/x")
        client.make_folder("f")

        def moving(self: DavClient, path: str, new: str, key: str, *, replace: bool = False,
                   is_anew: bool = is_anew) -> None:  # fmt: skip
            monkeypatch.setattr(DavClient, "_move", move)
            client.put("f/x", b"1")
            move(self, path, new, key)
            if is_anew:
                client.make_folder("f")
                client.put("f/y", b"2")

        monkeypatch.setattr(DavClient, "_move", moving)
        client.remove_folder("f")
        assert client.read("f/x", 0, 9) == b"1"
        assert [n for n in client.names("") if not n.endswith(".part")] == ["f"]
    assert client.read("f/y", 0, 9) == b"2"


def test_a_body_that_is_cut_off_is_sent_again_whole(client: DavClient, gate: HttpGate) -> None:
    """Some servers keep what has arrived as if that were all."""
    data = os.urandom(6 * MIB)
    stream = client.stream("large")
    for first in range(0, len(data), MIB):
        stream.write(data[first : first + MIB])
    gate.cut_after_sent(3 * MIB)
    stream.finish()
    assert gate.cuts == 1
    assert gate.requests["PUT"] >= 2
    assert client.read("large", 0, 7 * MIB) == data


def test_a_stream_makes_a_folder_that_was_swept_meanwhile(client: DavClient) -> None:
    client.make_folder("f")
    stream = client.stream("f/x")
    stream.write(b"data" * MIB)
    client.remove_folder("f")
    stream.finish()
    found = client.look("f/x")
    assert found is not None
    assert found.size == 4 * MIB
    stream = client.stream("f/y")
    stream.write(b"1")
    stream.abort()
    stream.abort()
    assert client.names("f").keys() == {"x"}


def test_what_cannot_be_kept_before_it_is_sent_is_told(
    client: DavClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dav_stream, "KEPT", 1000)
    monkeypatch.setattr(dav_stream, "_spool_folder", lambda: "/proc/1/none")
    stream = client.stream("x")
    with pytest.raises(StorageFailed, match="x: cannot be kept in /proc/1/none until it is sent"):
        stream.write(bytes(2000))
    stream.abort()


# What networks do


@pytest.mark.parametrize("seed", range(2))
def test_all_is_done_once_though_the_connection_is_cut_anywhere(
    storage: FolderStorage, gate: HttpGate, seed: int
) -> None:
    rng = random.Random(seed)
    expected: dict[str, bytes] = {}

    def disturb(most: int) -> None:
        what = rng.randrange(4)
        if what == 0:
            gate.cut_after(rng.randrange(most))
        elif what == 1:
            gate.cut_after_sent(rng.randrange(most))
        elif what == 2:
            gate.swallow(methods=[rng.choice(["PUT", "MOVE", "DELETE", "PROPFIND", "GET"])])
        else:
            gate.refuse(2, rng.choice([503, 429, 500, 423]))

    for number in range(12):
        name, data = f"archives/x{number % 3}/data.{number}", rng.randbytes(rng.randrange(3 * MIB))
        disturb(4000)
        with storage.put(name) as upload:
            for first in range(0, len(data), 500_000):
                upload.write(data[first : first + 500_000])
            disturb(2 * MIB)
            upload.finish()
        expected[name] = data
        disturb(2 * MIB)
        assert whole(storage, name, 4 * MIB) == data
        disturb(2000)
        if number % 4 == 3:
            storage.delete(name)
            del expected[name]
        folders = {name.rpartition("/")[0] for name in expected}
        found = [f"{f}/{n}" for f in sorted(folders) for n in storage.list(f, unfinished=True)]
        assert sorted(found) == sorted(expected)
    assert gate.cuts > 10
    gate.clear()
    for name, data in expected.items():
        assert whole(storage, name, 4 * MIB) == data


def test_a_name_that_is_taken_is_told_though_replies_are_lost(
    storage: FolderStorage, gate: HttpGate
) -> None:
    storage.put_new("points/p", b"first")
    for method in ("PUT", "PROPFIND", "MOVE", "DELETE"):
        gate.swallow(methods=[method])
        with pytest.raises(ObjectExists, match="points/p"):
            storage.put_new("points/p", b"other")
    assert gate.cuts == 4
    assert whole(storage, "points/p", 10) == b"first"
    for number, method in enumerate(("PUT", "PROPFIND", "MOVE")):
        gate.swallow(methods=[method])
        storage.put_new(f"points/p{number}", b"x")
    gate.swallow(methods=["MOVE"])
    with storage.replace("points/p") as upload:
        upload.write(b"healed")
        upload.finish()
    assert whole(storage, "points/p", 10) == b"healed"
    assert storage.list("points", unfinished=True) == ["p", "p0", "p1", "p2"]


def test_a_reply_that_is_cut_off_is_never_taken_for_all(client: DavClient, gate: HttpGate) -> None:
    data = os.urandom(1000)
    client.put("x", data)
    for number in range(30):
        client.put(f"n{number}", b"")
    asks: list[tuple[Callable[[], object], object]] = [
        (lambda: client.read("x", 0, 1000), data),
        (lambda: client.look("x"), client.look("x")),
        (lambda: len(client.names("")), 31),
    ]
    for ask, expected in asks:
        outcomes = set()
        for count in range(0, 20_000, 97):
            gate.cut_after(count)
            try:
                assert ask() == expected
                outcomes.add("whole")
            except NotReached:
                outcomes.add("cut")
            gate.clear()
        assert outcomes == {"whole", "cut"}


def test_a_server_that_has_too_much_to_do_is_given_time(client: DavClient, gate: HttpGate) -> None:
    gate.refuse(1, 429, headers=["Retry-After: 1"])
    with pytest.raises(NotReached, match="429"):
        client.look("x")
    began = time.monotonic()
    assert client.look("x") is None
    assert time.monotonic() - began > 0.8
    for status in (500, 502, 503, 504, 423, 408):
        gate.refuse(1, status)
        with pytest.raises(NotReached, match=str(status)):
            client.put("x", b"")
    gate.refuse(1, 507)
    with pytest.raises(StorageFull):
        client.put("x", b"")
    for status, text in ((403, "forbids"), (405, "405"), (501, "501"), (413, "413")):
        gate.refuse(1, status)
        with pytest.raises(StorageFailed, match=text):
            client.put("x", b"")
    gate.refuse(1, 301, headers=["Location: https://elsewhere.example/x"])
    with pytest.raises(StorageFailed, match=r"elsewhere: 'https://elsewhere\.example/x'"):
        client.put("x", b"")
    gate.is_shut = True
    gate.cut()
    with pytest.raises(NotReached):
        client.look("x")


@pytest.mark.parametrize("server", ["apache"], indirect=True)
def test_a_server_that_is_killed_and_comes_back(
    server: DavServer, storage: FolderStorage, gate: HttpGate
) -> None:
    data = os.urandom(3 * MIB)
    upload = storage.put("archives/x/data.1")
    upload.write(data[:MIB])
    server.stop()

    def write() -> None:
        upload.write(data[MIB:])
        upload.finish()

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    time.sleep(1)
    server.start()
    writing.join()
    assert whole(storage, "archives/x/data.1", 4 * MIB) == data
    server.stop()
    server.start()
    assert storage.list("archives/x") == ["data.1"]


def test_a_forked_process_has_connections_of_its_own(client: DavClient) -> None:
    client.put("x", b"of both")
    child = os.fork()
    if child == 0:
        is_right = all(client.read("x", 0, 9) == b"of both" for _ in range(100))
        os._exit(0 if is_right else 1)
    for _ in range(100):
        assert client.read("x", 0, 9) == b"of both"
    assert os.waitpid(child, 0)[1] == 0


# Who asks, and whom


@pytest.mark.parametrize("folder", ["basic", "digest"])
def test_passwords(apache: Apache, folder: str, tmp_path: Path,
                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))
    for login, text in (("", "asks for a password"), ("me@", "asks for a password"),
                        ("me:wrong@", "refuses the user or the password")):  # fmt: skip
        with pytest.raises(StorageFailed, match=text) as caught:
            client_at(apache.port, folder, login).names("")
        assert "wrong" not in str(caught.value)
    secret = "".join(f"%{ord(c):02x}" for c in PASSWORD)
    client = client_at(apache.port, folder, f"{USER}:{secret}@")
    client.put("x", b"1" * 1000)
    assert client.read("x", 10, 10) == b"1" * 10
    stream = client.stream("large")
    stream.write(bytes(5 * MIB))
    stream.finish()
    client.rename("x", "y", replace=False)
    client.remove("y")
    entry = f'machine 127.0.0.1 login {USER} password "{PASSWORD}"\n'
    (tmp_path / ".netrc").write_text(entry)
    (tmp_path / ".netrc").chmod(0o600)
    for login in ("", f"{USER}@"):
        assert client_at(apache.port, folder, login).names("").keys() == {"large"}
    with pytest.raises(StorageFailed, match="asks for a password"):
        client_at(apache.port, folder, "other@").names("")
    (tmp_path / ".netrc").write_text(f"nonsense {PASSWORD}\n")
    with pytest.raises(StorageFailed, match=r"~/.netrc, line 1: cannot be used") as caught:
        client_at(apache.port, folder).names("")
    assert PASSWORD not in str(caught.value)


def test_many_threads_with_a_password(apache: Apache) -> None:
    secret = "".join(f"%{ord(c):02x}" for c in PASSWORD)
    client = client_at(apache.port, "digest", f"{USER}:{secret}@")
    wrong: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(10):
                client.put(f"t{number}", b"%d" % number)
                assert client.read(f"t{number}", 0, 9) == b"%d" % number
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_certificates(apache: Apache, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"davs://127.0.0.1:{apache.tls_port}/tls".encode()
    with pytest.raises(StorageFailed, match="certificate is not to be trusted") as caught:
        DavClient(dav_address(place)).look("x")
    assert "self-signed" in str(caught.value)
    monkeypatch.setenv("SSL_CERT_FILE", str(apache.certificate))
    client = DavClient(dav_address(place))
    client.make_folder("")
    client.put("x", b"1")
    client.rename("x", "y", replace=False)
    assert client.names("").keys() == {"y"}
    client = DavClient(dav_address(place.replace(b"127.0.0.1", b"127.0.0.2")))
    with pytest.raises((StorageFailed, NotReached)):
        client.look("x")


# Servers that mean ill


@pytest.fixture
def said() -> Iterator[tuple[DavClient, list[bytes]]]:
    """A client, and what its server is going to answer, each to one connection."""
    answers: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                one, _ = listening.accept()
            except OSError:
                return
            with one:
                one.recv(1 << 16)
                if answers:
                    try:
                        one.sendall(answers.pop(0))
                    except OSError:
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield client_at(listening.getsockname()[1], "r"), answers
    listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    listening.close()


def answer(body: bytes, status: str = "207 Multi-Status", *lines: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


def told(*entries: bytes) -> bytes:
    return b'<D:multistatus xmlns:D="DAV:">' + b"".join(entries) + b"</D:multistatus>"


def entry(href: bytes, props: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return (
        b"<D:response><D:href>%b</D:href><D:propstat><D:prop>%b</D:prop><D:status>HTTP/1.1 %b"
        b"</D:status></D:propstat></D:response>" % (href, props, status)
    )


FILE = (
    b"<D:resourcetype/><D:getcontentlength>5</D:getcontentlength>"
    b"<D:getlastmodified>Sun, 29 Nov 2026 02:00:00 GMT</D:getlastmodified>"
)
FOLDER = b"<D:resourcetype><D:collection/></D:resourcetype>"
HOSTILE = {
    "entities": b'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    + told(entry(b"/r/&b;", FILE)),
    "outside": b'<!DOCTYPE m SYSTEM "file:///etc/passwd"><m/>',
    "none": b"hello",
    "cut": told(entry(b"/r/", FOLDER))[:-5],
    "other": b"<html/>",
    "elsewhere": told(entry(b"/r/", FOLDER), entry(b"/other/x", FILE)),
    "above": told(entry(b"/r/", FOLDER), entry(b"/", FOLDER)),
    "up": told(entry(b"/r/", FOLDER), entry(b"/r/..", FILE)),
    "up quoted": told(entry(b"/r/", FOLDER), entry(b"/r/%2e%2e", FILE)),
    "slash": told(entry(b"/r/", FOLDER), entry(b"/r/a%2fb", FILE)),
    "zero": told(entry(b"/r/", FOLDER), entry(b"/r/a%00", FILE)),
    "deep": b"<D:multistatus xmlns:D='DAV:'>" + b"<a>" * 1000,
    "size": told(entry(b"/r/x", FILE.replace(b">5<", b">-5<"))),
    "large": told(entry(b"/r/x", FILE.replace(b">5<", b">%d<" % 10**19))),
    "time": told(entry(b"/r/x", FILE.replace(b"Sun", b"Sun, Sun").replace(b"Nov", b"Foo"))),
    "no name": told(entry(b"", FILE)),
    "text": told(entry(b"/r/" + b"x" * 100_000, FILE)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_answers(said: tuple[DavClient, list[bytes]], kind: str) -> None:
    client, answers = said
    answers.append(answer(HOSTILE[kind]))
    with pytest.raises(StorageFailed, match="the server answers wrongly"):
        client.names("")
    answers.append(answer(HOSTILE[kind]))
    with pytest.raises(StorageFailed, match="the server answers wrongly"):
        client.look("x")


def test_answers_that_are_fine(said: tuple[DavClient, list[bytes]]) -> None:
    client, answers = said
    answers.append(answer(told(
        entry(b"http://elsewhere.example/r", FOLDER), entry(b"/r/a", FILE), entry(b"/r/f/", FOLDER),
        entry(b"b%20c", FILE), entry(b"//r//d", FILE),
        entry(b"/r/none").replace(b"<D:propstat>", b"<D:status>HTTP/1.1 404 Gone</D:status>"
                                                   b"<D:propstat>"),
    )))  # fmt: skip
    found = client.names("")
    assert found.keys() == {"a", "f", "b c", "d"}
    assert found["f"] is None
    answers.append(answer(b"", "301 Moved", "Location: http://127.0.0.1/r/f/"))
    assert client.look("f") is None


def test_a_name_without_end_takes_no_memory() -> None:
    told_of = Entries("/r")
    told_of.feed(b"<D:multistatus xmlns:D='DAV:'><" + b"a" * (AHEAD_LIMIT - 100))
    with pytest.raises(Malformed, match="without end"):
        told_of.feed(b"a" * 200)


def test_ranges_that_the_server_does_not_heed(said: tuple[DavClient, list[bytes]]) -> None:
    client, answers = said
    data = bytes(range(256)) * 100
    answers.append(answer(data, "200 OK"))
    assert client.read("x", 1000, 100) == data[1000:1100]
    answers.append(answer(data, "200 OK"))
    assert client.read("x", 25_500, 1000) == data[25_500:]
    answers.append(answer(data, "200 OK"))
    assert client.read("x", 30_000, 1000) == b""
    # one that gives less at a time
    answers.append(answer(data[10:20], "206 Partial", "Content-Range: bytes 10-19/25600"))
    answers.append(answer(data[20:30], "206 Partial", "Content-Range: bytes 20-29/25600"))
    assert client.read("x", 10, 20) == data[10:30]
    answers.append(answer(data, "200 OK")[:-100])
    with pytest.raises(NotReached):
        client.read("x", 25_000, 1000)
    answers.append(answer(b"", "206 Partial"))  # what a head that was cut off looks like
    with pytest.raises(NotReached):
        client.read("x", 25_000, 1000)
    endless = answer(data, "200 OK").replace(b"Content-Length", b"X-Other")
    answers.append(endless)
    assert client.read("x", 1000, 100) == data[1000:1100]
    answers.append(endless)
    with pytest.raises(NotReached, match="does not tell where an object ends"):
        client.read("x", 25_500, 1000)


@pytest.mark.parametrize(
    "line", ["bytes 0-9/100", "bytes 10-9/100", "bytes 11-20/100", "bytes 11-20/*"]
)
def test_another_range_than_was_asked_for(said: tuple[DavClient, list[bytes]], line: str) -> None:
    client, answers = said
    answers.append(answer(bytes(10), "206 Partial", f"Content-Range: {line}"))
    with pytest.raises(StorageFailed, match="another range"):
        client.read("x", 10, 10)


def test_bytes_that_are_encoded_are_refused(said: tuple[DavClient, list[bytes]]) -> None:
    client, answers = said
    answers.append(answer(bytes(10), "200 OK", "Content-Encoding: gzip"))
    with pytest.raises(StorageFailed, match="encoded"):
        client.read("x", 0, 10)


# Addresses


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("dav://host/a/b", (False, "", "", "host", 0, b"/a/b", "dav://host/a/b")),
        ("davs://me@host:8443/a/", (True, "me", "", "host", 8443, b"/a", "davs://me@host:8443/a/")),
        ("davs://me:s%40e:c@host/a%20b",
         (True, "me", "s@e:c", "host", 0, b"/a b", "davs://me@host/a%20b")),
        ("DAV://me:s@c@[::1]:80/", (False, "me@", "", "", 0, b"", "")),
        ("dav://[::1]:80/a", (False, "", "", "[::1]", 80, b"/a", "dav://[::1]:80/a")),
        ("dav://h/", (False, "", "", "h", 0, b"", "dav://h/")),
    ],
)  # fmt: skip
def test_addresses(place: str, expected: tuple[bool, str, str, str, int, bytes, str]) -> None:
    found = dav_address(place.encode())
    assert is_remote(place.encode())
    assert isinstance(address_of(place.encode()), DavAddress)
    if expected[3]:
        assert (found.is_secure, found.user, found.password, found.host, found.port, found.path,
                found.shown) == expected  # fmt: skip
    assert "s@" not in found.shown
    assert "s@e:c" not in repr(found)


@pytest.mark.parametrize(
    "place",
    ["dav://", "dav:///a", "dav://me:secret@", "dav://me:secret@host", "dav://me:secret@host:x/a",
     "dav://me:secret@ho st/a", "dav://me:secret@h/a/../b", "dav://me:secret@h/a%00",
     "webdav://me:secret@host/a", "dav://h/./a"],
)  # fmt: skip
def test_what_is_no_address_is_refused(place: str) -> None:
    with pytest.raises(UsageError) as caught:
        storage_at(place.encode())
    assert "secret" not in str(caught.value)


def test_paths_that_cannot_be() -> None:
    assert parts_of("/a//b%20c/?x#y") == ("a", "b c")
    for path in ("/a/..", "/%2e", "/a%2fb", "/a%00"):
        with pytest.raises(Malformed):
            parts_of(path)
