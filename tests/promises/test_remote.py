"""Repositories on other machines, by real servers: each command does what it does in a folder."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import command, outside, run, run_json
from tests.support.dav_gate import HttpGate
from tests.support.dav_servers import Apache
from tests.support.dav_servers import served as dav_served
from tests.support.remote import (
    assert_restored,
    assert_two_machines_at_once,
    assert_whole,
    copied,
    edit,
    make_source,
    soon,
)
from tests.support.sshd import Gate, Server, served

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("sshd"), is_prepared=True) as server:
        yield server


@pytest.fixture
def gate(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setenv("PATH", server.path)
    soon(monkeypatch)
    gate = Gate(server.port)
    yield gate
    gate.close()


@pytest.fixture
def shared(gate: Gate, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """All share a connection, as one may have it: for who makes many, and does not cut them."""
    monkeypatch.setenv("PATH", server.shared_path())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source")


@pytest.fixture(params=["sftp", "ssh"])
def scheme(request: pytest.FixtureRequest) -> str:
    """How the other machine is spoken to: by SFTP, or with an ibtfs there."""
    kind: str = request.param
    return kind


@pytest.fixture
def place(scheme: str, gate: Gate, tmp_path: Path) -> str:
    """Where the repository is to be made; it lies in this folder, too."""
    return f"{scheme}://127.0.0.1:{gate.port}{tmp_path}/repository"


@pytest.mark.usefixtures("shared")
def test_every_command(place: str, source: Path, tmp_path: Path) -> None:
    run("init", "-q", place)
    trees = []
    for number in range(4):
        edit(source, number)
        run("backup", "-q", source, place)
        trees.append(copied(source, tmp_path / f"tree{number}"))
    points = [one["id"] for one in run_json("list", place)["points"]]
    assert len(points) == 4
    for point, tree in zip(points, trees):
        assert_restored(place, point, tree, tmp_path / "back")
    assert run("cat", place, points[1], "a").stdout_bytes == b"one\n" * 500
    assert "new3" in run("ls", place, points[3]).stdout
    assert "new2" in run("diff", place, points[1], points[2]).stdout
    assert run("versions", place, "large").stdout.count("\n") > 4
    run("tag", "add", "-q", place, "kept", points[0])
    assert run_json("check", "--read-data", place)["damages"] == []
    run("stats", place)
    run("undo", "-q", place)
    run("forget", "-q", place, points[1])
    foretold = run_json("prune", "--dry-run", place)
    assert run_json("prune", place)["freed"] == pytest.approx(foretold["freed"], rel=0.05)
    run("protect", "-q", "--redundancy", "20%", place)
    index = next((tmp_path / "repository/archives").rglob("index.*[0-9]"))
    with index.open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
    run("check", "--repair", "-q", place)
    assert run_json("check", "--read-data", place)["damages"] == []
    run("purge", "-q", "--yes", place, "new0")
    for number in (0, 2):
        found = trees[number].stat()
        (trees[number] / "new0").unlink()
        os.utime(trees[number], ns=(found.st_atime_ns, found.st_mtime_ns))
    left = [one["id"] for one in run_json("list", place)["points"]]
    assert len(left) == 2
    for point, number in zip(left, (0, 2)):
        assert_restored(place, point, trees[number], tmp_path / "back")
    assert os.listdir(tmp_path / "repository/locks") == []


@pytest.mark.usefixtures("shared")
def test_it_is_the_same_repository_in_a_folder(place: str, source: Path, tmp_path: Path) -> None:
    """Either side goes on with what the other one wrote."""
    folder = tmp_path / "repository"
    for number, repository in enumerate([place, folder, place, folder]):
        edit(source, number)
        run("backup", "-q", source, repository)
        tree = copied(source, tmp_path / f"tree{number}")
        for other in (place, folder):
            assert_restored(str(other), "latest", tree, tmp_path / "back")
    assert run_json("list", folder)["points"] == run_json("list", place)["points"]
    assert [one["full"] for one in run_json("list", folder)["points"]] == [True] + 3 * [False]
    assert run_json("check", "--read-data", folder)["damages"] == []


def test_a_mount_goes_on_when_its_server_comes_back(
    place: str, source: Path, tmp_path: Path, gate: Gate
) -> None:
    run("backup", "-q", source, place)
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    assert outside("mount", "-q", place, mountpoint).returncode == 0
    try:
        first = mountpoint / "source/latest"
        assert (first / "a").read_bytes() == (source / "a").read_bytes()
        gate.cut()
        assert (first / "sub/b").read_bytes() == (source / "sub/b").read_bytes()
        gate.is_shut = True
        gate.cut()
        timer = threading.Timer(1.5, setattr, (gate, "is_shut", False))
        timer.start()
        assert (first / "large").read_bytes() == (source / "large").read_bytes()
        timer.join()
        edit(source, 1)
        run("backup", "-q", source, place)
        until = time.monotonic() + 120
        while not (mountpoint / "source/latest/new1").exists():
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        assert outside("umount", mountpoint).returncode == 0


def test_limits_of_the_line_hold(place: str, source: Path, tmp_path: Path) -> None:
    """More than 5 MiB, at 2 MiB a second."""
    began = time.monotonic()
    run("backup", "-q", "--limit-upload", "2M", source, place)
    assert 2.4 < time.monotonic() - began < 30
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    assert outside("mount", "-q", "--limit-download", "2M", place, mountpoint).returncode == 0
    try:
        began = time.monotonic()
        large = (mountpoint / "source/latest/large").read_bytes()
        assert 2 < time.monotonic() - began < 30
    finally:
        assert outside("umount", mountpoint).returncode == 0
    assert large == (source / "large").read_bytes()


@pytest.mark.parametrize("seed", range(2))
def test_backups_whose_connection_is_cut_go_on(
    place: str, source: Path, tmp_path: Path, gate: Gate, seed: int
) -> None:
    rng = random.Random(seed)
    for number in range(4):
        edit(source, number)
        gate.cut_after(rng.randrange(6000, 20_000))  # when ssh has got through
        run("backup", "-q", source, place)
        gate.cut_after(rng.randrange(6000, 200_000))
        assert_restored(place, "latest", source, tmp_path / "back")
    assert gate.cuts >= 5
    assert run_json("check", "--read-data", place)["damages"] == []


def test_a_backup_that_is_killed_leaves_nothing_that_the_next_one_cannot_use(
    place: str, source: Path, tmp_path: Path, gate: Gate
) -> None:
    run("init", "-q", place)
    gate.delay = 0.02
    killed = subprocess.Popen(command("backup", "-q", source, place))
    until = time.monotonic() + 120
    while not any((tmp_path / "repository/archives").rglob("*.part")):
        assert time.monotonic() < until
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    gate.delay = 0
    assert run_json("list", place)["points"] == []
    run("backup", "-q", source, place)
    assert_whole(place, "latest", source, tmp_path / "back")


def test_two_machines_at_once(place: str, source: Path, tmp_path: Path) -> None:
    assert_two_machines_at_once(place, source, copied(source, tmp_path / "other"))


def test_what_cannot_be_reached_is_one_clear_line(
    place: str, source: Path, gate: Gate, tmp_path: Path
) -> None:
    gate.is_shut = True
    result = run("backup", source, place, code=1)
    assert result.stderr.startswith(f"ibtfs: {place}: not reached: no connection (")
    assert result.stderr.count("\n") == 1
    gate.is_shut = False
    result = run("list", place, code=10)
    assert result.stderr == f"ibtfs: No such repository: '{place}' does not exist\n"
    missing = place.replace("/repository", "/none/repository")
    result = run("backup", source, missing, code=1)
    assert "does not exist" in result.stderr
    result = run("list", "http://bucket/x", code=2)
    assert "no storage is called http://" in result.stderr


# By WebDAV


@pytest.fixture(scope="module")
def apache() -> Iterator[Apache]:
    with dav_served(Apache) as server:
        assert isinstance(server, Apache)
        yield server


@pytest.fixture
def http_gate(apache: Apache, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpGate]:
    soon(monkeypatch)
    gate = HttpGate(apache.port)
    yield gate
    gate.close()


@pytest.fixture
def dav_place(http_gate: HttpGate) -> str:
    return f"dav://127.0.0.1:{http_gate.port}/r{os.urandom(8).hex()}"


def test_commands_by_webdav(dav_place: str, source: Path, tmp_path: Path) -> None:
    run("init", "-q", dav_place)
    trees = []
    for number in range(3):
        edit(source, number)
        run("backup", "-q", source, dav_place)
        trees.append(copied(source, tmp_path / f"tree{number}"))
    listed = run_json("list", dav_place)["points"]
    assert [one["full"] for one in listed] == [True, False, False]
    points = [one["id"] for one in listed]
    for point, tree in zip(points, trees):
        assert_restored(dav_place, point, tree, tmp_path / "back")
    assert run("cat", dav_place, points[1], "a").stdout_bytes == b"one\n" * 500
    assert "new2" in run("ls", dav_place, points[2]).stdout
    run("tag", "add", "-q", dav_place, "kept", points[0])
    run("tag", "remove", "-q", dav_place, "kept", points[0])
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    assert outside("mount", "-q", dav_place, mountpoint).returncode == 0
    try:
        subprocess.run(
            ["cp", "-a", f"{mountpoint}/source/latest/.", tmp_path / "copied"], check=True
        )
    finally:
        assert outside("umount", mountpoint).returncode == 0
    for name in ("a", "large", "sub/b", "new2"):
        assert (tmp_path / "copied" / name).read_bytes() == (source / name).read_bytes()
    assert run_json("check", "--read-data", dav_place)["damages"] == []
    run("forget", "-q", dav_place, points[1])
    run("prune", "-q", dav_place)
    for number in (0, 2):
        assert_restored(dav_place, points[number], trees[number], tmp_path / "back")
    assert run_json("check", "--read-data", dav_place)["damages"] == []


@pytest.mark.parametrize("seed", range(2))
def test_backups_by_webdav_go_on_whatever_the_network_does(
    dav_place: str, source: Path, tmp_path: Path, http_gate: HttpGate, seed: int
) -> None:
    rng = random.Random(seed)
    for number in range(3):
        edit(source, number)
        http_gate.cut_after(rng.randrange(2000, 20_000))
        http_gate.swallow(methods=[rng.choice(["MOVE", "PUT", "DELETE"])])
        http_gate.refuse(2, rng.choice([500, 503]), methods=[rng.choice(["PUT", "MOVE"])])
        run("backup", "-q", source, dav_place)
        http_gate.cut_after(rng.randrange(2000, 200_000))
        assert_restored(dav_place, "latest", source, tmp_path / "back")
    assert http_gate.cuts >= 5
    assert run_json("check", "--read-data", dav_place)["damages"] == []


def test_a_password_is_not_shown(apache: Apache, source: Path, tmp_path: Path) -> None:
    place = f"dav://me:SECRET@127.0.0.1:{apache.port}/basic/r"
    result = run("backup", source, place, code=1)
    assert "refuses the user or the password" in result.stderr
    assert result.stderr.count("\n") == 1
    shown = result.stderr
    shown += run("list", place.replace("/basic/r", "/none"), code=10).stderr
    shown += run("list", place.replace(":SECRET@127", ":SECRET@1 27"), code=2).stderr
    assert "SECRET" not in shown
    made = f"dav://me:SECRET@127.0.0.1:{apache.port}/r{os.urandom(8).hex()}"  # asks for none
    shown += run("backup", "--dry-run", source, made, code=10).stderr
    for words in (["backup", source, made], ["backup", "--json", source, made], ["list", made],
                  ["check", made], ["init", "--json", f"{made}i"], ["init", f"{made}j"],
                  ["copy", made, f"{made}k"], ["copy", "--json", made, f"{made}l"],
                  ["copy", "--dry-run", "--json", made, f"{made}m"]):  # fmt: skip
        done = run(*words)
        shown += done.stderr + done.stdout
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    assert outside("mount", "-q", made, mountpoint).returncode == 0
    try:
        assert (mountpoint / "source/latest/a").read_bytes() == (source / "a").read_bytes()
        shown += Path("/proc/mounts").read_text()
    finally:
        assert outside("umount", mountpoint).returncode == 0
    assert "SECRET" not in shown


@pytest.mark.usefixtures("shared")
def test_a_sealed_repository(
    place: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run("init", "-q", "--key-file", tmp_path / "key", place)
    run("list", place, code=12)
    monkeypatch.setenv("IBTFS_KEY_FILE", str(tmp_path / "key"))
    for number in range(3):
        edit(source, number)
        run("backup", "-q", "--tag", "kept", source, place)
    run("forget", "--keep-last", "2", "--prune", place)
    run("check", "--read-data", place)
    run("key", "rotate", place)
    edit(source, 3)
    run("backup", "-q", source, place)
    newest = run_json("list", place)["points"][-1]["id"]
    assert_restored(place, newest, copied(source, tmp_path / "expected"), tmp_path / "back")
    assert list((tmp_path / "repository" / "lists").iterdir())
