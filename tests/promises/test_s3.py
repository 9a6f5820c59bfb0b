"""Repositories in S3, by a real SeaweedFS: each command does what it does in a folder."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.store.storage.address import S3Address
from ibtfs.store.storage.objects.s3 import S3Client
from tests.support.commands import command, outside, run, run_json
from tests.support.grounds import spoil
from tests.support.http_gate import BUSY, HttpGate
from tests.support.remote import (
    assert_restored,
    assert_two_machines_at_once,
    assert_whole,
    copied,
    edit,
    make_source,
    soon,
)
from tests.support.repositories import settle
from tests.support.seaweed import BUCKET, KEY, SECRET, Seaweed, aws_environment, seaweed

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed") / "s") as server:
        yield server


@pytest.fixture
def gate(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpGate]:
    aws_environment(monkeypatch)
    soon(monkeypatch)
    gate = HttpGate(server.s3_port)
    yield gate
    gate.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source")


@pytest.fixture
def place(gate: HttpGate, tmp_path: Path) -> str:
    """Where the repository is to be made."""
    return f"s3://{BUCKET}/{tmp_path.name}/repository?endpoint={gate.url}"


@pytest.fixture
def objects(server: Seaweed, tmp_path: Path, gate: HttpGate) -> S3Client:
    """What lies there."""
    return S3Client(S3Address(BUCKET, f"{tmp_path.name}/repository", server.s3), "there")


def found(objects: S3Client, ending: str, folder: str = "archives") -> str:
    """An object of a new archive, by the end of its name."""
    for name, what in objects.names(folder).items():
        if what is None and (below := found(objects, ending, f"{folder}/{name}")):
            return below
        if what is not None and name.startswith(ending):
            return f"{folder}/{name}"
    return ""


def test_every_command(place: str, source: Path, tmp_path: Path, objects: S3Client) -> None:
    run("init", "-q", place)
    trees = []
    for number in range(4):
        edit(source, number)
        run("backup", "-q", source, place)
        trees.append(copied(source, tmp_path / f"tree{number}"))
    points = [one["id"] for one in run_json("list", place)["points"]]
    assert [one["full"] for one in run_json("list", place)["points"]] == [True] + 3 * [False]
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
    index = found(objects, "index.")
    size = objects.look(index)
    assert size is not None
    data = objects.read(index, 0, size.size)
    objects.put(index, data[:100] + b"damage" + data[106:])
    run("check", "--repair", "-q", place)
    assert run_json("check", "--read-data", place)["damages"] == []
    run("purge", "-q", "--yes", place, "new0")
    for number in (0, 2):
        times = trees[number].stat()
        (trees[number] / "new0").unlink()
        os.utime(trees[number], ns=(times.st_atime_ns, times.st_mtime_ns))
    left = [one["id"] for one in run_json("list", place)["points"]]
    assert len(left) == 2
    for point, number in zip(left, (0, 2)):
        assert_restored(place, point, trees[number], tmp_path / "back")
    assert objects.names("locks") == {}


def test_a_mount_shows_it_all_and_what_comes(
    place: str, source: Path, tmp_path: Path, gate: HttpGate
) -> None:
    run("backup", "-q", source, place)
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    told = outside("mount", place, mountpoint)
    assert told.returncode == 0, told.stderr
    assert b"1 backup point" in told.stdout
    try:
        first = mountpoint / "source/latest"
        assert (first / "a").read_bytes() == (source / "a").read_bytes()
        gate.refuse(BUSY, times=10)
        assert (first / "large").read_bytes() == (source / "large").read_bytes()
        gate.drop(times=10)
        subprocess.run(["cp", "-a", first, tmp_path / "copied"], check=True)
        (point,) = (one.name for one in (mountpoint / "source").iterdir() if not one.is_symlink())
        shutil.copytree(mountpoint / "source" / point, tmp_path / "tree", symlinks=True)
        assert (tmp_path / "tree/sub/b").read_bytes() == (source / "sub/b").read_bytes()
        gate.forget()
        edit(source, 1)
        run("backup", "-q", source, place)
        until = time.monotonic() + 60
        while not (mountpoint / "source/latest/new1").exists():
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        assert outside("umount", "--lazy", mountpoint).returncode == 0


def test_what_cannot_be_mounted_is_told(place: str, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    for as_json in ((), ("--json",)):
        told = outside("mount", *as_json, place, tmp_path / "mnt")
        assert told.returncode == 10
        assert b"is not an ibtfs repository" in told.stderr + told.stdout


@pytest.mark.parametrize("seed", range(2))
def test_backups_through_a_bad_network(
    place: str, source: Path, tmp_path: Path, gate: HttpGate, seed: int
) -> None:
    rng = random.Random(seed)
    run("init", "-q", place)
    for number in range(4):
        edit(source, number)
        for _ in range(6):
            spoil(gate, rng)
        gate.spare = 4  # a server that was never reached is not waited for
        run("backup", "-q", source, place)
        gate.forget()
        assert_whole(place, "latest", source, tmp_path / "back")


def test_a_server_that_is_killed_during_a_backup(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws_environment(monkeypatch)
    with seaweed(tmp_path / "s") as own:
        gate = HttpGate(own.s3_port)
        gate.delay = 0.02
        place = f"s3://{BUCKET}/r?endpoint={gate.url}"
        run("init", "-q", place)
        before = len(gate.requests)
        (source / "huge").write_bytes(os.urandom(40 * MIB))
        settle()
        backup = subprocess.Popen(command("backup", "-q", source, place))
        while len(gate.requests) < before + 12:
            assert backup.poll() is None
            time.sleep(0.01)
        own.stop()
        time.sleep(1)
        own.start()
        gate.delay = 0
        assert backup.wait(120) == 0
        assert_restored(place, "latest", source, tmp_path / "back")
        assert run_json("check", "--read-data", place)["damages"] == []
        gate.close()


def test_a_backup_that_is_killed_leaves_nothing_that_the_next_one_cannot_use(
    place: str, source: Path, tmp_path: Path, gate: HttpGate, objects: S3Client
) -> None:
    run("init", "-q", place)
    gate.delay = 0.05
    killed = subprocess.Popen(command("backup", "-q", source, place))
    until = time.monotonic() + 30
    while not objects.names("locks"):
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(0.5)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    gate.delay = 0
    assert run_json("list", place)["points"] == []
    run("backup", "-q", source, place)
    assert_whole(place, "latest", source, tmp_path / "back")


def test_the_endpoint_may_be_an_option(gate: HttpGate, source: Path, tmp_path: Path) -> None:
    one, two = (f"s3://{BUCKET}/{tmp_path.name}/{name}" for name in ("one", "two"))
    there = ("--endpoint", gate.url)
    run("backup", "-q", *there, source, one)
    run("copy", "-q", *there, one, two)
    run("copy", "-q", *there, two, tmp_path / "folder")
    shown = [run_json("list", *words)["points"] for words in (
        (*there, one), (*there, two), (tmp_path / "folder",))]  # fmt: skip
    assert shown[0] == shown[1] == shown[2] != []
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    assert outside("mount", "-q", *there, one, mountpoint).returncode == 0
    try:
        assert (mountpoint / "source/latest/a").read_bytes() == (source / "a").read_bytes()
    finally:
        assert outside("umount", mountpoint).returncode == 0
    wrong = f"{two}?endpoint=http://127.0.0.1:1"  # what an address says of itself comes first
    assert "not reached" in run("copy", "-q", *there, one, wrong, code=1).stderr


def test_two_machines_at_once(place: str, source: Path, tmp_path: Path) -> None:
    assert_two_machines_at_once(place, source, copied(source, tmp_path / "other"))


def test_what_goes_wrong_is_one_clear_line(
    place: str, source: Path, server: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("list", place, code=10)
    assert "is not an ibtfs repository" in result.stderr
    away = f"s3://{BUCKET}/x?endpoint=http://127.0.0.1:1"
    result = run("backup", source, away, code=1)
    assert result.stderr == f"ibtfs: {away}: not reached: connection refused\n"
    missing = f"s3://no-bucket/x?endpoint={server.s3}"
    for words in (("init",), ("list",), ("backup", str(source))):
        result = run(*words, missing, code=1)
        assert result.stderr == f"ibtfs: {missing}: there is no such bucket; make it first\n"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    result = run("list", place, code=1)
    assert "the server refuses access" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "not-the-secret" not in result.stderr
    result = run("list", f"s3://{KEY}:{SECRET}@{BUCKET}/x", code=2)
    assert SECRET not in result.stderr
    assert "keys do not belong into an address" in result.stderr
