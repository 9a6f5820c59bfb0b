"""What somebody puts beside the objects of a sealed repository, with a key of his own or without.

Who has taken over a machine that only writes makes its objects say what he likes, and who has the
storage puts what he likes; neither keeps the owner from his points, or from pruning.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.forget.choice import grouped
from ibtfs.actions.forget.run import Way, forget_refused
from ibtfs.actions.observer import Observer
from ibtfs.actions.protect import protect
from ibtfs.actions.prune.run import PruneOptions, PruneResult, prune
from ibtfs.actions.repair.run import RepairOptions, repair
from ibtfs.errors import PointDamaged, RepositoryError, UsageError
from ibtfs.format.compression import Codec
from ibtfs.format.frames import object_key
from ibtfs.format.objects import HEAD_SIZE
from ibtfs.format.point import DAY, Point, encode_point, made_seconds, most_sequence
from ibtfs.format.tables import TRAILER_SIZE, Trailer, encode_trailer
from ibtfs.sealing.writers import WriterKeys
from ibtfs.store import layout, manifest_copies
from ibtfs.store.archives.newest import TRIED
from ibtfs.store.naming import require_certain
from ibtfs.store.protection.sidecar import write_sidecar
from ibtfs.store.removal.bundling import Bounds
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.ssh.guard import Modes, may_commit
from tests.support.repositories import damages, restored, the_point
from tests.support.sealing import create_sealed, open_sealed, unlock
from tests.support.trees import make_tree
from tests.support.writers import Machine, changes_of

SECOND = "%Y%m%dT%H%M%SZ"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    create_sealed(tmp_path / "repo")
    return tmp_path / "repo"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_tree(tmp_path / "source", {"a": b"one\n" * 500, "large": os.urandom(200_000)})
    return tmp_path / "source"


@pytest.fixture
def machine(place: Path, tmp_path: Path) -> Machine:
    return Machine(place, tmp_path / "state", "laptop")


def owners(place: Path, source: Path, **options: Any) -> Point:
    """A point that the owner makes."""
    chosen = BackupOptions(**{"host": "desk", **options})
    return the_point(backup(open_sealed(place), os.fsencode(source), chosen, Observer()))


def pruned(place: Path, **options: Any) -> PruneResult:
    return prune(open_sealed(place), PruneOptions(**options), Observer())


def begun(machine: Machine) -> tuple[WriterKeys, str]:
    """Keys of the machine, and a run that it has begun."""
    keys = machine.keys()
    return keys, keys.begin_run(time.strftime(SECOND, time.gmtime()))


def put_point(place: Path, keys: WriterKeys, run: str, point: Point, **changes: Any) -> str:
    """Put *point* there as that of a *run*, with *changes*; its id."""
    second = made_seconds(run)
    assert second is not None
    changes = {"time_ns": second * 1_000_000_000, **changes}
    made = dataclasses.replace(point, id=run, parent="", suffix="", **changes)
    data = encode_point(made, f"points/{run}", keys, Codec(1))
    (place / "points" / run).write_bytes(data)
    return run


ENVELOPES = {
    "mode": b"\x09\x01" + bytes(8), "suite": b"\x02\x07" + bytes(1176),
    "size": b"\x02\x01" + bytes(300), "no suite": b"\x01",
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(ENVELOPES))
def test_an_envelope_that_is_not_known_is_damage_of_its_object(
    place: Path, source: Path, machine: Machine, kind: str
) -> None:
    """Not a repository for a newer ibtfs: anybody can put it there."""
    made, envelope = owners(place, source), ENVELOPES[kind]
    machine.back_up(source)
    manifest = next(p for p in (place / "points").iterdir() if p.name != made.id)
    data = bytearray(manifest.read_bytes())
    old = int.from_bytes(data[12:14], "little")
    head = bytes(data[:12]) + len(envelope).to_bytes(2, "little") + bytes(data[14:20])
    _, run = begun(machine)
    forged = place / "points" / run
    forged.write_bytes(checked(head) + envelope + bytes(data[HEAD_SIZE + old :]))
    assert may_commit(forged.read_bytes(), f"points/{run}", b"", Modes(), time.time())
    assert list(open_sealed(place).points.all().damaged) == [run]
    assert len(damages(open_sealed(place))) == 1
    later = owners(place, source)
    forged.unlink()
    index = place / "archives" / made.state.archive / "index"
    put_file(place, index, envelope)
    for point in (made, later):
        restored(open_sealed(place), point, place.parent / point.id)
    assert not pruned(place).failed
    assert damages(open_sealed(place)) == []


def checked(head: bytes) -> bytes:
    """The head of a small object, with its checksum."""
    return head + blake3(head).digest(4)


def put_file(place: Path, path: Path, envelope: bytes) -> None:
    """A second generation of an archive's file: right, as far as who has no key can make it."""
    repository = open_sealed(place)
    name, table = str(path.relative_to(place)), os.urandom(100)
    trailer = Trailer(len(envelope), len(table), len(envelope))
    end = encode_trailer(object_key(repository.id, name), repository.id, trailer)
    path.with_name(f"{path.name}.2").write_bytes(envelope + table + end)


def test_a_version_that_nobody_sealed_is_damage_of_its_object(place: Path, source: Path) -> None:
    """Of a manifest, and of a file of an archive."""
    made = owners(place, source)
    manifest = (place / "points" / made.id).read_bytes()
    head = manifest[:8] + b"\x09\x00" + manifest[10:20]
    forged = place / "points" / f"{made.id[:-4]}0123"
    forged.write_bytes(checked(head) + manifest[HEAD_SIZE:])
    assert "upgrade ibtfs, or it is damaged" in str(open_sealed(place).points.all().damaged)
    forged.unlink()
    path = place / "archives" / made.state.archive / "index.1"
    repository, data = open_sealed(place), bytearray(path.read_bytes())
    data[-TRAILER_SIZE + 8] = 9
    key = object_key(repository.id, f"archives/{made.state.archive}/index")
    path.with_name("index.2").write_bytes(with_checksum(bytes(data), key))
    assert open_sealed(place).archive(made.state.archive).generation == 1
    assert not pruned(place).failed
    path.unlink()
    assert damages(open_sealed(place))


def with_checksum(data: bytes, key: bytes) -> bytes:
    """A file whose trailer was changed, with the checksum that it must have then."""
    trailer = data[-TRAILER_SIZE:-16]
    return data[:-16] + blake3(trailer, key=key).digest(16)


def test_a_server_for_one_host_takes_what_only_a_machine_of_that_kind_makes(
    place: Path, source: Path, machine: Machine
) -> None:
    """Whose host the owner has said; of others it is not seen."""
    ours = owners(place, source)
    theirs = the_point(machine.back_up(source))
    modes = Modes(append_only=True, host="laptop")
    for point, word in ((ours, "that is not seen"), (theirs, "")):
        data = (place / "points" / point.id).read_bytes()
        told = may_commit(data, f"points/{point.id}", b"", modes, time.time())
        assert word in told
        assert bool(told) == bool(word)


NUMBERS = ["2", "3", "1000000", "1000001", "999999999999999999"]


@pytest.mark.parametrize("number", NUMBERS)
def test_junk_of_any_generation_costs_no_point_its_contents(
    place: Path, source: Path, number: str
) -> None:
    """Of an index upon which something is built that goes: prune looks at what is really read."""
    random = os.urandom(3 << 20)
    (source / "large").write_bytes(random)
    first = owners(place, source)
    (source / "large").write_bytes(
        random[: 1 << 20] + os.urandom(3000) + random[(1 << 20) + 3000 :]
    )
    second = owners(place, source)
    for point in (first, second):
        (place / "archives" / point.state.archive / f"index.{number}").write_bytes(b"junk")
    (place / "archives" / first.state.archive / f"data.{number}").write_bytes(b"junk")
    open_sealed(place).points.remove(first.id)
    for _ in range(2):
        result = pruned(place, all_of_it=True)
        assert not result.failed
        assert damages(open_sealed(place)) == []
        restored(open_sealed(place), second, place.parent / os.urandom(4).hex())
    assert result.rewritten == 0, "it came to an end"


def test_more_junk_than_is_looked_at_keeps_an_archive_as_it_is(place: Path, source: Path) -> None:
    made = owners(place, source)
    folder = place / "archives" / made.state.archive
    for number in range(2, TRIED + 2):
        (folder / f"data.{number}").write_bytes(b"junk")
    assert damages(open_sealed(place))
    pruned(place)
    assert (folder / "data.1").exists()
    for number in range(2, TRIED + 2):
        (folder / f"data.{number}").unlink()
    assert damages(open_sealed(place)) == []


def test_junk_beside_a_bundle_is_not_what_counts_of_it(place: Path, source: Path) -> None:
    """Else the true file would be dead, and go when the bundle is written anew."""
    bounds = Bounds(least=2, age=0)
    points = []
    for turn in range(4):
        (source / "a").write_bytes(b"%d" % turn * 100)
        points.append(owners(place, source))
    repository = open_sealed(place)
    assert pruned(place, bundles=bounds).bundled == 3
    bundled = repository.storage.bundles.archives()
    for archive_id in open_sealed(place).storage.bundles.archives():
        (place / "archives" / archive_id).mkdir(exist_ok=True)
        (place / "archives" / archive_id / "index.2").write_bytes(b"junk")
    assert bundled is not None
    for options in ({}, {"all_of_it": True}):
        pruned(place, bundles=bounds, **options)
        assert damages(open_sealed(place)) == []
        for point in points:
            restored(open_sealed(place), point, place.parent / os.urandom(4).hex())


@pytest.mark.parametrize("kind", ["revoked", "junk", "header"])
def test_a_manifest_under_the_id_of_a_machine_stops_nothing_of_others(
    place: Path, source: Path, machine: Machine, kind: str
) -> None:
    """It can need what its machine has made, which stays, and nothing else."""
    gone, last = owners(place, source), owners(place, source)
    kept = the_point(machine.back_up(source))
    if kind == "revoked":
        changes_of(place).revoke("laptop")
        machine.turn_deaf()
        made = the_point(machine.back_up(source)).id
    elif kind == "junk":
        _, made = begun(machine)
        (place / "points" / made).write_bytes(b"junk")
    else:
        keys, run = begun(machine)
        state = kept.state._replace(archive=f"{run}.0")
        made = put_point(place, keys, run, kept, sequence=kept.sequence + 1, state=state)
        folder = place / "archives" / f"{run}.0"
        folder.mkdir()
        (folder / "index.1").write_bytes(b"junk")
    listed = open_sealed(place).points.all()
    assert list(listed.damaged) == ([] if kind == "header" else [made])
    now = datetime.now()
    require_certain(last, "source/latest", listed.points, listed.damaged, now)
    if kind != "header":
        with pytest.raises(PointDamaged):
            require_certain(kept, "source/latest", listed.points, listed.damaged, now)
    open_sealed(place).points.remove(gone.id)
    open_sealed(place).points.remove(kept.id)
    result = pruned(place)
    assert bool(result.failed) == (kind == "header")
    assert any(made in told for told in result.damages)
    assert (place / "archives" / kept.state.archive / "index.1").exists()
    restored(open_sealed(place), last, place.parent / "back")
    open_sealed(place).points.remove(made)
    if kind != "header":  # what cannot be read stays
        assert not pruned(place).damages
        assert not list((place / "archives").glob(f"*{machine.secrets.tag}.*/index.*"))


def test_a_point_is_of_the_time_of_its_id_and_is_not_the_last_for_ever(
    place: Path, source: Path, machine: Machine
) -> None:
    """Else forged ones would take the places of true days, or come before all others."""
    kept = the_point(machine.back_up(source))
    second = made_seconds(kept.id)
    assert second is not None
    assert kept.time_ns // 1_000_000_000 == second
    for changes in (
        {"time_ns": (second - 9 * DAY) * 1_000_000_000},
        {"time_ns": (second + DAY) * 1_000_000_000},
        {"sequence": most_sequence(second + 60)}, {"epoch": second + DAY + 60},
    ):  # fmt: skip
        keys, run = begun(machine)
        made = put_point(place, keys, run, kept, **changes)
        assert made in open_sealed(place).points.all().damaged
    keys, run = begun(machine)
    made = put_point(place, keys, run, kept, sequence=most_sequence(second))
    assert made in {point.id for point in open_sealed(place).points.all().points}
    last = owners(place, source, host="laptop")
    assert last.sequence > most_sequence(second)


def test_points_of_a_machine_are_judged_by_themselves(
    place: Path, source: Path, machine: Machine
) -> None:
    """Whatever they say of themselves, and whatever points are grouped by."""
    ours = owners(place, source)
    theirs = the_point(machine.back_up(source))
    points = open_sealed(place).points.all().points
    for words in ((), ("path",), ("name",), ("tags",), ("host", "path")):
        groups = grouped(points, {}, words)
        assert [[point.id for point in group] for group in groups.values()] == [
            [ours.id], [theirs.id],
        ]  # fmt: skip


def test_a_clock_that_was_ahead_spoils_nothing(
    place: Path, source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: now + 30 * DAY * 1_000_000_000)
        ahead = the_point(machine.back_up(source))
    after = the_point(machine.back_up(source))
    assert ahead.sequence > after.sequence
    assert {p.id for p in open_sealed(place).points.all().points} == {ahead.id, after.id}


def test_what_was_accepted_is_the_manifest_and_not_its_id(
    place: Path, source: Path, machine: Machine
) -> None:
    """A machine that kept the key of a run could say something else under an accepted id."""
    kept = the_point(machine.back_up(source))
    keys, run = begun(machine)
    put_point(place, keys, run, kept, comment="as the owner saw it")
    changes_of(place).revoke("laptop")
    assert run in {point.id for point in open_sealed(place).points.all().points}
    put_point(place, keys, run, kept, comment="and what it says now")
    assert "may write here no more" in str(open_sealed(place).points.all().damaged[run])


def test_a_machine_can_be_revoked_from_a_time_on_or_as_a_whole(
    place: Path, source: Path, machine: Machine
) -> None:
    """However many points it has put there."""
    kept = the_point(machine.back_up(source))
    second = made_seconds(kept.id)
    assert second is not None
    keys = machine.keys()
    later = keys.begin_run(time.strftime(SECOND, time.gmtime(second + 3600)))
    put_point(place, keys, later, kept)
    shutil.copytree(place, place.parent / "before")
    changes_of(place).revoke("laptop", (second + 60) * 1_000_000_000)
    found = open_sealed(place).points.all()
    assert ([point.id for point in found.points], list(found.damaged)) == ([kept.id], [later])
    changes_of(place.parent / "before").revoke("laptop", 0)
    assert open_sealed(place.parent / "before").points.all().points == []


def test_points_that_say_they_are_older_than_they_are_are_told(
    place: Path, source: Path, machine: Machine
) -> None:
    """They count, for the times of files may be those of a copy."""
    kept = the_point(machine.back_up(source))
    os.utime(place / "points" / kept.id, (1, time.time() - 9 * DAY))
    keys, until = machine.keys(), time.time() - 5 * DAY
    old = keys.begin_run(time.strftime(SECOND, time.gmtime(until - DAY)))
    put_point(place, keys, old, kept, sequence=1)
    true = keys.begin_run(time.strftime(SECOND, time.gmtime(until - 2 * DAY)))
    put_point(place, keys, true, kept, sequence=2)
    os.utime(place / "points" / true, (1, until - DAY))
    changes = changes_of(place)
    changes.revoke("laptop", int(until) * 1_000_000_000)
    assert changes.late == [old]
    assert {point.id for point in open_sealed(place).points.all().points} == {old, true}


def test_a_point_that_cannot_be_read_now_is_not_given_up_by_a_revocation(
    place: Path, source: Path, machine: Machine
) -> None:
    """A storage could keep back what was listed, and it would count no more for ever."""
    kept = the_point(machine.back_up(source))
    owners(place, source)
    pruned(place)
    path = place / "points" / kept.id
    data = path.read_bytes()
    for change in (path.unlink, lambda: path.write_bytes(b"junk")):
        change()
        with pytest.raises(RepositoryError, match="cannot be read, and would never count again"):
            changes_of(place).revoke("laptop")
        path.write_bytes(data)
    changes_of(place).revoke("laptop")
    assert kept.id in {point.id for point in open_sealed(place).points.all().points}


def test_copies_of_manifests_hold_for_the_machines_that_were_believed(
    place: Path, source: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that was opened before goes on, and writes them."""
    monkeypatch.setattr(manifest_copies, "LEAST", 0)
    monkeypatch.setattr(manifest_copies, "UNKNOWN_BORNE", 0)
    (tmp_path / "cache").mkdir()
    cache = os.fsencode(tmp_path / "cache")
    machine.back_up(source)
    opened = Repository.open(os.fsencode(place), unlock=unlock(), cache_folder=cache)
    changes_of(place).revoke("laptop")
    machine.turn_deaf()
    late = the_point(machine.back_up(source))
    assert late.id in {point.id for point in opened.points.all().points}
    opened.points.remember()
    again = Repository.open(os.fsencode(place), unlock=unlock(), cache_folder=cache)
    assert late.id in again.points.all().damaged


def test_words_that_mean_a_key_and_a_machine_change_neither(place: Path, machine: Machine) -> None:
    changes = changes_of(place)
    ids = [slot.id for slot in changes.slots()]
    with pytest.raises(UsageError):
        changes.revoke("")
    for one in "0123456789abcdef":
        if machine.row.id.startswith(one) and any(slot.startswith(one) for slot in ids):
            with pytest.raises(UsageError):
                changes.revoke(one)
            with pytest.raises(UsageError, match="also means a machine"):
                changes.remove(one)


def test_what_is_refused_is_removed_and_not_what_is_damaged(
    place: Path, source: Path, machine: Machine
) -> None:
    """Of another machine, or of the same one, as far as the list of points knows it."""
    kept, ours = the_point(machine.back_up(source)), owners(place, source)
    desk = Machine(place, place.parent / "desk", "desk-2")
    theirs = the_point(desk.back_up(source))
    pruned(place)
    keys, late = begun(machine)
    put_point(place, keys, late, kept)
    changes_of(place).revoke("laptop", 0)
    _, junk = begun(desk)
    (place / "points" / junk).write_bytes(b"junk")
    path = place / "points" / theirs.id
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes((data[200] ^ 1,)) + data[201:])
    for way in (Way(dry_run=True), Way()):
        forgotten = forget_refused(open_sealed(place), way)
        assert set(forgotten.gone) == {kept.id, late, junk}
        assert "it was a point once" in str(forgotten.refused[theirs.id])
    path.write_bytes(data)
    found = open_sealed(place).points.all()
    assert ({point.id for point in found.points}, found.damaged) == ({ours.id, theirs.id}, {})


@pytest.mark.parametrize("what", ["data.1", "index.1", "another"])
def test_parity_that_somebody_made_up_heals_nothing(
    place: Path, source: Path, machine: Machine, what: str
) -> None:
    """No key is needed to make it, only the right to put something beside an archive."""
    point = owners(place, source)
    machine.back_up(source)
    folder = f"archives/{point.state.archive}"
    name = layout.parity(f"{folder}/{'data.1' if what == 'another' else what}", 100)
    victims = [f"{folder}/index.1", f"points/{point.id}"] if what == "another" else [
        f"{folder}/{what}"]  # fmt: skip
    forged = place.parent / "forged"
    for victim in (*victims, name):
        (forged / victim).parent.mkdir(parents=True, exist_ok=True)
    for victim in victims:
        (forged / victim).write_bytes(os.urandom((place / victim).stat().st_size))
    write_sidecar(LocalStorage(os.fsencode(forged)), open_sealed(place).id, name, victims, 100)
    shutil.copy(forged / name, place / name)
    kept = {victim: (place / victim).read_bytes() for victim in victims}
    repair(open_sealed(place), RepairOptions(), Observer())
    assert {victim: (place / victim).read_bytes() for victim in victims} == kept
    assert not (place / name).exists()
    if what != "another":  # and what is damaged is not made worse
        shutil.copy(forged / name, place / name)
        (victim,) = victims
        (place / victim).write_bytes(kept[victim][:-1] + b"x")
        repair(open_sealed(place), RepairOptions(), Observer())
        assert (place / victim).read_bytes() == kept[victim][:-1] + b"x"
        (place / victim).write_bytes(kept[victim])
        (place / name).unlink(missing_ok=True)
    assert damages(open_sealed(place)) == []


def test_parity_of_what_is_sealed_heals(place: Path, source: Path, machine: Machine) -> None:
    """Also of what a machine has made, and of manifests."""
    points = [owners(place, source), the_point(machine.back_up(source))]
    assert not protect(open_sealed(place), 20, Observer()).kept.failed
    for point in points:
        for path in (
            place / "archives" / point.state.archive / "data.1",
            place / "points" / point.id,
        ):
            data = path.read_bytes()
            at = len(data) // 2
            path.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
            repair(open_sealed(place), RepairOptions(), Observer())
            assert path.read_bytes() == data
    assert damages(open_sealed(place)) == []
