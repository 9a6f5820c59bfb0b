"""What a storage of a sealed repository takes away, or puts back, is told, and has no effect."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from blake3 import blake3

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.check import check
from ibtfs.actions.forget.run import Way, forget_named, undo
from ibtfs.actions.forget.tags import tag_points, untag_points
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.errors import (
    RepositoryError,
    StorageFull,
    UsageError,
)
from ibtfs.format.point import Point
from ibtfs.store.keyring import Keyring, Secret
from ibtfs.store.leftovers import remove_leftovers
from ibtfs.store.pins import Pins, Watch
from ibtfs.store.point_lists import newest_list, write_list
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalStorage
from tests.support import snapshot
from tests.support.repositories import Recorder, damages, restored_tree
from tests.support.sealing import (
    QUICK,
    Client,
    changes_of,
    create_sealed,
    open_sealed,
    put_back,
    saved,
)
from tests.support.trees import make_tree

NOW = datetime(2027, 1, 1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    make_tree(path, {
        "small": bytes(range(256)) * 40, "deep": {"smaller": b"x" * 70},
        "large": os.urandom(300_000), "pages": b"pages" * 30_000,
    })  # fmt: skip
    return path


def backed_up(repository: Repository, source: Path) -> Point:
    options = BackupOptions(host="host", tags=("quarterly",))
    result = backup(repository, os.fsencode(source), options, Observer())
    assert result.point is not None
    assert not result.tally.problems
    return result.point


def notes_of_check(place: Path) -> list[str]:
    heard = Recorder()
    assert check(open_sealed(place), read_data=True, observer=heard).damages == []
    return heard.notes


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create_sealed(tmp_path / "repo")


@pytest.fixture
def client(repository: Repository, tmp_path: Path) -> Client:
    return Client(tmp_path / "repo", tmp_path / "client")


def test_what_people_do_alarms_nobody(
    repository: Repository, source: Path, tmp_path: Path, client: Client
) -> None:
    other = Client(tmp_path / "repo", tmp_path / "other")
    for turn in range(3):
        (source / "large").write_bytes(os.urandom(100_000 + turn))
        backed_up(repository, source)
        assert client.look() == []
    repository.points.remove(repository.points.all().points[0].id)
    assert client.look() == other.look() == []
    prune(repository, PruneOptions(), Observer())
    assert client.look() == other.look() == []
    changes_of(tmp_path / "repo")[1].rotate()
    repository = open_sealed(tmp_path / "repo")
    repository.points.remove(repository.points.all().points[0].id)
    prune(repository, PruneOptions(), Observer())
    backed_up(repository, source)
    assert client.look() == other.look() == []


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_point_that_is_taken_away(
    repository: Repository, source: Path, tmp_path: Path, client: Client, is_listed: bool
) -> None:
    point = backed_up(repository, source)
    stranger = Client(tmp_path / "repo", tmp_path / "stranger")
    assert client.look() == []
    if is_listed:
        prune(repository, PruneOptions(), Observer())
    (tmp_path / "repo" / "points" / point.id).unlink()
    assert [alarm for alarm in client.look() if point.id in alarm and "missing" in alarm]
    # who was never here knows it if somebody wrote it down
    assert bool(stranger.look()) == is_listed
    client.accept()
    assert client.look() == []


def test_an_older_state_of_everything(
    repository: Repository, source: Path, tmp_path: Path, client: Client
) -> None:
    backed_up(repository, source)
    saved(tmp_path / "repo")
    backed_up(repository, source)
    assert client.look() == []
    put_back(tmp_path / "repo", "points", "archives", "tags", "lists")
    assert any("missing" in alarm for alarm in client.look())


def test_an_older_list(
    repository: Repository, source: Path, tmp_path: Path, client: Client
) -> None:
    backed_up(repository, source)
    prune(repository, PruneOptions(), Observer())
    saved(tmp_path / "repo")
    backed_up(repository, source)
    prune(repository, PruneOptions(), Observer())
    assert client.look() == []
    put_back(tmp_path / "repo", "lists")
    assert any("does not follow" in alarm for alarm in client.look())
    shutil.rmtree(tmp_path / "repo" / "lists")
    assert any("does not follow" in alarm for alarm in client.look())


def test_a_point_that_was_removed_and_comes_back(
    repository: Repository, source: Path, tmp_path: Path, client: Client
) -> None:
    point = backed_up(repository, source)
    backed_up(repository, source)
    saved(tmp_path / "repo")
    repository.points.remove(point.id)
    prune(repository, PruneOptions(), Observer())
    assert client.look() == []
    stranger = Client(tmp_path / "repo", tmp_path / "stranger")
    put_back(tmp_path / "repo", "points", "archives", "forgotten")
    for one in (client, stranger):
        assert any("are there again" in alarm and point.id in alarm for alarm in one.look())


def test_a_tag_that_was_taken_away_and_comes_back(
    repository: Repository, source: Path, tmp_path: Path
) -> None:
    """It would keep a point for ever, or give it another meaning; it says nothing then."""
    point = backed_up(repository, source)
    tags = tmp_path / "repo" / "tags" / point.id
    for turn in range(3):
        saved(tmp_path / "repo")
        repository = open_sealed(tmp_path / "repo")
        untag_points(repository, "quarterly", [point.id], NOW)
        assert repository.points.tags(point.id) == []
        put_back(tmp_path / "repo", "tags")
        assert len(os.listdir(tags)) == 1 + turn
        for found in (repository, open_sealed(tmp_path / "repo")):
            assert found.points.tags(point.id) == []
            assert found.points.tagged("quarterly") == frozenset()
        # given again, it is there, also for who looked before it was taken away
        tag_points(open_sealed(tmp_path / "repo"), "quarterly", [point.id], NOW)
        assert open_sealed(tmp_path / "repo").points.tags(point.id) == ["quarterly"]
        assert len(os.listdir(tags)) == 2 + turn
        shutil.rmtree(tmp_path / "saved")
    told = notes_of_check(tmp_path / "repo")
    assert ["is there again: it means nothing" in one for one in told] == [True] * 3
    prune(open_sealed(tmp_path / "repo"), PruneOptions(), Observer())
    assert notes_of_check(tmp_path / "repo") == []
    assert open_sealed(tmp_path / "repo").points.tags(point.id) == ["quarterly"]


def test_who_looked_before_a_tag_was_taken_gives_it_anew(
    repository: Repository, source: Path, tmp_path: Path
) -> None:
    point = backed_up(repository, source)
    early = open_sealed(tmp_path / "repo")
    assert early.points.tags(point.id) == ["quarterly"]
    untag_points(open_sealed(tmp_path / "repo"), "quarterly", [point.id], NOW)
    assert tag_points(early, "quarterly", [point.id], NOW).done
    assert open_sealed(tmp_path / "repo").points.tags(point.id) == ["quarterly"]


def test_two_who_write_lists_at_once_lose_nothing(
    repository: Repository, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (backed_up(repository, source) for _ in range(2))
    real = LocalStorage.put_new

    def meanwhile(storage: LocalStorage, name: str, data: bytes) -> None:
        if name.startswith("lists/"):
            monkeypatch.undo()
            other = open_sealed(tmp_path / "repo")
            untag_points(other, "quarterly", [first.id], NOW)
        real(storage, name, data)

    monkeypatch.setattr(LocalStorage, "put_new", meanwhile)
    found = open_sealed(tmp_path / "repo")
    untag_points(found, "quarterly", [second.id], NOW)
    assert len(os.listdir(tmp_path / "repo" / "lists")) == 2
    listed = newest_list(open_sealed(tmp_path / "repo"))
    assert set(listed.found.withdrawn) == {first.id, second.id}
    tag_points(open_sealed(tmp_path / "repo"), "x", [first.id], NOW)
    prune(open_sealed(tmp_path / "repo"), PruneOptions(), Observer())
    (name,) = os.listdir(tmp_path / "repo" / "lists")
    assert name.startswith("2.")
    after = newest_list(open_sealed(tmp_path / "repo")).found
    assert set(after.earlier) == set(listed.marks)
    assert set(after.withdrawn) == {first.id, second.id}


def test_a_note_that_was_withdrawn_explains_nothing(
    repository: Repository, source: Path, tmp_path: Path, client: Client
) -> None:
    """With it a storage could take a point away as if somebody had removed it."""
    point = backed_up(repository, source)
    repository.points.note_forgotten(point.id)
    saved(tmp_path / "repo")
    with pytest.raises(UsageError, match="No backup point of"):
        undo(repository, "", NOW, Way())  # which begins by looking, and takes nothing
    remove_leftovers_of(repository)
    assert client.look() == []
    put_back(tmp_path / "repo", "forgotten")
    assert os.listdir(tmp_path / "repo" / "forgotten")
    assert open_sealed(tmp_path / "repo").points.forgotten() == []
    assert "is there again" in notes_of_check(tmp_path / "repo")[0]
    (tmp_path / "repo" / "points" / point.id).unlink()
    assert any("missing" in alarm and point.id in alarm for alarm in client.look())


def test_a_point_is_forgotten_though_that_was_taken_back_before(
    repository: Repository, source: Path, tmp_path: Path, client: Client
) -> None:
    point = backed_up(repository, source)
    backed_up(repository, source)
    for _ in range(3):
        repository.points.note_forgotten(point.id)
        remove_leftovers_of(repository)
        assert repository.points.forgotten() == []
    forget_named(repository, [point.id], NOW, Way())
    assert repository.points.forgotten() == [point.id]
    assert client.look() == []
    prune(repository, PruneOptions(), Observer())
    assert client.look() == []


def test_who_takes_a_note_back_while_its_point_is_removed_takes_nothing_else(
    repository: Repository, source: Path, tmp_path: Path, client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    point = backed_up(repository, source)
    backed_up(repository, source)
    assert client.look() == []
    real = LocalStorage.delete

    def meanwhile(storage: LocalStorage, name: str) -> None:
        if name == f"points/{point.id}":
            monkeypatch.undo()
            remove_leftovers_of(open_sealed(tmp_path / "repo"))
        real(storage, name)

    monkeypatch.setattr(LocalStorage, "delete", meanwhile)
    repository.points.remove(point.id)
    assert newest_list(open_sealed(tmp_path / "repo")).found.withdrawn
    assert open_sealed(tmp_path / "repo").points.forgotten() == [point.id]
    assert client.look() == []


def remove_leftovers_of(repository: Repository) -> None:
    with repository.lock("shared") as lock:
        remove_leftovers(repository, lock)


def test_an_older_generation_of_one_archive(
    repository: Repository, source: Path, tmp_path: Path, client: Client
) -> None:
    """It is damage, until somebody takes it as it is."""
    for turn in range(3):
        (source / "large").write_bytes(os.urandom(200_000 + turn))
        (source / f"more-{turn}").write_bytes(os.urandom(90_000))
        last = backed_up(repository, source)
    saved(tmp_path / "repo")
    repository.points.remove(repository.points.all().points[0].id)
    prune(repository, PruneOptions(), Observer())
    listed = newest_list(repository).found
    assert {name.rpartition("/")[2] for name in listed.generations} == {"data", "index"}
    assert client.look() == []
    name = next(iter(listed.generations)).split("/")[1]
    put_back(tmp_path / "repo", f"archives/{name}")
    found = open_sealed(tmp_path / "repo")
    told = check(found, read_data=False, observer=Observer()).damages
    assert any("an older state was put back" in one.message for one in told)
    with pytest.raises(RepositoryError, match="an older state was put back"):
        prune(open_sealed(tmp_path / "repo"), PruneOptions(), Observer())
    write_list(open_sealed(tmp_path / "repo"))
    assert newest_list(open_sealed(tmp_path / "repo")).found.generations == listed.generations
    client.accept()
    found = open_sealed(tmp_path / "repo")
    watch = Watch(Pins(os.fsencode(tmp_path / "client")), found, found.unlocked.number)
    assert watch.alarms() == []
    assert restored_tree(found, last, tmp_path / "back") == snapshot(source)
    prune(found, PruneOptions(), Observer())
    assert damages(open_sealed(tmp_path / "repo")) == []


def test_older_keys(repository: Repository, source: Path, tmp_path: Path, client: Client) -> None:
    """A passphrase that was removed would open them."""
    saved(tmp_path / "repo")
    changes_of(tmp_path / "repo")[1].add(Secret("file", b"f" * 32), "", QUICK)
    assert client.look() == []
    put_back(tmp_path / "repo", "keys")
    assert any("older ones were put back" in alarm for alarm in client.look())
    found = Keyring(repository.storage, repository.id).rings()[0]
    assert {ring.number for ring in found.values()} == {1}


def test_a_change_of_keys_that_fails_has_changed_nothing(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user was told that it failed, and may have thrown the new key away."""
    _, changes = changes_of(tmp_path / "repo")
    real, puts = LocalStorage.put_new, []

    def full(storage: LocalStorage, name: str, data: bytes) -> None:
        puts.append(name)
        if name.startswith("keys/2.") and len(puts) > 1:
            raise StorageFull("no room")
        real(storage, name, data)

    monkeypatch.setattr(LocalStorage, "put_new", full)
    with pytest.raises(StorageFull):
        changes.exchange(Secret("passphrase", b"new"), QUICK)
    monkeypatch.undo()
    assert len([name for name in puts if name.startswith("keys/2.")]) == 2
    assert open_sealed(tmp_path / "repo").unlocked.number == 1


def renumbered(data: bytes, number: int) -> bytes:
    """A ring that says it has another number, with a checksum that is right."""
    data = data[:12] + number.to_bytes(4, "little") + data[16:-16]
    return data + blake3(data).digest(16)


def test_what_lies_beside_the_keys_locks_nobody_out(
    repository: Repository, source: Path, tmp_path: Path
) -> None:
    backed_up(repository, source)
    keys = tmp_path / "repo" / "keys"
    ring = next(keys.iterdir()).read_bytes()
    (keys / f"9.{'0' * 16}").write_bytes(renumbered(ring, 9))
    for number in range(100, 164):
        (keys / f"{number}.{'0' * 16}").write_bytes(b"")
    foreign = create_sealed(tmp_path / "foreign")
    for one in (Path(os.fsdecode(foreign.path)) / "keys").iterdir():
        (keys / f"1.{'0' * 16}").write_bytes(one.read_bytes())
    found = open_sealed(tmp_path / "repo")
    assert len(found.points.all().points) == 1
    with pytest.raises(Exception, match="newer keys and is damaged"):
        found.require_writable()


def test_a_made_up_list_has_no_true_one_deleted(
    repository: Repository, source: Path, tmp_path: Path, client: Client
) -> None:
    first = backed_up(repository, source)
    prune(repository, PruneOptions(), Observer())
    assert client.look() == []
    lists = tmp_path / "repo" / "lists"
    (lists / f"999999999.{'0' * 16}").write_bytes(b"junk")
    second = backed_up(repository, source)
    # it may be the newest, and say what was removed: a storage could have damaged it for that
    with pytest.raises(RepositoryError, match="nothing is written until"):
        prune(repository, PruneOptions(), Observer())
    assert ["999999999" in alarm for alarm in client.look()] == [True]
    client.accept()
    client.do(lambda found: prune(found, PruneOptions(), Observer()))
    assert client.look() == []
    numbers = sorted(int(path.name.partition(".")[0]) for path in lists.iterdir())
    assert numbers == [2, 999999999]
    assert newest_list(repository).found.points == {first.id, second.id}


def test_pruning_writes_nothing_off_that_is_only_missing(
    repository: Repository, source: Path, tmp_path: Path, client: Client
) -> None:
    first = backed_up(repository, source)
    backed_up(repository, source)
    prune(repository, PruneOptions(), Observer())
    (tmp_path / "repo" / "points" / first.id).unlink()
    write_list(repository)
    assert first.id in newest_list(repository).found.points
    stranger = Client(tmp_path / "repo", tmp_path / "stranger")
    assert stranger.look() != []


def test_a_long_command_takes_nothing_back_that_another_saw(
    repository: Repository, source: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pins"
    folder.mkdir()
    pins = Pins(os.fsencode(folder))
    long = open_sealed(tmp_path / "repo")
    watch = Watch(pins, long, 1)
    first = backed_up(repository, source)
    changes_of(tmp_path / "repo")[1].rotate()
    prune(open_sealed(tmp_path / "repo"), PruneOptions(), Observer())
    other = open_sealed(tmp_path / "repo")
    Watch(pins, other, other.unlocked.number).remember()
    watch.remember()
    pin = pins.read(repository.id)
    assert (pin.keys, pin.list_number, pin.points) == (2, 1, {first.id})


def test_a_point_that_came_back_on_purpose_alarms_nobody_once_accepted(
    repository: Repository, source: Path, tmp_path: Path, client: Client
) -> None:
    point = backed_up(repository, source)
    backed_up(repository, source)
    saved(tmp_path / "repo")
    repository.points.remove(point.id)
    prune(repository, PruneOptions(), Observer())
    assert client.look() == []
    put_back(tmp_path / "repo", "points", "archives")
    assert client.look() != []
    client.accept()
    assert client.look() == []
    client.do(lambda found: prune(found, PruneOptions(), Observer()))
    assert client.look() == []
    assert point.id in newest_list(repository).found.points
    assert Client(tmp_path / "repo", tmp_path / "stranger").look() == []


def test_what_was_accepted_and_is_removed_stays_removed(
    repository: Repository, source: Path, tmp_path: Path, client: Client
) -> None:
    point, last = backed_up(repository, source), backed_up(repository, source)
    saved(tmp_path / "repo")
    repository.points.remove(point.id)
    prune(repository, PruneOptions(), Observer())
    put_back(tmp_path / "repo", "points", "archives")
    client.accept()
    client.do(lambda found: forget_named(found, [point.id], NOW, Way()))
    for tag in ("x", "y"):
        client.do(lambda found: prune(found, PruneOptions(), Observer()))
        client.do(lambda found, tag=tag: tag_points(found, tag, [last.id], NOW))
        client.do(lambda found, tag=tag: untag_points(found, tag, [last.id], NOW))
    put_back(tmp_path / "repo", "points", "archives")
    assert [line for line in client.look() if point.id in line]


def test_no_name_is_too_odd(repository: Repository, tmp_path: Path) -> None:
    for folder in ("forgotten", "copied", "archives/20260101T000000Z_x_0123456789.0"):
        path = os.fsencode(tmp_path / "repo" / folder)
        os.makedirs(path, exist_ok=True)
        with open(path + b"/removed.\xff", "wb"):
            pass
    assert open_sealed(tmp_path / "repo").points.forgotten() == []
    prune(repository, PruneOptions(), Observer())
