"""Machines that only write: their backups are whole and small, and they can read nothing."""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.copy.run import CopyOptions, copy
from ibtfs.actions.forget.tags import tag_points
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.actions.purge.run import PurgeOptions, purge
from ibtfs.errors import FormatDamaged, IbtfsError, IntegrityError, UsageError, WrongKey
from ibtfs.format.index import Reference
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from tests.support import Entry, snapshot
from tests.support.repositories import damages, restored_tree, settle, the_point
from tests.support.sealing import create_sealed, open_sealed
from tests.support.trees import make_tree
from tests.support.writers import Machine, changes_of

RANDOM = random.Random(7)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    create_sealed(tmp_path / "repo")
    return tmp_path / "repo"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    make_tree(path, {
        "a": b"one\n" * 500, "sub": {"b": os.urandom(70_000), "c": b"c" * 10},
        "log": b"line\n" * 9000, "large": RANDOM.randbytes(6 << 20), "empty": b"",
    })  # fmt: skip
    return path


@pytest.fixture
def machine(place: Path, tmp_path: Path) -> Machine:
    return Machine(place, tmp_path / "state", "laptop")


def edited(source: Path, turn: int) -> None:
    with (source / "large").open("r+b") as file:
        file.seek(turn * 700_001)
        file.write(RANDOM.randbytes(3000))
    with (source / "log").open("ab") as file:
        file.write(b"more\n" * 100)
    (source / f"new-{turn}").write_bytes(RANDOM.randbytes(5000))
    if turn == 2:
        (source / "sub").rename(source / "moved")


def points_made(machine: Machine, source: Path, turns: int) -> dict[str, dict[bytes, Entry]]:
    trees = {}
    for turn in range(turns):
        edited(source, turn)
        trees[the_point(machine.back_up(source)).id] = snapshot(source)
    return trees


def require_whole(place: Path, trees: dict[str, dict[bytes, Entry]], scratch: Path) -> None:
    """That the owner finds these points, as they were."""
    repository = open_sealed(place)
    found = repository.points.all()
    assert {point.id for point in found.points} >= set(trees)
    for point in found.points:
        if point.id in trees:
            assert restored_tree(repository, point, scratch / point.id) == trees[point.id]


def test_backups_are_whole_incremental_and_the_owner_s(
    machine: Machine, source: Path, place: Path, tmp_path: Path
) -> None:
    trees = points_made(machine, source, 5)
    require_whole(place, trees, tmp_path)
    assert damages(open_sealed(place)) == []
    points = open_sealed(place).points.all().points
    assert [point.id for point in points] == list(trees)
    assert {point.source.host for point in points} == {"laptop"}
    assert {point.writer for point in points} == {machine.row.id}
    assert [point.full for point in points] == [True, False, False, False, False]
    stored = [point.statistics["bytes_stored"] for point in points]
    assert max(stored[1:]) < stored[0] / 20
    settle()
    machine.back_up(source)
    again = the_point(machine.back_up(source))
    assert again.statistics["bytes_stored"] < 4096
    assert again.statistics["bytes_read"] == 0


def test_it_reads_nothing(machine: Machine, source: Path, place: Path) -> None:
    """Neither others' points, nor rings and lists, nor its own contents, nor their names."""
    (source / "diagnosis").write_bytes(b"diagnosis " * 7)
    theirs = backup(open_sealed(place), os.fsencode(source), BackupOptions(host="desk"),
                    Observer()).point  # fmt: skip
    assert theirs is not None
    mine = the_point(machine.back_up(source))
    repository = machine.opened()
    assert [point.id for point in repository.points.all().points] == [mine.id]
    with pytest.raises(IntegrityError):
        repository.archive(theirs.state.archive).require_header()
    for number, record in repository.archive(mine.state.archive).contents():
        with pytest.raises(IntegrityError):
            Contents(repository).read(Reference(mine.state.archive, number), 0, record.size)
    for name in ("list", "damaged"):
        with pytest.raises(FormatDamaged, match="only writes"):
            repository.keys.frames(f"{name}/1", b"")
    kept = b"".join(path.read_bytes() for path in machine.folder.rglob("*") if path.is_file())
    known = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
    assert b"diagnosis " not in kept + known
    with pytest.raises(WrongKey):
        Repository.open(os.fsencode(place))


def test_what_it_keeps_is_closed_to_others_and_has_no_key(
    machine: Machine, source: Path, place: Path
) -> None:
    points_made(machine, source, 2)
    (folder,) = machine.folder.iterdir()
    for path in (folder, *folder.rglob("*")):
        assert not stat.S_IMODE(path.lstat().st_mode) & 0o077
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.parent.parent.name for path in files} == {"archives", folder.name}
    assert not any(path.name.startswith("data") for path in files)
    size = sum(path.stat().st_size for path in files)
    assert size < 200_000


def test_lost_state_means_a_full_backup_and_is_told(
    machine: Machine, source: Path, place: Path, tmp_path: Path
) -> None:
    trees = points_made(machine, source, 2)
    assert machine.notes == []
    shutil.rmtree(machine.folder)
    machine.folder.mkdir()
    edited(source, 3)
    result = machine.back_up(source)
    assert result.full
    assert ["not there any more: all is stored anew" in note for note in machine.notes] == [True]
    trees[the_point(result).id] = snapshot(source)
    assert not machine.back_up(source).full
    assert machine.notes == []
    require_whole(place, trees, tmp_path)
    assert [point.id for point in open_sealed(place).points.all().points][:3] == list(trees)
    assert damages(open_sealed(place)) == []


def test_what_changed_before_changes_by_little(
    machine: Machine, place: Path, tmp_path: Path
) -> None:
    """Of a large and a smaller file, edited, grown, and with something in between moved."""
    source = tmp_path / "source"
    large, middle = RANDOM.randbytes(6 << 20), RANDOM.randbytes(900_000)
    make_tree(source, {"large": large, "middle": middle, "small": b"s" * 2000})
    trees: dict[str, dict[bytes, Entry]] = {}
    stored: list[int] = []
    kept: list[int] = []
    for turn in range(5):
        point = the_point(machine.back_up(source))
        trees[point.id] = snapshot(source)
        stored.append(point.statistics["bytes_stored"])
        kept.append(sum(path.stat().st_size for path in machine.folder.rglob("sums-*")))
        at = 900_000 * (turn + 1)
        large = large[:at] + RANDOM.randbytes(100) + large[at + 60 :] + b"end"
        middle = RANDOM.randbytes(10) + middle[:500_000] + middle[510_000:]
        (source / "large").write_bytes(large)
        (source / "middle").write_bytes(middle)
        (source / "small").write_bytes(b"s" * 2000 + bytes((turn,)))
    assert stored[1] > 1 << 20  # slabs behind what was put in are others
    assert max(stored[2:]) < 40_000
    assert kept[0] == 0
    assert kept[-1] < kept[1] * 1.1 < 150_000
    require_whole(place, trees, tmp_path)
    assert damages(open_sealed(place)) == []
    for path in machine.folder.rglob("sums-*"):
        path.write_bytes(path.read_bytes()[:-5])
    trees[the_point(machine.back_up(source)).id] = snapshot(source)
    require_whole(place, trees, tmp_path / "again")


@pytest.mark.parametrize("kind", ["index.1", "sigs.1"])
def test_state_that_was_lost_in_part_or_spoilt(
    machine: Machine, source: Path, place: Path, tmp_path: Path, kind: str
) -> None:
    trees = points_made(machine, source, 3)
    kept = sorted(machine.folder.rglob(kind))
    for number, path in enumerate(kept):
        if number % 2:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1] + b"x")
    edited(source, 4)
    trees[the_point(machine.back_up(source)).id] = snapshot(source)
    require_whole(place, trees, tmp_path)
    assert damages(open_sealed(place)) == []


def test_what_the_owner_forgets_and_prunes_is_built_upon_no_more(
    machine: Machine, source: Path, place: Path, tmp_path: Path
) -> None:
    """And what is left is: the last point keeps what it needs in later generations."""
    trees = points_made(machine, source, 4)
    last = list(trees)[-1]
    owner = open_sealed(place)
    for point_id in [one for one in trees if one != last]:
        owner.points.remove(point_id)
        del trees[point_id]
    (source / "new-0").unlink()
    trees[the_point(machine.back_up(source)).id] = snapshot(source)
    owner = open_sealed(place)
    assert prune(owner, PruneOptions(), Observer()).freed > 0
    names = {path.name for path in place.rglob("*.2")}
    assert "index.2" in names
    require_whole(place, trees, tmp_path / "one")
    assert damages(open_sealed(place)) == []
    edited(source, 5)
    (source / "again").write_bytes((source / "large").read_bytes()[:4000])
    result = machine.back_up(source)
    assert not result.full
    trees[the_point(result).id] = snapshot(source)
    assert the_point(result).statistics["bytes_stored"] < 1 << 20
    require_whole(place, trees, tmp_path / "two")
    assert damages(open_sealed(place)) == []
    owner = open_sealed(place)
    for point_id in trees:
        owner.points.remove(point_id)
    prune(owner, PruneOptions(allow_none=True), Observer())
    result = machine.back_up(source)
    assert result.full
    kept = {path.parent.name for path in machine.folder.rglob("index.1")}
    assert kept <= set(os.listdir(place / "archives"))
    require_whole(place, {the_point(result).id: snapshot(source)}, tmp_path / "three")


def test_what_the_owner_has_built_upon_something_else_is_not_taken_for_lost(
    machine: Machine, place: Path, tmp_path: Path
) -> None:
    """A version of a large file whose base has gone: it is there, and is told no losses of."""
    source, large = tmp_path / "source", RANDOM.randbytes(5 << 20)
    make_tree(source, {"large": large, "small": b"s"})
    points = [the_point(machine.back_up(source))]
    for _ in range(2):
        (source / "large").write_bytes(large + RANDOM.randbytes(4000))
        settle()
        points.append(the_point(machine.back_up(source)))
    owner = open_sealed(place)
    owner.points.remove(points[1].id)
    assert not prune(owner, PruneOptions(all_of_it=True), Observer()).failed
    assert points[1].state.archive not in open_sealed(place).archive_ids()
    for turn in range(2):
        (source / "small").write_bytes(b"s" * (turn + 2))
        settle()
        last = the_point(machine.back_up(source))
        assert machine.notes == []
        assert last.statistics["bytes_stored"] < 20_000
    require_whole(place, {last.id: snapshot(source)}, tmp_path)
    assert damages(open_sealed(place)) == []


def test_contents_that_were_pruned_are_stored_again(
    machine: Machine, source: Path, place: Path, tmp_path: Path
) -> None:
    """Though the machine knew them: they are not offered from what has later generations."""
    once = RANDOM.randbytes(90_000)
    (source / "once").write_bytes(once)
    machine.back_up(source)
    (source / "once").unlink()
    (source / "other").write_bytes(b"1")
    machine.back_up(source)
    owner = open_sealed(place)
    owner.points.remove(owner.points.all().points[0].id)
    assert prune(owner, PruneOptions(all_of_it=True), Observer()).freed > 80_000
    (source / "back").write_bytes(once)
    made = {the_point(machine.back_up(source)).id: snapshot(source)}
    require_whole(place, made, tmp_path)
    assert damages(open_sealed(place)) == []


def test_the_owner_builds_upon_nothing_of_it(machine: Machine, source: Path, place: Path) -> None:
    """Not upon its points though they are of the same source, nor upon equal contents."""
    mine = the_point(machine.back_up(source))
    result = backup(open_sealed(place), os.fsencode(source), BackupOptions(host="laptop"),
                    Observer())  # fmt: skip
    point = the_point(result)
    assert result.full
    assert point.sequence > mine.sequence
    assert point.display == f"{mine.display}@laptop"
    assert point.statistics["bytes_stored"] > 6 << 20
    owner = open_sealed(place)
    assert set(owner.archive(point.state.archive).header.archives) == {point.state.archive}
    again = backup(owner, os.fsencode(source), BackupOptions(host="laptop"), Observer())
    assert not again.full
    other = the_point(machine.back_up(source))
    assert other.parent == mine.id
    assert damages(open_sealed(place)) == []


def test_two_machines_and_what_each_may(place: Path, source: Path, tmp_path: Path) -> None:
    one, other = (Machine(place, tmp_path / name, name) for name in ("laptop", "desk"))
    with pytest.raises(UsageError, match="There is such a machine already: laptop of laptop"):
        changes_of(place).add_writer("another", "laptop")
    trees = {the_point(m.back_up(source)).id: snapshot(source) for m in (one, other)}
    require_whole(place, trees, tmp_path)
    with pytest.raises(UsageError, match="backups of the host 'laptop' only"):
        one.back_up(source, host="desk")
    with pytest.raises(UsageError, match="cannot tag"):
        one.back_up(source, tags=("x",))
    repository = one.opened()
    tries: tuple[Callable[[], object], ...] = (
        lambda: repository.points.add_tag(next(iter(trees)), "x"),
        lambda: repository.remove(repository.archive_ids()[0]),
        lambda: repository.damage.add("0123456789abcdef", [Reference("a", 1)]),
    )
    for attempt in tries:
        with pytest.raises(IbtfsError, match=r"makes backups, and nothing else"):
            attempt()
    require_whole(place, trees, tmp_path / "again")


def test_one_that_was_revoked_makes_no_more_points(
    machine: Machine, source: Path, place: Path, tmp_path: Path
) -> None:
    trees = points_made(machine, source, 2)
    changes = changes_of(place)
    assert [(row.name, row.is_revoked) for row in changes.writers()] == [("laptop", False)]
    assert changes.revoke("laptop").is_revoked
    with pytest.raises(UsageError, match="no one key 'laptop'"):
        changes.revoke("laptop")
    machine.turn_deaf()
    late = the_point(machine.back_up(source))
    found = open_sealed(place).points.all()
    assert [point.id for point in found.points] == list(trees)
    assert "may write here no more" in str(found.damaged[late.id])
    require_whole(place, trees, tmp_path)
    again = Machine(place, tmp_path / "new", "laptop")  # the same host, by another file
    trees[the_point(again.back_up(source)).id] = snapshot(source)
    require_whole(place, trees, tmp_path / "again")
    changes_of(place).rotate()  # what is wrapped for a former master is read still
    edited(source, 1)
    trees[the_point(again.back_up(source)).id] = snapshot(source)
    require_whole(place, trees, tmp_path / "rotated")


def test_what_the_owner_does_to_its_points(
    machine: Machine, source: Path, place: Path, tmp_path: Path
) -> None:
    """They are tagged, purged and copied as all others are."""
    trees = points_made(machine, source, 2)
    owner = open_sealed(place)
    tag_points(owner, "kept", list(trees), datetime.now())
    assert [owner.points.tags(one) for one in trees] == [["kept"]] * 2
    target = create_sealed(tmp_path / "copy")
    copied = copy(owner, target, CopyOptions(), Observer())
    assert copied.is_all_well
    for point, tree in zip(target.points.all().points, trees.values(), strict=True):
        assert point.writer == machine.secrets.tag
        assert restored_tree(target, point, tmp_path / "copied" / point.id) == tree
    assert damages(target) == []
    purge(open_sealed(place), [b"log"], PurgeOptions(), Observer())
    assert damages(open_sealed(place)) == []
    for point in open_sealed(place).points.all().points:
        assert b"log" not in restored_tree(open_sealed(place), point, tmp_path / point.id)
    again = the_point(machine.back_up(source))
    require_whole(place, {again.id: snapshot(source)}, tmp_path / "again")
    assert damages(open_sealed(place)) == []


def test_a_run_beside_another_loses_nothing(
    machine: Machine, source: Path, place: Path, tmp_path: Path
) -> None:
    """What a run that has not ended keeps is not tidied up by one that begins."""
    points_made(machine, source, 1)
    (folder,) = machine.folder.iterdir()
    begun = folder / "archives/20261129T072334Z_0123456789.0"
    begun.mkdir()
    for name in ("index.1.0123456789abcdef.part", "sums-3"):
        (begun / name).write_bytes(b"1")
    machine.back_up(source)
    assert len(list(begun.iterdir())) == 2
    for path in begun.iterdir():
        os.utime(path, (1, 1))
    machine.back_up(source)
    assert not begun.exists()


def test_a_file_that_is_for_another_repository(machine: Machine, tmp_path: Path) -> None:
    create_sealed(tmp_path / "other")
    Repository.create(os.fsencode(tmp_path / "plain"), os.urandom(16))
    for name in ("other", "plain"):
        machine.place = tmp_path / name
        with pytest.raises(WrongKey, match="is not the repository that"):
            machine.opened()


def test_chains_end_though_no_payload_can_be_put_anew(
    machine: Machine, place: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibtfs.store.writing.flatten.DEPTH_BOUND", 2)
    trees = points_made(machine, source, 7)
    require_whole(place, trees, tmp_path)
    assert damages(open_sealed(place)) == []
