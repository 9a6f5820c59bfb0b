"""Several machines and one repository: at the same time, with clocks a day apart, and asleep.

Each machine is a namespace of its own: network, name, boot, processes and clock.  The servers are
real ones, reached through a bridge.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ibtfs.cli.exit_codes import DONE, LOCKED
from ibtfs.errors import LockLost
from ibtfs.store import layout
from ibtfs.store.lock import EXCLUSIVE, PRUNE, SHARED, STALE_SECONDS
from ibtfs.store.storage.opening import storage_at
from tests.support.commands import PATIENCE, run, run_json
from tests.support.machines import DAY, Lan, Machine, Started, lan
from tests.support.remote import assert_restored, copied, edit, make_source
from tests.support.seaweed import BUCKET, Seaweed, aws_environment, seaweed
from tests.support.sshd import Server, served

ROUNDS = 2
ASLEEP_AT = pytest.mark.parametrize("place", ["sftp", "s3"], indirect=True)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    with lan(tmp_path_factory.mktemp("lan")) as net:
        yield net


@pytest.fixture(scope="module")
def sshd(net: Lan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("sshd")
    with served(place, address=net.address, is_prepared=True) as server:
        yield server


@pytest.fixture(scope="module")
def weed(net: Lan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed") / "s", address=net.address) as server:
        yield server


@pytest.fixture(params=["sftp", "ssh", "s3"])
def place(
    request: pytest.FixtureRequest, net: Lan, fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A new repository, as each machine calls it."""
    if request.param == "s3":
        weed: Seaweed = request.getfixturevalue("weed")
        aws_environment(monkeypatch)
        made = f"s3://{BUCKET}/{fast_path.name}?endpoint={weed.s3}"
    else:
        server: Server = request.getfixturevalue("sshd")
        monkeypatch.setenv("PATH", server.path)
        made = f"{request.param}://{net.address}:{server.port}{fast_path}/repository"
    run("init", "-q", made)
    return made


def until_done(start: Callable[[], tuple[int, str, str]]) -> str:
    """What a command says that is run again as long as the repository is locked."""
    until = time.monotonic() + PATIENCE
    while True:
        code, output, errors = start()
        if code != LOCKED:
            assert code == DONE, (output, errors)
            return output
        assert time.monotonic() < until, errors
        time.sleep(0.1)


def point_of(told: str) -> str:
    """The point that a backup says it has made."""
    (point,) = json.loads(told)["points"]
    made: str = point["id"]
    return made


class Household(NamedTuple):
    """A machine, what it backs up to *place*, and what each point of it has to be."""

    machine: Machine
    place: str
    source: Path
    trees: dict[str, Path]

    def do(self, command: str, *words: object) -> str:
        """Run a command on the repository, again where it is locked."""
        return until_done(lambda: self.machine.run(command, "--json", *words))

    def backup(self) -> str:
        """Back up; the id of the point."""
        told = self.do("backup", self.source, self.place)
        return self.took(point_of(told))

    def took(self, point_id: str) -> str:
        """A point of what is there now was made."""
        self.trees[point_id] = copied(self.source, self.source.with_name(point_id))
        return point_id

    def forget(self, point_id: str) -> None:
        """Remove a point."""
        self.do("forget", self.place, point_id)
        del self.trees[point_id]


@pytest.fixture(scope="module")
def machines(net: Lan) -> tuple[Machine, Machine]:
    return net.machine("one"), net.machine("other")


@pytest.fixture
def two(
    place: str, machines: tuple[Machine, Machine], fast_path: Path
) -> Iterator[tuple[Household, Household]]:
    """Two machines, the clock of the other one far ahead."""
    machines[1].ahead = DAY
    sources = [make_source(fast_path / name) for name in ("one", "other")]
    one, other = (Household(*them, {}) for them in zip(machines, 2 * [place], sources))
    yield one, other
    for machine in machines:
        machine.restart()


def assert_nothing_lost(place: str, back: Path, *households: Household) -> None:
    """Every point that was not forgotten is there and what it was; nothing is damaged."""
    trees = {name: tree for one in households for name, tree in one.trees.items()}
    assert {one["id"] for one in run_json("list", place)["points"]} == set(trees)
    for point_id, tree in trees.items():
        assert_restored(place, point_id, tree, back)
    assert run_json("check", "--read-data", place)["damages"] == []
    assert storage_at(os.fsencode(place)).list(layout.LOCKS) == []


def test_two_back_up_forget_and_prune_at_the_same_time(
    place: str, two: tuple[Household, Household], fast_path: Path
) -> None:
    failed: list[BaseException] = []

    def live(one: Household) -> None:
        try:
            for number in range(ROUNDS):
                edit(one.source, number)
                one.backup()
                if number:
                    one.forget(next(iter(one.trees)))
                    one.do("prune", "--wait", "5", place)
        except BaseException as error:
            failed.append(error)

    lives = [threading.Thread(target=live, args=(one,)) for one in two]
    for life in lives:
        life.start()
    for life in lives:
        life.join()
    if failed:
        raise failed[0]
    two[0].do("prune", place)
    assert [len(one.trees) for one in two] == [1, 1]
    assert_nothing_lost(place, fast_path / "back", *two)


def locks(place: str, kind: str) -> list[str]:
    """The locks of a kind that are there."""
    names = storage_at(os.fsencode(place)).list(layout.LOCKS)
    return [name for name in names if name.startswith(kind)]


def asleep_in(place: str, kind: str, started: Started) -> str:
    """Put a command to sleep in the middle, when it has its lock; the lock's name."""
    until = time.monotonic() + PATIENCE
    while not (found := locks(place, kind)):
        assert not started.is_over()
        assert time.monotonic() < until
    started.sleep()
    return found[0]


def two_points(one: Household, other: Household) -> None:
    """One point, and two of the other machine, where there is something new then."""
    one.backup()
    for number in range(2):
        other.backup()
        edit(other.source, number)
    (other.source / "more").write_bytes(os.urandom(8 << 20))


def give_up(one: Household, other: Household) -> None:
    """One machine removes what the next backup of each would be built upon."""
    for each in (one, other):
        one.do("forget", "--allow-none", one.place, *each.trees)
        each.trees.clear()


@ASLEEP_AT
def test_a_backup_sleeps_while_another_machine_prunes(
    place: str, two: tuple[Household, Household], fast_path: Path
) -> None:
    """What a living lock protects stays; it wakes, goes on, and its point is whole."""
    one, other = two
    two_points(one, other)
    started = other.machine.start("backup", "--json", other.source, place)
    asleep_in(place, SHARED, started)
    give_up(one, other)
    code, output, errors = one.machine.run("prune", "--json", "--allow-none", "--wait", "0", place)
    assert code in {DONE, LOCKED}, (output, errors)
    started.wake()
    code, output, errors = started.wait()
    assert code == DONE, (output, errors)
    other.took(point_of(output))
    one.backup()
    one.do("prune", place)
    assert_nothing_lost(place, fast_path / "back", one, other)


@pytest.mark.parametrize("place", ["sftp"], indirect=True)
def test_a_backup_sleeps_so_long_that_its_lock_is_taken_for_left_behind(
    place: str, two: tuple[Household, Household], fast_path: Path
) -> None:
    """The prune goes over it; it wakes, and fails.

    A server of ibtfs knows by an flock that it is there, until it ends the connection; S3 stamps
    objects itself.
    """
    one, other = two
    two_points(one, other)
    started = other.machine.start("backup", "--json", other.source, place)
    name = asleep_in(place, SHARED, started)
    give_up(one, other)
    long_ago = time.time() - STALE_SECONDS - 60
    os.utime(fast_path / "repository" / layout.lock(name), (long_ago, long_ago))
    one.do("prune", "--allow-none", "--wait", "0", place)
    assert locks(place, SHARED) == []
    started.wake()
    code, output, errors = started.wait()
    assert code == LockLost.exit_code, (output, errors)
    assert "nothing is lost, run the command again" in json.loads(output)["error"]
    other.backup()
    one.backup()
    one.do("prune", place)
    assert_nothing_lost(place, fast_path / "back", one, other)


@ASLEEP_AT
def test_a_prune_sleeps_while_another_machine_backs_up(
    place: str, two: tuple[Household, Household], fast_path: Path
) -> None:
    one, other = two
    two_points(one, other)
    other.forget(next(iter(other.trees)))
    started = other.machine.start("prune", "--json", place)
    asleep_in(place, PRUNE, started)
    code, output, errors = one.machine.run("backup", "--json", one.source, place)
    if code == DONE:
        one.took(point_of(output))
    else:  # it went to sleep in the one moment in which nobody else may be at work
        assert code == LOCKED, (output, errors)
        assert locks(place, EXCLUSIVE)
    started.wake()
    code, output, errors = started.wait()
    assert code == DONE, (output, errors)
    one.backup()
    other.backup()
    assert_nothing_lost(place, fast_path / "back", one, other)
