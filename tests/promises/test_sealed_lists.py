"""What lists of a sealed repository say holds, whoever writes them at once, or is cut off."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from ibtfs.actions.check import check
from ibtfs.actions.copy.run import CopyOptions, copy
from ibtfs.actions.copy.survey import Choice
from ibtfs.actions.forget.policy import Policy
from ibtfs.actions.forget.run import Rules, Way, forget_by_rules, forget_named
from ibtfs.actions.forget.tags import tag_points, untag_points
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.actions.repair.run import RepairOptions, repair
from ibtfs.errors import LimitExceeded, RepositoryError, StorageFailed, StorageFull
from ibtfs.format.objects import signed_part
from ibtfs.store import listed, taking
from ibtfs.store.point_lists import newest_list, write_list
from ibtfs.store.points import Points
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalStorage
from tests.support.crashing import cut_at_each_step
from tests.support.repositories import back_up, create, damages, reopened, the_point
from tests.support.sealing import Client, create_sealed, open_sealed, put_back, saved

NOW = datetime(2027, 1, 1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    create_sealed(tmp_path / "repo")
    (tmp_path / "source").mkdir()
    return tmp_path / "repo"


@pytest.fixture
def client(place: Path) -> Client:
    return Client(place, place.with_name("client"))


def point(place: Path, *tags: str) -> str:
    """The id of a new point with some *tags*."""
    source = place.with_name("source")
    (source / "file").write_bytes(os.urandom(3000))
    (source / "large").write_bytes(os.urandom(120_000))
    point_id = the_point(back_up(open_sealed(place), source)).id
    for tag in tags:
        tag_points(open_sealed(place), tag, [point_id], NOW)
    return point_id


def tags_of(place: Path, point_id: str) -> list[str]:
    return open_sealed(place).points.tags(point_id)


def add(place: Path, tag: str, point_id: str) -> None:
    tag_points(open_sealed(place), tag, [point_id], NOW)


def take(place: Path, tag: str, point_id: str) -> None:
    untag_points(open_sealed(place), tag, [point_id], NOW)


def freed(repository: Repository) -> None:
    assert prune(repository, PruneOptions(allow_none=True), Observer()).failed == []


def forgotten(repository: Repository, point_id: str) -> None:
    assert not forget_named(repository, [point_id], NOW, Way(allow_none=True)).refused


# What is not authentic


def with_other_end(place: Path) -> tuple[Path, bytes]:
    """The newest list, with a byte of what brings it to its size changed."""
    while True:
        point(place)
        freed(open_sealed(place))
        (path,) = (place / "lists").iterdir()
        data = path.read_bytes()
        if len(data) > len(signed_part(data, path.name)):
            return path, data[:-1] + bytes((data[-1] ^ 1,))


def test_the_end_of_a_list_that_means_nothing_says_nothing(place: Path, client: Client) -> None:
    first, changed_first = with_other_end(place)
    assert client.look() == []
    newest, changed = with_other_end(place)
    assert newest != first
    assert client.look() == []
    newest.write_bytes(changed)
    assert client.look() == []
    # an earlier one is known by what follows it, whatever it ends with
    first.write_bytes(changed_first)
    assert len(newest_list(open_sealed(place)).marks) == 1
    assert client.look() == []


# Several at once


def test_who_looked_early_loses_no_tag_that_was_given_again(place: Path) -> None:
    """A point that was to be kept would be removed, or its tag be dropped as one that came back."""
    first, _ = point(place, "keep", "old"), point(place)
    take(place, "old", first)
    early = open_sealed(place)
    assert sorted(early.points.tags(first)) == ["keep"]
    take(place, "keep", first)
    add(place, "keep", first)
    rules = Rules(Policy(last=1, tags=frozenset({"keep"})))
    assert forget_by_rules(early, rules, 1 << 62, Way()).gone == []
    taking.drop_put_back(early)
    freed(early)
    assert tags_of(place, first) == ["keep"]


def test_a_tag_that_is_taken_while_it_is_given(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was told that the point has it finds it there."""
    one, real = point(place), Points.add_tag

    def meanwhile(points: Points, point_id: str, tag: str) -> None:
        monkeypatch.undo()
        add(place, tag, one)
        take(place, tag, one)
        real(points, point_id, tag)

    adding = open_sealed(place)
    monkeypatch.setattr(Points, "add_tag", meanwhile)
    assert tag_points(adding, "keep", [one], NOW).done
    assert tags_of(place, one) == ["keep"]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_is_noted_while_others_take_it_back_counts(
    place: Path, client: Client, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Also if he who noted it is killed as soon as the point is gone."""
    first, _ = point(place), point(place)
    late, other, real = open_sealed(place), open_sealed(place), LocalStorage.delete
    assert late.points.forgotten() == []
    other.points.note_forgotten(first)

    def taken_back(*_: str) -> bool:
        monkeypatch.undo()
        other.points.withdraw_note(first)
        taking.withdraw_notes(other)
        assert client.look() == []
        return True

    def killed(storage: LocalStorage, name: str) -> None:
        real(storage, name)
        if name == f"points/{first}":
            raise KeyboardInterrupt

    if when == "before":
        taken_back()
    else:
        monkeypatch.setattr(late.points, "note_forgotten", taken_back)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStorage, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            forgotten(late, first)
    assert open_sealed(place).points.forgotten() == [first]
    assert client.look() == []


def test_what_is_taken_is_what_was_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two take a tag, and a third one gives it again between them."""
    one, real = point(place, "keep"), taking.write
    late = open_sealed(place)

    def meanwhile(*args: object) -> object:
        monkeypatch.undo()
        take(place, "keep", one)
        add(place, "keep", one)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(taking, "write", meanwhile)
    untag_points(late, "keep", [one], NOW)
    assert tags_of(place, one) == ["keep"]


def test_a_tag_is_given_and_taken_however_often(place: Path) -> None:
    one = point(place)
    for _ in range(17):
        add(place, "turn", one)
        assert tags_of(place, one) == ["turn"]
        take(place, "turn", one)
        assert tags_of(place, one) == []


def test_a_list_that_comes_late_is_not_lost(
    place: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others list what they do twice, just before one is put that follows none of theirs."""
    one = point(place, "first", "second", "third")
    real = LocalStorage.put_new

    def meanwhile(storage: LocalStorage, name: str, data: bytes) -> None:
        is_list = name.startswith("lists/")
        if is_list:
            monkeypatch.undo()
            take(place, "second", one)
            take(place, "third", one)
            assert client.look() == []
        real(storage, name, data)
        if is_list:
            raise KeyboardInterrupt

    monkeypatch.setattr(LocalStorage, "put_new", meanwhile)
    with pytest.raises(KeyboardInterrupt):
        take(place, "first", one)
    assert sorted(name[:2] for name in os.listdir(place / "lists")) == ["1.", "2."]
    assert tags_of(place, one) == []  # both lists count
    assert client.look() == []
    add(place, "third", one)
    take(place, "third", one)
    assert client.look() == []
    assert [name[:2] for name in os.listdir(place / "lists")] == ["3."]
    assert tags_of(place, one) == []


def test_of_two_lists_one_says_that_a_point_went(place: Path, client: Client) -> None:
    first, second = point(place, "tag"), point(place)
    freed(open_sealed(place))
    shutil.copytree(place / "lists", place.with_name("both"))
    take(place, "tag", first)
    beside = os.listdir(place / "lists")
    shutil.copytree(place / "lists", place.with_name("both"), dirs_exist_ok=True)
    shutil.rmtree(place / "lists")
    shutil.copytree(place.with_name("both"), place / "lists")
    (place / "lists" / beside[0]).unlink()
    forgotten(open_sealed(place), second)
    freed(open_sealed(place))
    shutil.copy(place.with_name("both") / beside[0], place / "lists")
    found = newest_list(open_sealed(place))
    assert len(found.marks) == 2
    assert found.found.points == {first}
    assert client.look() == []


def test_of_two_lists_the_one_that_is_taken_away_is_missed(place: Path, client: Client) -> None:
    one = point(place, "first", "second")
    saved(place)
    take(place, "first", one)
    (name,) = os.listdir(place / "lists")
    beside = place.with_name("beside")
    (place / "lists" / name).rename(beside)
    take(place, "second", one)
    beside.rename(place / "lists" / name)
    assert client.look() == []
    assert tags_of(place, one) == []
    for other in os.listdir(place / "lists"):
        (place / "lists" / other).rename(beside)
        assert ["does not follow" in alarm for alarm in client.look()] == [True]
        beside.rename(place / "lists" / other)
    assert client.look() == []


# What cannot be read, or written


def test_a_list_that_cannot_be_read_now_is_not_taken_for_none(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = point(place, "first", "second")
    take(place, "first", one)
    (name,) = os.listdir(place / "lists")
    opened, real = open_sealed(place), LocalStorage.open

    def failing(storage: LocalStorage, wanted: str) -> object:
        if wanted == f"lists/{name}":
            raise StorageFailed(f"{wanted}: timed out")
        return real(storage, wanted)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "open", failing)
        with pytest.raises(StorageFailed, match="timed out"):
            untag_points(opened, "second", [one], NOW)
    assert os.listdir(place / "lists") == [name]
    assert tags_of(place, one) == ["second"]


def test_a_list_that_goes_while_it_is_looked_for_is_no_alarm(
    place: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = point(place, "first", "second")
    take(place, "first", one)
    assert client.look() == []
    real = listed.whole

    def meanwhile(*args: object) -> bytes:
        monkeypatch.undo()
        take(place, "second", one)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(listed, "whole", meanwhile)
    assert client.look() == []


def test_a_damaged_list_is_told_to_who_was_never_here(place: Path, client: Client) -> None:
    one = point(place, "first", "second")
    saved(place)
    take(place, "first", one)
    (path,) = (place / "lists").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    put_back(place, "tags")
    (alarm,) = client.look()
    assert path.name in alarm
    assert "may come back untold" in alarm
    with pytest.raises(RepositoryError, match="key accept"):
        take(place, "second", one)
    assert tags_of(place, one) == ["first", "second"]
    client.accept()
    assert client.look() == []
    client.do(lambda repository: untag_points(repository, "second", [one], NOW))
    assert tags_of(place, one) == ["first"]


@pytest.mark.parametrize("error", [LimitExceeded, StorageFull, StorageFailed])
def test_if_no_list_can_be_written_nothing_is_removed(
    place: Path, client: Client, monkeypatch: pytest.MonkeyPatch,
    error: type[LimitExceeded | StorageFull | StorageFailed],
) -> None:  # fmt: skip
    first, second = point(place, "kept"), point(place)
    freed(open_sealed(place))

    def failing(*_: object, **__: object) -> bytes:
        raise error("no list")

    with monkeypatch.context() as patch:
        patch.setattr("ibtfs.store.point_lists.encode_list", failing)
        forgotten(open_sealed(place), second)
        before = {path for path in place.rglob("*") if path.is_file()}
        with pytest.raises(error):
            take(place, "kept", first)
        if error is StorageFull:  # what is freed makes room for it
            assert prune(open_sealed(place), PruneOptions(), Observer()).failed == ["no list"]
        else:
            with pytest.raises(error):
                freed(open_sealed(place))
            assert {path for path in place.rglob("*") if path.is_file()} == before
    assert tags_of(place, first) == ["kept"]
    freed(open_sealed(place))
    assert client.look() == []
    assert newest_list(open_sealed(place)).found.points == {first}


# What comes back


def test_a_removal_is_told_by_who_did_it(place: Path, client: Client) -> None:
    """Whatever it remembered of the point before."""
    first, _ = point(place), point(place)
    other = Client(place, place.with_name("other"))
    assert client.look() == other.look() == []
    saved(place)
    client.do(lambda repository: (forgotten(repository, first), freed(repository)))
    put_back(place, "points", "archives")
    for one in (client, other, Client(place, place.with_name("stranger"))):
        (alarm,) = one.look()
        assert "are there again" in alarm
        assert first in alarm
    write_list(open_sealed(place))  # by who remembers nothing
    found = newest_list(open_sealed(place)).found
    assert first not in found.points
    assert client.look() != []


def test_the_list_that_a_command_writes_is_remembered(place: Path, client: Client) -> None:
    one = point(place, "first", "second")
    client.do(lambda repository: untag_points(repository, "first", [one], NOW))
    saved(place)
    client.do(lambda repository: untag_points(repository, "second", [one], NOW))
    put_back(place, "tags", "lists")
    assert ["does not follow" in alarm for alarm in client.look()] == [True]


def older(place: Path) -> str:
    """Save three points, and remove one of them; an archive that lost bytes by that."""
    (place.with_name("source") / "stays").write_bytes(os.urandom(90_000))
    first, _, _ = point(place), point(place), point(place, "tag")
    saved(place)
    forgotten(open_sealed(place), first)
    freed(open_sealed(place))
    generations = newest_list(open_sealed(place)).found.generations
    return next(iter(generations)).split("/")[1]


def test_an_older_generation_that_was_accepted_stays_so(place: Path, client: Client) -> None:
    """Also when others have written lists, and until there is a later one."""
    archive = older(place)
    before = newest_list(open_sealed(place)).found.generations
    assert client.look() == []
    put_back(place, f"archives/{archive}")
    client.accept()
    last = max(open_sealed(place).points.all().points, key=lambda one: one.order)
    add(place, "x", last.id)
    take(place, "x", last.id)  # by somebody who accepted nothing
    assert newest_list(open_sealed(place)).found.generations == before
    assert damages(client.opened()[0]) == []
    client.do(lambda repository: untag_points(repository, "tag", [last.id], NOW))
    assert archive not in "".join(newest_list(open_sealed(place)).found.generations)
    assert damages(open_sealed(place)) == []
    assert damages(client.opened()[0]) == []


def test_what_was_lost_is_repaired_from_an_older_copy(place: Path, client: Client) -> None:
    archive = older(place)
    assert client.look() == []
    for kind in ("data", "index"):
        (lost,) = (place / "archives" / archive).glob(f"{kind}.*")
        lost.unlink()
        options = RepairOptions(other=open_sealed(place.with_name("saved")))
        assert repair(open_sealed(place), options, Observer()).is_all_well
        assert damages(open_sealed(place)) == []
        assert client.look() == []
    assert sorted(os.listdir(place / "archives" / archive)) == ["data.3", "index.3"]
    freed(open_sealed(place))
    assert damages(open_sealed(place)) == []
    assert client.look() == []


# Copies


def test_a_point_that_was_removed_is_copied_again_and_alarms_nobody(
    place: Path, client: Client
) -> None:
    """And when it is forgotten once more it stays away."""
    source, origin = place.with_name("source"), create(place.with_name("origin"))
    for turn in range(2):
        (source / "file").write_bytes(os.urandom(3000 + turn))
        back_up(origin, source)
    first = reopened(origin).points.all().points[0].id
    other = Client(place, place.with_name("other"))

    def copied(target: Repository, *words: str) -> int:
        options = CopyOptions(choice=Choice(words=words))
        return len(copy(reopened(origin), target, options, Observer()).copied)

    assert copied(open_sealed(place)) == 2
    here = open_sealed(place).points.all().points[0].id
    for _ in range(3):
        client.do(lambda repository: forgotten(repository, here))
        client.do(freed)
        assert client.look() == other.look() == []
        assert copied(open_sealed(place)) == 0
        client.do(partial(copied_again, copied, first))
        assert here in open_sealed(place).points.ids()
        assert client.look() == other.look() == []
    client.do(lambda repository: forgotten(repository, here))
    client.do(freed)
    assert copied(open_sealed(place)) == 0
    assert here in open_sealed(place).points.forgotten()


def copied_again(copied: Callable[..., int], point_id: str, repository: Repository) -> None:
    assert copied(repository, point_id) == 1


# Cut off between any two steps


WORK: dict[str, Callable[[Repository, str, str], object]] = {
    "tag add": lambda repository, one, _: tag_points(repository, "new", [one], NOW),
    "tag remove": lambda repository, one, _: untag_points(repository, "kept", [one], NOW),
    "forget and prune": lambda repository, _, other: (
        repository.points.has(other) and forgotten(repository, other), freed(repository),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WORK)
def test_whatever_is_cut_off_costs_nothing(place: Path, client: Client, name: str) -> None:
    """No tag or point that was not meant, none comes back, and no machine is alarmed."""
    first, second, third = point(place, "kept", "other"), point(place, "second"), point(place)
    freed(open_sealed(place))
    stranger = Client(place, place.with_name("stranger"))
    for one in (client, stranger):
        assert one.look() == []
    kept = place.with_name("client kept")
    shutil.copytree(place.with_name("client"), kept)
    left = {first, third} | ({second} if name.startswith("tag") else set())

    def work() -> None:
        client.do(lambda repository: WORK[name](repository, first, second))

    for step in cut_at_each_step(place, work, least=3):
        look(place, (client, stranger), {first, third}, step)
        again(place, client, name, (first, second))
        look(place, (client, stranger, Client(place, place.with_name(f"new {step}"))), left, step)
        assert set(open_sealed(place).points.ids()) == left
        wanted = {"tag add": ["kept", "new", "other"], "tag remove": ["other"]}
        assert sorted(tags_of(place, first)) == wanted.get(name, ["kept", "other"])
        freed(open_sealed(place))
        assert damages(open_sealed(place)) == []
        assert os.listdir(place / "lists")
        assert len(os.listdir(place / "lists")) == 1
        for folder in ("client", "stranger"):
            shutil.rmtree(place.with_name(folder))
            shutil.copytree(kept, place.with_name(folder))


def again(place: Path, client: Client, name: str, ids: tuple[str, str]) -> None:
    client.do(lambda repository: WORK[name](repository, *ids))


def look(place: Path, clients: tuple[Client, ...], stay: set[str], step: int | None) -> None:
    """Nobody is alarmed, and nothing that was to stay is gone."""
    for one in clients:
        assert one.look() == [], step
    repository = open_sealed(place)
    assert stay <= set(repository.points.ids())
    assert check(repository, read_data=False, observer=Observer()).damages == []
    tags = {one: set(repository.points.tags(one)) for one in repository.points.ids()}
    assert all("other" in tags[one] for one in stay if "kept" in tags[one])
