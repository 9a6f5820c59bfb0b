"""scripts/bench, with ibtfs alone and little data: it runs, reckons, notices what is wrong."""

from __future__ import annotations

import ctypes
import json
import os
import random
import shlex
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark import chart, compare, remote, report, sealed
from benchmark.download import Releases
from benchmark.far import Far, Heads
from benchmark.install import Programs
from benchmark.measure import PR_SET_CHILD_SUBREAPER, Command, Failure, Measurer
from benchmark.mounting import Mounts, is_alive
from benchmark.results import Record, Results
from benchmark.rounds import STEPS, Plan
from benchmark.targets import Target, verdicts
from benchmark.tools import Ibtfs

from tests.support import CHECKOUT
from tests.support.trees import Directory, File, Symlink, make_tree

DAMAGING = """#!/bin/sh
{python} -m ibtfs "$@" || exit
if [ "$1" = restore ]; then for last; do :; done; {then} "$last"/*; fi
"""


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A new folder, with a command that is this checkout's ibtfs."""
    write_command(tmp_path, "true")
    return tmp_path


def write_command(place: Path, then: str) -> None:
    """Make the command, which does *then* to what it has restored."""
    command = place / "ibtfs"
    command.write_text(DAMAGING.format(python=shlex.quote(sys.executable), then=then))
    command.chmod(0o755)


def run(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, CHECKOUT / "scripts/bench", "--quick", "--no-install", "--settle=0.2",
            "--tool=ibtfs", f"--ibtfs={place / 'ibtfs'}", f"--tools={place / 'kept'}",
            f"--work={place / 'work'}", f"--output={place / 'out'}", *options]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


def test_one_set_with_ibtfs_alone(bench: Path) -> None:
    done = run(bench, "--set=log", "--tool=native")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((bench / "out.json").read_text())
    steps = [(record["step"], record["change"]) for record in found["records"]
             if record["tool"] == "ibtfs"]  # fmt: skip
    assert steps == [("full", 0), ("unchanged", 0), ("change", 1), ("change", 2), ("restore", 0)]
    assert all(record["seconds"] > 0 and record["peak_bytes"] > 0 for record in found["records"])
    by_step = {row["step"]: row for row in found["medians"] if row["tool"] == "ibtfs"}
    assert by_step["unchanged"]["stored_bytes"] < 20_000 < by_step["full"]["stored_bytes"]
    floor = [target for target in found["targets"] if target["kind"] == "floor"]
    assert [target["value"] is None for target in floor] == [False]
    assert "Targets: " in done.stdout
    xml.etree.ElementTree.parse(bench / "out.svg")
    assert [*(bench / "work").iterdir()] == []


def test_what_was_measured_at_other_times_is_joined(bench: Path) -> None:
    done = run(bench, "--set=log", "--step=full", "--step=unchanged")
    assert done.returncode == 0, done.stdout + done.stderr
    first = json.loads((bench / "out.json").read_text())
    (bench / "out.json").rename(bench / "log.json")
    moved = {**first, "records": [{**record, "set": "db"} for record in first["records"]]}
    (bench / "db.json").write_text(json.dumps(moved))
    done = run(bench, f"--join={bench / 'log.json'}", f"--join={bench / 'db.json'}")
    assert done.returncode == 0, done.stdout + done.stderr
    both = json.loads((bench / "out.json").read_text())
    assert both["records"] == first["records"] + moved["records"]
    assert both["versions"] == first["versions"]
    assert "db: a SQLite database" in done.stdout
    (bench / "bad.json").write_text('{"records": [{}]}')
    done = run(bench, f"--join={bench / 'bad.json'}")
    assert (done.returncode, done.stderr) == (1, "")
    assert "bad.json is not what bench writes" in done.stdout


def test_what_is_restored_wrong_is_told(bench: Path) -> None:
    write_command(bench, "truncate -s -1")
    done = run(bench, "--set=log", "--step=restore")
    assert done.returncode == 1
    assert "WRONG: ibtfs: log restore: b'service.log'" in done.stdout


def test_a_command_that_fails_is_told(bench: Path) -> None:
    (bench / "ibtfs").write_text('#!/bin/sh\n[ "$1" = --version ] && echo 1 && exit\nexit 7\n')
    done = run(bench, "--set=log", "--step=full")
    assert done.returncode == 1
    assert "WRONG: ibtfs: log full: " in done.stdout
    assert "exit code 7" in done.stdout


@pytest.fixture
def measurer(tmp_path: Path) -> Iterator[Measurer]:
    """A measurer; afterwards this process adopts no orphans, which other tests leave."""
    yield Measurer(os.environ, tmp_path / "log")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_memory_is_that_of_the_largest_process_and_not_of_this_one(measurer: Measurer) -> None:
    ballast = bytearray(os.urandom(1 << 20) * 64)
    assert [measurer.one(Command(["false"]))[0] for _ in range(30)] == [1] * 30
    _, nothing = measurer.one(Command(["true"]))
    assert 0 < nothing.peak_bytes < 8 << 20 < len(ballast)
    large = [sys.executable, "-c", "len(b'x' * (50 << 20))"]
    code, figures = measurer.one(Command(["sh", "-c", '"$@"; exit 3', "sh", *large]))
    assert code == 3
    assert 50 << 20 < figures.peak_bytes < 100 << 20
    with pytest.raises(Failure, match="not done after"):
        measurer.run([Command(["sleep", "20"], timeout=0.1)])


def test_a_mount_is_measured_and_taken_away(bench: Path, measurer: Measurer) -> None:
    make_tree(bench / "source", {"file": b"content"})
    tool = Ibtfs(bench / "ibtfs", bench / "tool")
    tool.place.mkdir()
    measurer.environment = {**tool.environment(), "PYTHONPATH": str(CHECKOUT)}
    tool.environment = lambda: measurer.environment  # type: ignore[method-assign]
    measurer.run(tool.backup(bench / "source"))
    mounts = Mounts(bench / "mount")
    with mounts.mounted(tool) as mount:
        (point,) = mount.points()
        assert (mount.inside(point, bench / "source") / "file").read_bytes() == b"content"
        assert mount.processes
        assert 10 << 20 < mount.peak_bytes() < 100 << 20
    assert not os.path.ismount(bench / "mount")
    assert not any(is_alive(process) for process in mount.processes)
    tool.repository.rename(bench / "gone")
    with pytest.raises(Failure, match="did not mount"), mounts.mounted(tool):
        pass


def test_repositories_on_another_machine(
    bench: Path, measurer: Measurer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As --set remote does, but near: a mount asks for much."""
    monkeypatch.setattr(remote, "AWAY", {", 1 ms": 0.001})
    monkeypatch.setattr(remote, "QUICK", (120, 128 << 10))
    results, said = Results(), list[str]()
    programs = Programs(bench / "kept", bench / "ibtfs", said.append)
    own = Ibtfs.environment
    monkeypatch.setattr(
        Ibtfs, "environment", lambda self: {**own(self), "PYTHONPATH": str(CHECKOUT)}
    )
    plan = Plan(["ibtfs", "borg"], STEPS, 1, 0.2, bench, programs, said.append)
    remote.RemoteSet(plan, True, results, seed=7).go()
    assert [record.wrong for record in results.records] == [()] * 16
    steps = [f"{kind} {step}, 1 ms" for kind in ("sftp", "s3") for step in remote.STEPS]
    assert [record.step for record in results.records] == steps
    found = {record.step: record for record in results.records}
    assert found["sftp full, 1 ms"].requests["rename"] > 2
    assert found["s3 full, 1 ms"].requests["PUT"] > 2
    assert set(found["s3 change, 1 ms"].requests) <= {
        "LIST",
        "GET",
        "HEAD",
        "PUT",
        "COPY",
        "DELETE",
    }
    for kind in ("sftp", "s3"):
        assert found[f"{kind} full, 1 ms"].moved[0] > 100_000
        assert found[f"{kind} restore, 1 ms"].moved[1] > 100_000
    assert list(remote.worst(results)) == []  # there is no other to compare with
    lines = "\n".join(report.tables(results, [], {}))
    assert " requests (" in lines
    peer = [
        replace(record, tool="restic", seconds=record.seconds * 2) for record in results.records
    ]
    results.records += peer
    results.add(replace(peer[0], step="sftp slow", seconds=1.0))
    results.add(replace(results.records[0], step="sftp slow", seconds=3.0))
    told = list(remote.worst(results))
    assert len(told) == 18
    assert told[1].split()[:3] == ["3.00", "sftp", "slow"]
    assert not (bench / "remote").exists()


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says what it hears."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(1 << 16):
                self.request.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_what_is_far_away_takes_round_trips_and_no_bandwidth(echo: int) -> None:
    sent, got = random.Random(5).randbytes(8 << 20), bytearray()
    with Far(echo, 0.2) as far, socket.create_connection(("127.0.0.1", far.port)) as client:
        began = time.monotonic()
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        connected = time.monotonic()
        assert connected - began > 0.39  # for the connection, too
        for _ in range(3):
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        asked = time.monotonic()
        assert 0.6 < asked - connected < 3
        writer = threading.Thread(target=client.sendall, args=(sent,))
        writer.start()
        while len(got) < len(sent):
            got += client.recv(1 << 20)
        writer.join()
        assert bytes(got) == sent
        # 128 pieces, which would take 25 s one after the other
        assert time.monotonic() - asked < 10
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        counted = far.counted()
        assert counted.sent == counted.received == len(sent) + 4
        assert far.counted().sent == 0


def test_requests_of_http_are_found_however_they_are_cut() -> None:
    text = (
        b"PUT /b/k HTTP/1.1\r\nContent-Length: 9\r\n\r\nsome body"
        b"GET /b?list-type=2&prefix=x HTTP/1.1\r\nHost: h\r\n\r\n"
        b"PUT /b/new HTTP/1.1\r\nX-Amz-Copy-Source: /b/k\r\n\r\n"
        b"GET /b/k?x=1 HTTP/1.1\r\nRange: bytes=0-5\r\n\r\n"
        b"DELETE /b/k HTTP/1.1\r\n\r\nHEAD /b/k HTTP/1.1\r\n\r\n"
    )
    expected = ["PUT", "LIST", "COPY", "GET", "DELETE", "HEAD"]
    for step in (1, 7, 50, len(text)):
        heads = Heads()
        pieces = [text[first : first + step] for first in range(0, len(text), step)]
        assert [kind for piece in pieces for kind in heads.feed(piece)] == expected


CHANGES = {
    "content": lambda top: (top / "a").write_bytes(b"B" * 10),
    "size": lambda top: (top / "a").write_bytes(b"A"),
    "mode": lambda top: (top / "a").chmod(0o600),
    "time": lambda top: os.utime(top / "a", ns=(0, 10**18 + 2)),
    "type": lambda top: ((top / "a").unlink(), (top / "a").mkdir()),
    "missing": lambda top: (top / "sub/b").unlink(),
    "more": lambda top: (top / "sub/more").write_bytes(b""),
    "link": lambda top: ((top / "l").unlink(), (top / "l").symlink_to("x")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_trees_that_differ(tmp_path: Path, change: str) -> None:
    tree = Directory({"a": File(b"A" * 10, mode=0o644), "l": Symlink("a"), "sub": {"b": b"b"}})
    make_tree(tmp_path / "one", tree)
    os.utime(tmp_path / "one/a", ns=(0, 10**18 + 1))
    shutil.copytree(tmp_path / "one", tmp_path / "two", symlinks=True)
    assert compare.differences(tmp_path / "one", tmp_path / "two") == []
    CHANGES[change](tmp_path / "two")
    if change in ("content", "size"):
        os.utime(tmp_path / "two/a", ns=(0, 10**18 + 1))
    assert compare.differences(tmp_path / "one", tmp_path / "two") != []


def test_targets_are_judged_by_medians_against_the_best_peer() -> None:
    results = Results()
    for run_number, own in enumerate((1.0, 9.0, 1.2)):
        results.add(Record("s", "full", "ibtfs", run_number, own, 0, 100, 40))
        results.add(Record("s", "full", "restic", run_number, 6.0, 0, 100, 100))
        results.add(Record("s", "full", "borg", run_number, 3.0, 0, 100, 200))
        results.add(Record("s", "full", "bup", run_number, 0.1, wrong=("bytes",)))
    judged = verdicts(results, (
        Target("s", "full", "faster", 2.4), Target("s", "full", "faster", 2.6),
        Target("s", "full", "part", 0.4, "stored_bytes"),
        Target("s", "full", "part", 0.3, "stored_bytes"),
        Target("s", "full", "at most", 99, "peak_bytes"), Target("s", "full", "floor", 1),
        Target("s", "restore", "faster", 1),
    ))  # fmt: skip
    assert [verdict.met for verdict in judged] == [True, False, True, False, False, None]
    assert "borg" in judged[0].text
    assert judged[0].value == pytest.approx(2.5)
    assert chart.chart(results).count("<title>") == 2


def test_the_same_seed_makes_the_same_changes(tmp_path: Path) -> None:
    from tests.support import realdata

    for name in ("one", "two"):
        rng = random.Random(3)
        realdata.sqlite_database(tmp_path / name, rng, size=1 << 20)
        realdata.change_rows(tmp_path / name, rng, rows=20, deleted=0, appended=5)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_sealed_beside_unsealed(
    bench: Path, measurer: Measurer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed, "OF_SETS", ("log",))
    results, said = Results(), list[str]()
    programs = Programs(bench / "kept", bench / "ibtfs", said.append)
    own = Ibtfs.environment
    monkeypatch.setattr(
        Ibtfs, "environment", lambda self: {**own(self), "PYTHONPATH": str(CHECKOUT)}
    )
    plan = Plan([], STEPS, 1, 0.1, bench, programs, said.append)
    sealed.measure(plan, True, results, Releases(bench / "none", Path(sys.executable)))
    assert [record.wrong for record in results.records] == [()] * 10
    assert {record.tool for record in results.records} == {"ibtfs", "ibtfs sealed"}
    head, *told = sealed.ratios(results)
    assert "at most 1.10" in head
    assert [line.split()[2] for line in told] == list(STEPS)
    assert all("wall" in line and "processor" in line for line in told)


def test_ratios_are_those_of_pairs() -> None:
    results = Results()
    for run_number, (one, two) in enumerate([(1, 1), (2, 4), (4, 6)], 1):
        for tool, seconds in (("ibtfs", one), ("ibtfs sealed", two)):
            results.add(Record("sealed db", "full", tool, run_number, seconds, 1.0))
    assert sealed.paired(results, "sealed db", "full", "seconds") == [1, 2, 1.5]
    assert list(sealed.ratios(results))[1:] == [
        "  sealed db   full       wall 1.50 (1.00 to 2.00) MISSED; processor 1.00 (1.00 to 1.00)"
    ]
    assert list(sealed.ratios(Results())) == []
