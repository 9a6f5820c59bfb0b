"""S3: requests to a real server, through a gate that refuses, loses and cuts them."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ibtfs.errors import (
    LibraryMissing,
    ObjectExists,
    ObjectMissing,
    StorageFailed,
    StorageFull,
)
from ibtfs.store.storage.address import S3Address
from ibtfs.store.storage.objects import s3
from ibtfs.store.storage.objects.asking import Asking
from ibtfs.store.storage.objects.client import Found, NotReached
from ibtfs.store.storage.objects.listings import Listings
from ibtfs.store.storage.objects.s3 import S3Client
from ibtfs.store.storage.objects.s3_errors import refusal
from ibtfs.store.storage.objects.surveys import Surveys
from tests.support.http_gate import BUSY, MANY, HttpGate
from tests.support.seaweed import (
    BUCKET,
    KEY,
    READER,
    READER_SECRET,
    SECRET,
    Seaweed,
    aws_environment,
    seaweed,
)

MIB = 1 << 20
PART = 5 * MIB
"""The smallest that S3 takes."""
ANSWER = (
    "Error performing PUT http://h/b/k in 1ms - Server returned non-2xx status code: {}: "
    "<Error><Code>{}</Code><Message>why</Message></Error>\n\nDebug source: x"
)


@pytest.fixture
def gate(weed: Seaweed) -> Iterator[HttpGate]:
    gate = HttpGate(weed.s3_port)
    yield gate
    gate.close()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    aws_environment(monkeypatch)
    for name in ("FIRST_PAUSE", "FIRST_PATIENT_PAUSE"):
        monkeypatch.setattr(s3, name, 0.01)


Made = Callable[..., S3Client]


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Made:
    """Makes clients of a prefix of this test's own."""
    prefix = request.node.name.replace("/", "-").replace("[", "-").rstrip("]")

    def make(endpoint: str, bucket: str = BUCKET, **options: int) -> S3Client:
        return S3Client(S3Address(bucket, prefix, endpoint), "shown", **options)

    return make


@pytest.fixture
def client(made: Made, gate: HttpGate) -> S3Client:
    return made(gate.url, part_bytes=PART)


# What it can do


def test_objects_come_and_go(client: S3Client) -> None:
    assert client.look("f/a") is None
    assert client.names("f") == client.names("") == {}
    client.put("f/a", b"hello")
    client.put("f/empty", b"")
    found = client.look("f/a")
    assert found is not None
    assert (found.size, len(found.tag)) == (5, 32)
    assert abs(found.changed_ns / 1e9 - time.time()) < 60
    assert client.look("f") is None
    assert client.names("f") == {"a": found, "empty": client.look("f/empty")}
    assert client.names("") == {"f": None}
    assert client.has_folder("")
    assert client.has_folder("f")
    client.put("f/a", b"HELLO")
    again = client.look("f/a")
    assert again is not None
    assert again.tag != found.tag
    for _ in range(2):
        client.remove("f/a")
    assert list(client.names("f")) == ["empty"]


def test_ranges(client: S3Client) -> None:
    client.put("a", bytes(range(100)))
    client.put("empty", b"")
    assert client.read("a", 10, 3) == b"\x0a\x0b\x0c"
    assert client.read("a", 98, 10) == b"\x62\x63"
    for offset, size in ((100, 1), (1000, 5), (3, 0)):
        assert client.read("a", offset, size) == b""
    assert client.read("empty", 0, 9) == b""
    with pytest.raises(ObjectMissing, match="none: no such file"):
        client.read("none", 0, 1)


def test_what_comes_and_goes_is_not_asked_for_without_end(client: S3Client, gate: HttpGate) -> None:
    client.put("odd", b"data")
    gate.refuse(404, "GET", "odd", times=100)
    with pytest.raises(StorageFailed, match="odd"):
        client.end("odd", 100)
    assert gate.left > 80
    gate.forget()
    client.remove("odd")
    assert client.end("odd", 100) is None


def test_more_names_than_a_page_holds(client: S3Client) -> None:
    names = [f"n{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: client.put(f"many/{name}", b"1"), names))
        list(threads.map(lambda name: client.put(f"many/{name}.d/x", b"1"), names[:20]))
    found = client.names("many")
    assert sorted(name for name, what in found.items() if what is not None) == names
    assert sorted(name for name, what in found.items() if what is None) == [
        f"{name}.d" for name in names[:20]
    ]


@pytest.mark.parametrize(
    ("folders", "listings"),
    [
        (["archives/*"], 1),
        (["archives/*", "bundles"], 2),
        (["archives/*", "tags/*", "points", "bundles"], 4),
        (["", "archives", "archives/*", "tags/*", "bundles"], 1),
        ([f"archives/{number:02}" for number in range(30)] + ["bundles"], 2),
        (["archives/01", "archives/02", "points"], 3),
    ],
)
def test_many_folders_are_told_by_few_listings(
    client: S3Client, gate: HttpGate, folders: list[str], listings: int
) -> None:
    """However many archives there are, up to a thousand files."""
    for number in range(40):
        client.put(f"archives/{number:02}/index.1", b"i")
    for name in ("tags/p/kept", "points/p", "bundles/b"):
        client.put(name, b"")
    surveys = Surveys(Asking(client, "shown"), Listings(client.names))
    gate.requests.clear()
    found = surveys.survey(folders)
    asked = [one.path for one in gate.requests if "list-type=2" in one.path]
    assert len(asked) == listings
    if "bundles" in folders and listings > 1:
        assert "bundles" in asked[-1]
    for folder in folders:
        if folder == "archives/*":
            assert len([name for name in found if name.startswith("archives/")]) == 40
        elif folder.startswith("archives/"):
            assert set(found[folder]) == {"index.1"}
    assert set(found.get("bundles", {})) == ({"b"} if "bundles" in folders else set())
    assert set(found.get("tags/p", {})) == ({"kept"} if "tags/*" in folders else set())


@pytest.mark.parametrize("prefix", ["a b", "ä/ö", "a+b&c=d", "100%", "a%20b", "q?#", "it's"])
def test_odd_prefixes(weed: Seaweed, prefix: str) -> None:
    one = S3Client(S3Address(BUCKET, f"odd/{prefix}", weed.s3), "shown")
    one.put("f/a", b"hello")
    one.rename("f/a", "f/b", replace=False)
    assert list(one.names("f")) == ["b"]
    assert one.names("") == {"f": None}
    assert one.read("f/b", 1, 3) == b"ell"


def test_a_bucket_without_a_prefix(weed: Seaweed) -> None:
    whole = S3Client(S3Address(BUCKET, "", weed.s3), "shown")
    whole.put("top", b"1")
    assert whole.names("")["top"] == whole.look("top")


# Streams


def _memory(name: str) -> int:
    """Bytes of this process, as the kernel calls them."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def _peak_of(work: Callable[[], None]) -> int:
    """How much more memory there was at most while *work* was done."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak that was
    before = _memory("VmRSS")
    work()
    return _memory("VmHWM") - before


def test_a_stream_is_seen_when_it_is_finished(made: Made, weed: Seaweed) -> None:
    client = made(weed.s3, part_bytes=PART)
    data = os.urandom(64 * MIB)

    def work() -> None:
        stream = client.stream("large")
        for start in range(0, len(data), MIB):
            stream.write(data[start : start + MIB])
        assert client.look("large") is None
        assert client.names("") == {}
        stream.finish()
        stream.abort()  # is over

    client.put("before", b"")  # the library takes memory, too
    client.remove("before")
    assert _peak_of(work) < 32 * MIB
    found = client.look("large")
    assert found is not None
    assert found.size == len(data)
    assert client.names("") == {"large": found}
    for start in range(0, len(data), 8 * MIB):
        assert client.read("large", start, 8 * MIB) == data[start : start + 8 * MIB]


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1])
def test_streams_of_any_size(client: S3Client, size: int) -> None:
    data = os.urandom(size)
    stream = client.stream("s")
    stream.write(data)
    assert client.look("s") is None
    stream.finish()
    assert client.read("s", 0, size + 1) == data


@pytest.mark.parametrize("size", [0, 1000, 3 * PART])
def test_what_is_given_up_leaves_nothing(client: S3Client, gate: HttpGate, size: int) -> None:
    stream = client.stream("s")
    stream.write(bytes(size))
    stream.abort()
    stream.abort()
    assert client.names("") == {}
    begun = [one for one in gate.requests if one.path.endswith(("?uploads", "?uploads="))]
    ended = [one for one in gate.requests if one.method == "DELETE" and "uploadId=" in one.path]
    assert len(begun) == len(ended) == int(size > PART)


def test_a_stream_replaces_what_there_was(client: S3Client) -> None:
    client.put("s", b"old")
    stream = client.stream("s")
    stream.write(bytes(PART + 1))
    assert client.read("s", 0, 3) == b"old"
    stream.finish()
    assert client.read("s", 0, 3) == bytes(3)


def test_an_object_has_so_many_parts_at_most(made: Made, weed: Seaweed) -> None:
    stream = made(weed.s3, part_bytes=10).stream("s")
    with pytest.raises(StorageFailed, match="more than 10000 parts"):
        stream.write(bytes(100_001))
    stream.abort()


# Other names


def test_renaming(client: S3Client) -> None:
    client.put("a", b"one")
    client.rename("a", "f/b", replace=False)
    assert client.names("") == {"f": None}
    client.put("a", b"two")
    with pytest.raises(ObjectExists, match="f/b: is there already"):
        client.rename("a", "f/b", replace=False)
    assert client.read("f/b", 0, 9) == b"one"
    client.rename("a", "f/b", replace=True)
    assert client.read("f/b", 0, 9) == b"two"
    assert client.look("a") is None


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_gone_cannot_be_renamed(client: S3Client, replace: bool) -> None:
    if replace:
        client.put("b", b"old")
    for _ in range(2):
        with pytest.raises(ObjectMissing, match="a: no such file"):
            client.rename("a", "b", replace=replace)
    assert (client.look("b") is not None) == replace


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("fault", ["lose", "drop", "refuse"])
def test_a_renaming_that_was_lost_is_repeated(
    client: S3Client, gate: HttpGate, method: str, replace: bool, fault: str
) -> None:
    client.put("a", b"new")
    if replace:
        client.put("b", b"old")
    if fault == "refuse":
        gate.refuse(BUSY, method, times=4)
    else:
        (gate.lose if fault == "lose" else gate.drop)(method, times=4)
    tries = 0
    while True:
        try:
            client.rename("a", "b", replace=replace)
            break
        except NotReached:
            tries += 1
    assert tries >= 1
    assert client.read("b", 0, 9) == b"new"
    assert list(client.names("")) == ["b"]


def test_a_part_that_vanishes_between_the_tries(client: S3Client, gate: HttpGate) -> None:
    client.put("a", b"new")
    gate.drop("PUT")
    with pytest.raises(NotReached):
        client.rename("a", "b", replace=False)
    client.remove("a")
    with pytest.raises(ObjectMissing):
        client.rename("a", "b", replace=False)
    assert client.names("") == {}


# What goes wrong


def _streamed(client: S3Client, key: str, data: bytes) -> None:
    stream = client.stream(key)
    try:
        stream.write(data)
        stream.finish()
    finally:
        stream.abort()


REQUESTS: tuple[Callable[[S3Client], object], ...] = (
    lambda c: c.look("a"), lambda c: c.read("a", 0, 1), lambda c: c.put("b", b""),
    lambda c: c.names(""), lambda c: c.rename("a", "b", replace=False),
    lambda c: c.remove("a"), lambda c: _streamed(c, "b", b"1"),
)  # fmt: skip
"""One of each kind."""


def test_keys_that_are_wrong(made: Made, weed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    made(weed.s3).put("a", b"1")
    for key, secret in ((KEY, "wrong-secret"), ("nobody", SECRET)):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        wrong = made(weed.s3)
        for ask in REQUESTS:
            with pytest.raises(StorageFailed, match=r"^shown: the server refuses access") as told:
                ask(wrong)
            assert "are these the right keys" in str(told.value)
            assert secret not in str(told.value)
            assert "\n" not in str(told.value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    reader = made(weed.s3)
    assert reader.read("a", 0, 1) == b"1"
    with pytest.raises(StorageFailed, match="AccessDenied"):
        reader.put("b", b"1")


def test_without_keys(made: Made, weed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageFailed, match="no keys for S3 were found"):
        made(weed.s3).names("")


def test_a_bucket_that_is_not_there(made: Made, weed: Seaweed) -> None:
    for ask in REQUESTS:
        with pytest.raises(StorageFailed, match=r"^shown: there is no such bucket; make it first$"):
            ask(made(weed.s3, bucket="no-bucket"))


@pytest.mark.parametrize("status", [BUSY, MANY, 500, 408])
def test_a_server_that_has_too_much_to_do(client: S3Client, gate: HttpGate, status: int) -> None:
    client.put("a", b"1")
    for ask in (
        lambda: client.look("a"), lambda: client.read("a", 0, 1), lambda: client.put("b", b"2"),
        lambda: client.names(""), lambda: client.remove("b"),
    ):  # fmt: skip
        gate.refuse(status, times=10)
        with pytest.raises(NotReached, match=f"status {status}"):
            ask()
        gate.forget()
        ask()


@pytest.mark.parametrize("count", [0, 1, 20, 300, 600, 700_000])
def test_answers_that_are_cut(client: S3Client, gate: HttpGate, count: int) -> None:
    data = os.urandom(MIB)
    client.put("a", data)
    for ask in (
        lambda: client.read("a", 0, MIB), lambda: client.look("a"), lambda: client.names(""),
        lambda: client.put("a", data), lambda: client.rename("a", "a2", replace=False),
    ):  # fmt: skip
        gate.cut(count, times=1)
        for _ in range(5):
            try:
                result = ask()
                break
            except NotReached:
                pass
        assert result in (None, data) or isinstance(result, (Found, dict))
    assert client.read("a2", 0, MIB + 1) == data
    assert list(client.names("")) == ["a2"]


@pytest.mark.parametrize("count", [0, 10, 500, 70_000, 900_000])
def test_requests_that_are_cut(client: S3Client, gate: HttpGate, count: int) -> None:
    data = os.urandom(MIB)
    gate.cut_sent(count, "PUT")
    client.put("a", data)
    assert client.read("a", 0, MIB) == data
    gate.cut_sent(count, "PUT", times=5)
    with pytest.raises(NotReached):
        client.put("b", data)
    assert client.look("b") is None


@pytest.mark.parametrize(
    ("method", "part"),
    [("POST", "uploads"), ("PUT", "partNumber=1"), ("PUT", "partNumber=3"),
     ("POST", "uploadId"), ("PUT", "")],
)  # fmt: skip
def test_a_stream_waits_for_its_server(
    client: S3Client, gate: HttpGate, method: str, part: str
) -> None:
    data = os.urandom(3 * PART + 5)
    gate.refuse(BUSY, method, part)
    gate.lose(method, part)
    gate.drop(method, part)
    gate.refuse(MANY, method, part)
    _streamed(client, "s", data)
    assert gate.left == 0
    for start in range(0, len(data), 8 * MIB):
        assert client.read("s", start, 8 * MIB) == data[start : start + 8 * MIB]
    assert list(client.names("")) == ["s"]


def test_a_wait_can_be_interrupted(made: Made, weed: Seaweed) -> None:
    """By what a signal raises, as the waiting thread finds it."""
    gate = HttpGate(weed.s3_port)
    client = made(gate.url, part_bytes=PART)
    gate.refuse(BUSY, times=10_000)
    stream = client.stream("s")
    timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        stream.write(bytes(5 * PART))
    gate.forget()
    stream.abort()
    gate.close()


def test_a_server_that_is_killed_and_started_again(tmp_path: Path, made: Made) -> None:
    with seaweed(tmp_path / "s") as server:
        client = made(server.s3, part_bytes=PART)
        client.put("a", b"1")
        stream = client.stream("s")
        data = os.urandom(6 * PART)
        stream.write(data[: 2 * PART])
        server.stop()
        with pytest.raises(NotReached, match="connection"):
            client.read("a", 0, 1)
        writing = threading.Thread(target=stream.write, args=(data[2 * PART :],))
        writing.start()
        server.start()
        writing.join()
        stream.finish()
        assert client.read("a", 0, 1) == b"1"
        for start in range(0, len(data), 8 * MIB):
            assert client.read("s", start, 8 * MIB) == data[start : start + 8 * MIB]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (ANSWER.format("507 Insufficient Storage", "XMinioStorageFull"), StorageFull, "no room"),
        (ANSWER.format("403 Forbidden", "QuotaExceeded"), StorageFull, "no room is left (Quota"),
        (ANSWER.format("400 Bad Request", "RequestTimeout"), NotReached, "RequestTimeout"),
        (ANSWER.format("503 Slow Down", "SlowDown"), NotReached, "SlowDown"),
        (ANSWER.format("409 Conflict", "OperationAborted"), NotReached, "OperationAborted"),
        (ANSWER.format("403 Forbidden", "RequestTimeTooSkewed"), StorageFailed, "the clock"),
        (ANSWER.format("301 Moved", "PermanentRedirect"), StorageFailed, "another region"),
        (ANSWER.format("400 Bad Request", "AuthorizationHeaderMalformed"), StorageFailed,
         "another region"),
        (ANSWER.format("501 Not Implemented", "NotImplemented"), StorageFailed, "NotImplemented"),
        (ANSWER.format("400 Bad Request", "EntityTooLarge"), StorageFailed, "EntityTooLarge: why"),
        ("Generic S3 error: Server returned error response: <Error><Code>InternalError</Code>",
         NotReached, "InternalError"),
        ("Error performing GET http://h/b in 1s - HTTP error: error sending request\n\nDebug "
         "source: invalid peer certificate: UnknownIssuer", StorageFailed, "is not trusted"),
        ("Error performing PUT http://169.254.169.254/latest/api/token in 1s - HTTP error: x",
         StorageFailed, "no keys"),
        ("Something else\n\nDebug source: x", StorageFailed, "shown: Something else"),
    ],
)  # fmt: skip
def test_what_servers_say(text: str, kind: type[Exception], words: str) -> None:
    told = refusal(ValueError(text), "shown")
    assert type(told) is kind
    assert words in str(told)
    assert "Debug" not in str(told)


def test_the_library_may_be_missing(
    made: Made, weed: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    for ask in REQUESTS:
        with pytest.raises(LibraryMissing, match=r"pip install 'ibtfs\[s3\]'"):
            ask(made(weed.s3))
