"""Points of a machine that only writes: what a storage takes of them, or puts back, is told."""

from __future__ import annotations

import os
import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from ibtfs.actions.check import check
from ibtfs.actions.forget.tags import tag_points, untag_points
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.errors import PointRefused, StorageFull, WrongKey
from ibtfs.format.point import Point
from ibtfs.store.pins import Pins, Watch
from ibtfs.store.point_lists import newest_list, write_list
from ibtfs.store.repository import Repository
from ibtfs.store.sealing import WriterUnlock
from ibtfs.store.storage.local import LocalStorage
from tests.support import snapshot
from tests.support.repositories import damages, restored_tree, the_point
from tests.support.sealing import Client, create_sealed, open_sealed, put_back, saved
from tests.support.trees import make_tree
from tests.support.writers import Machine, changes_of

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


def test_one_that_was_revoked_is_told_and_stores_nothing(
    machine: Machine, source: Path, place: Path, tmp_path: Path
) -> None:
    """By a name in the repository, which it knows when it sees it; nothing of it is read."""
    desk = Machine(place, tmp_path / "desk", "desk")
    points_of(machine, source, 1)
    changes_of(place).revoke("laptop")
    stored = sorted(path for path in place.rglob("*"))
    with pytest.raises(WrongKey, match=r"was revoked: .* do not count .* nothing was stored"):
        machine.back_up(source)
    assert sorted(path for path in place.rglob("*")) == stored
    points_of(desk, source, 1)
    again = Machine(place, tmp_path / "again", "laptop")  # let in again, by another file
    both = WriterUnlock([machine.file, again.file], os.fsencode(again.folder))
    found = Repository.open(os.fsencode(place), unlock=both).own
    assert found is not None
    assert found.tag == again.secrets.tag
    points_of(again, source, 1)
    (name,) = [path.name for path in (place / "keys").glob("revoked.*")]
    # it tells others neither which machine that is, nor anything of the keys
    assert machine.secrets.tag not in name
    assert not re.search(machine.secrets.revoked.hex()[:32], name)


def test_that_one_was_revoked_is_told_by_who_has_the_keys_alone(
    machine: Machine, source: Path, place: Path
) -> None:
    tag, known = machine.secrets.tag, machine.secrets.revoked.hex()
    for digits in (known[:32], known[32:], "0" * 32, f"{tag * 4}"):
        (place / "keys" / f"revoked.{digits}").write_bytes(b"")
    (place / "keys" / "revoked").write_bytes(b"")
    points_of(machine, source, 1)
    changes_of(place).revoke("laptop")
    saved(place)
    for path in (place / "keys").glob("revoked.*"):
        path.unlink()  # which a storage can do; the points do not count all the same
    late = the_point(machine.back_up(source))
    assert late.id in open_sealed(place).points.all().damaged
    changes_of(place).rotate()  # and whatever changes the keys next tells it again
    with pytest.raises(WrongKey, match="was revoked"):
        machine.back_up(source)


def test_a_full_disk_does_not_keep_one_from_being_revoked(
    machine: Machine, source: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_new = LocalStorage.put_new

    def refuse(storage: LocalStorage, name: str, data: bytes) -> None:
        if name.startswith("keys/revoked"):
            raise StorageFull(f"{name}: no space is left")
        put_new(storage, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "put_new", refuse)
        assert changes_of(place).revoke("laptop").is_revoked
    late = the_point(machine.back_up(source))
    assert late.id in open_sealed(place).points.all().damaged


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
    # the machine can do so, too, and is not to stop everybody
    assert client.look() == []
    found = open_sealed(place).points.all()
    assert [point.id for point in found.points] == [two.id]
    assert list(found.damaged) == [one.id]
    assert isinstance(found.damaged[one.id], PointRefused)
    assert "was removed, and was put there again" in str(found.damaged[one.id])
    prune(open_sealed(place), PruneOptions(), Observer())
    assert client.look() == []
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
