"""Points of a machine that only writes: what a storage takes of them, or puts back, is told."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from ibtfs.actions.check import check
from ibtfs.actions.forget.tags import tag_points, untag_points
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.format.point import Point
from ibtfs.store.pins import Pins, Watch
from ibtfs.store.point_lists import newest_list, write_list
from tests.support import snapshot
from tests.support.repositories import damages, restored_tree, the_point
from tests.support.sealing import Client, create_sealed, open_sealed, put_back, saved
from tests.support.trees import make_tree
from tests.support.writers import Machine

NOW = datetime(2027, 1, 1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    create_sealed(tmp_path / "repo")
    return tmp_path / "repo"


@pytest.fixture
def machine(place: Path, tmp_path: Path) -> Machine:
    return Machine(place, tmp_path / "state", "laptop")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_tree(tmp_path / "source", {"small": b"x" * 7000, "large": os.urandom(300_000)})
    return tmp_path / "source"


def points_of(machine: Machine, source: Path, turns: int) -> list[Point]:
    """Points of which each has something that no other one has."""
    found = []
    for turn in range(turns):
        (source / "large").write_bytes(os.urandom(200_000 + turn))
        (source / f"more-{turn}").write_bytes(os.urandom(90_000))
        found.append(the_point(machine.back_up(source)))
    return found


def test_a_tag_that_the_owner_gave_and_took(machine: Machine, source: Path, place: Path) -> None:
    (point,) = points_of(machine, source, 1)
    tag_points(open_sealed(place), "quarterly", [point.id], NOW)
    for turn in range(3):
        saved(place)
        untag_points(open_sealed(place), "quarterly", [point.id], NOW)
        put_back(place, "tags")
        assert open_sealed(place).points.tags(point.id) == []
        assert len(os.listdir(place / "tags" / point.id)) == 1 + turn
        tag_points(open_sealed(place), "quarterly", [point.id], NOW)
        assert open_sealed(place).points.tags(point.id) == ["quarterly"]
        shutil.rmtree(place.with_name("saved"))
    prune(open_sealed(place), PruneOptions(), Observer())
    assert damages(open_sealed(place)) == []
    assert open_sealed(place).points.tags(point.id) == ["quarterly"]


def test_a_point_that_was_forgotten_and_comes_back(
    machine: Machine, source: Path, place: Path, tmp_path: Path
) -> None:
    client = Client(place, tmp_path / "client")
    one, two = points_of(machine, source, 2)
    assert client.look() == []
    saved(place)
    open_sealed(place).points.remove(one.id)
    write_list(open_sealed(place))
    assert client.look() == []
    put_back(place, "points")
    assert [one.id in told for told in client.look()] == [True]
    (place / "points" / one.id).unlink()
    (place / "points" / two.id).unlink()
    assert [two.id in told for told in client.look()] == [True]


def test_an_older_generation_of_its_archive(
    machine: Machine, source: Path, place: Path, tmp_path: Path
) -> None:
    client = Client(place, tmp_path / "client")
    *others, last = points_of(machine, source, 3)
    tree = snapshot(source)
    saved(place)
    open_sealed(place).points.remove(others[0].id)
    prune(open_sealed(place), PruneOptions(all_of_it=True), Observer())
    listed = newest_list(open_sealed(place)).found.generations
    assert {name.rpartition("/")[2] for name in listed} >= {"index"}
    assert client.look() == []
    put_back(place, f"archives/{next(iter(listed)).split('/')[1]}")
    told = check(open_sealed(place), read_data=False, observer=Observer()).damages
    assert any("an older state was put back" in one.message for one in told)
    # the machine does not see it, and goes on
    after = the_point(machine.back_up(source))
    client.accept()
    found = open_sealed(place)
    watch = Watch(Pins(os.fsencode(tmp_path / "client")), found, found.unlocked.number)
    assert watch.alarms() == []
    for point in (last, after):
        assert restored_tree(found, point, tmp_path / f"back-{point.id}") == tree
