"""Points of a sealed repository that were removed, and are there again: on purpose, or not."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.copy.run import CopyOptions, copy
from ibtfs.actions.copy.survey import Choice
from ibtfs.actions.forget.run import Way, forget_named
from ibtfs.actions.forget.tags import tag_points, untag_points
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.store.listed import Lists
from ibtfs.store.point_lists import newest_list, write_list
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalStorage
from tests.support.crashing import cut_at_each_step
from tests.support.repositories import create, damages
from tests.support.sealing import Client, changes_of, create_sealed, open_sealed, put_back, saved

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
    """The id of a new point with some *tags*, which is built upon no other."""
    source = place.with_name("source")
    (source / "file").write_bytes(os.urandom(3000))
    options = BackupOptions(host="host", tags=tags, full=True)
    found = backup(open_sealed(place), os.fsencode(source), options, Observer()).point
    assert found is not None
    return found.id


def take(place: Path, tag: str, point_id: str) -> None:
    untag_points(open_sealed(place), tag, [point_id], NOW)


def freed(repository: Repository) -> None:
    assert prune(repository, PruneOptions(allow_none=True), Observer()).failed == []


def forgotten(repository: Repository, point_id: str) -> None:
    assert not forget_named(repository, [point_id], NOW, Way(allow_none=True)).refused


def copied(place: Path, point_id: str) -> int:
    """How many points were copied from the mirror of a repository, of one that is named."""
    options = CopyOptions(choice=Choice(words=(point_id,)))
    return len(copy(Repository.open(mirror(place)), open_sealed(place), options, Observer()).copied)


def mirror(place: Path) -> bytes:
    """A copy of all points there are, made when it is asked for the first time."""
    path = place.with_name("mirror")
    if not path.exists():
        made = create(path)
        assert copy(open_sealed(place), made, CopyOptions(), Observer()).is_all_well
    return os.fsencode(path)


def gone_and_back(place: Path) -> tuple[str, str]:
    """Of two points the one that is removed, and copied back, all of its state of before saved."""
    first, second = point(place, "kept", "taken"), point(place, "other")
    take(place, "taken", first)
    mirror(place)
    forgotten(open_sealed(place), first)
    saved(place)
    freed(open_sealed(place))
    freed(open_sealed(place))
    assert copied(place, first) == 1
    return first, second


def test_what_was_said_of_a_point_that_is_copied_back_means_nothing(
    place: Path, client: Client
) -> None:
    """Else a storage removes it, and puts back the note that it was forgotten."""
    one, _ = gone_and_back(place)
    assert client.look() == []
    put_back(place, "forgotten")
    (place / "points" / one).unlink()
    for each in (client, Client(place, place.with_name("stranger"))):
        (alarm,) = each.look()
        assert "are missing that nobody removed" in alarm


def test_tags_of_a_point_that_is_copied_back_are_those_of_the_copy(
    place: Path, client: Client
) -> None:
    first, second = point(place, "kept", "taken"), point(place)
    shutil.copytree(place / "tags", place.with_name("tags"))
    take(place, "taken", first)
    mirror(place)
    forgotten(open_sealed(place), first)
    freed(open_sealed(place))
    freed(open_sealed(place))
    assert copied(place, first) == 1
    shutil.copytree(place.with_name("tags"), place / "tags", dirs_exist_ok=True)
    assert open_sealed(place).points.tags(first) == ["kept"]
    assert client.look() == []
    assert second in open_sealed(place).points.ids()


@pytest.mark.parametrize("is_pruned", [False, True])
def test_a_list_that_comes_late_alarms_nobody_at_what_was_copied_back(
    place: Path, client: Client, monkeypatch: pytest.MonkeyPatch, is_pruned: bool
) -> None:
    """Somebody who knows nothing of it lists something else, or that it is gone, at that moment."""
    first, second = point(place), point(place, "tag")
    mirror(place)
    with monkeypatch.context() as patch:
        if not is_pruned:  # whoever forgot it could not list it
            patch.setattr("ibtfs.actions.forget.run.list_removed", lambda _: None)
        forgotten(open_sealed(place), first)
    if is_pruned:
        freed(open_sealed(place))
    assert client.look() == []
    real = Lists.put_new

    def meanwhile(*args: object) -> None:
        monkeypatch.undo()
        assert copied(place, first) == 1
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Lists, "put_new", meanwhile)
    late = open_sealed(place)
    if is_pruned:
        untag_points(late, "tag", [second], NOW)
    else:
        write_list(late)
    for _ in range(2):
        assert client.look() == Client(place, place.with_name(f"new {_}")).look() == []
        assert first in open_sealed(place).points.ids()
        freed(open_sealed(place))
    assert first in newest_list(open_sealed(place)).found.points


@pytest.mark.parametrize("is_pruned", [False, True])
def test_a_copy_back_that_is_cut_off_alarms_nobody(
    place: Path, client: Client, monkeypatch: pytest.MonkeyPatch, is_pruned: bool
) -> None:
    """Nor who has not looked since before the point was removed; and it can be done again."""
    first, _ = point(place, "kept"), point(place)
    mirror(place)
    assert client.look() == []
    with monkeypatch.context() as patch:
        if not is_pruned:
            patch.setattr("ibtfs.actions.forget.run.list_removed", lambda _: None)
        forgotten(open_sealed(place), first)
    if is_pruned:
        freed(open_sealed(place))
    kept = shutil.copytree(place.with_name("client"), place.with_name("kept"))
    for step in cut_at_each_step(place, partial(copied, place, first), least=3):
        for one in (client, Client(place, place.with_name(f"new {step}"))):
            assert one.look() == [], step
        copied(place, first)
        assert open_sealed(place).points.tags(first) == ["kept"], step
        assert client.look() == [], step
        shutil.rmtree(place.with_name("client"))
        shutil.copytree(kept, place.with_name("client"))
    freed(open_sealed(place))
    assert newest_list(open_sealed(place)).found.points >= {first}
    assert client.look() == damages(open_sealed(place)) == []


def test_what_is_forgotten_is_listed_at_once(place: Path, client: Client) -> None:
    """Also before anything is freed: the storage puts it back, with the note or without."""
    first, _ = point(place, "tag"), point(place)
    other = Client(place, place.with_name("other"))
    assert client.look() == other.look() == []
    saved(place)
    client.do(partial(forgotten, point_id=first))
    put_back(place, "points")
    for notes in (True, False):
        if not notes:
            put_back(place, "forgotten")
        for one in (client, other, Client(place, place.with_name(f"new {notes}"))):
            (alarm,) = one.look()
            assert "are there again" in alarm


def test_a_point_that_was_accepted_is_removed_like_any_other(place: Path, client: Client) -> None:
    first, second = point(place, "tag"), point(place, "a", "b")
    saved(place)
    client.do(partial(forgotten, point_id=first))
    client.do(freed)
    put_back(place, "points", "archives", "tags")
    assert client.look() != []
    client.accept()
    assert client.look() == []
    client.do(lambda one: untag_points(one, "a", [second], NOW))
    assert Client(place, place.with_name("new")).look() == []
    assert open_sealed(place).points.tags(first) == ["tag"]  # it was accepted as it is
    client.do(partial(forgotten, point_id=first))
    client.do(freed)
    client.do(lambda one: untag_points(one, "b", [second], NOW))
    lists = open_sealed(place).unlocked.lists
    assert lists is not None
    assert lists.is_gone(first)
    put_back(place, "points", "archives")
    for one in (client, Client(place, place.with_name("another"))):
        (alarm,) = one.look()
        assert "are there again" in alarm


def test_one_that_was_accepted_and_removed_before_any_list(place: Path, client: Client) -> None:
    first, _ = point(place), point(place)
    saved(place)
    client.do(partial(forgotten, point_id=first))
    put_back(place, "points")
    client.accept()
    client.do(partial(forgotten, point_id=first))
    assert client.look() == Client(place, place.with_name("new")).look() == []
    put_back(place, "points")
    (alarm,) = client.look()
    assert "are there again" in alarm


def test_the_last_tag_goes_while_another_is_given(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it goes the folder in which the other one is just made."""
    one, real = point(place, "last"), LocalStorage.create_file
    giving = open_sealed(place)

    def meanwhile(*args: object) -> int:
        monkeypatch.undo()
        take(place, "last", one)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalStorage, "create_file", meanwhile)
    assert tag_points(giving, "new", [one], NOW).done
    assert open_sealed(place).points.tags(one) == ["new"]


def test_keys_that_are_changed_while_they_are_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalStorage.open

    def meanwhile(storage: LocalStorage, name: str) -> object:
        if name.startswith("keys/"):
            monkeypatch.undo()
            changes_of(place)[1].rotate()
        return real(storage, name)

    monkeypatch.setattr(LocalStorage, "open", meanwhile)
    assert open_sealed(place).points.ids() == []
