"""Lists of points as they are written down, one after the other."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ibtfs.errors import RepositoryError
from ibtfs.format.marks import Marks
from ibtfs.format.point_list import ANY, PointList, mark_of
from ibtfs.store.listed import NONE, Accepted
from ibtfs.store.point_lists import list_removed, newest_list, write, write_list
from ibtfs.store.repository import Repository
from ibtfs.store.returning import admit, list_admitted
from tests.support.repositories import back_up, reopened, the_point
from tests.support.sealing import create_sealed


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "source").mkdir()
    return create_sealed(tmp_path / "repo")


def point(repository: Repository, tmp_path: Path) -> str:
    (tmp_path / "source/file").write_bytes(os.urandom(9))
    return the_point(back_up(repository, tmp_path / "source")).id


def listed(repository: Repository) -> list[str]:
    write_list(reopened(repository))
    return sorted(repository.storage.list("lists"))


def test_there_is_none_at_first(repository: Repository) -> None:
    assert newest_list(repository) == (NONE, (), {})
    assert listed(repository) == []


def test_a_list_follows_another_if_points_came_or_went(
    repository: Repository, tmp_path: Path
) -> None:
    one = point(repository, tmp_path)
    (first,) = listed(repository)
    assert listed(repository) == [first]
    before = newest_list(repository)
    assert before.found == PointList(1, frozenset({one}))
    two = point(repository, tmp_path)
    repository.points.remove(one)
    (second,) = listed(repository)
    found = newest_list(repository).found
    assert (found.number, found.points) == (2, {two})
    assert found.gone == {int(one[:4]): Marks.of([mark_of(repository.keys, one.encode())])}
    assert found.earlier == before.marks
    assert second != first


def test_damaged_ones_are_told_and_passed_over(repository: Repository, tmp_path: Path) -> None:
    point(repository, tmp_path)
    (name,) = listed(repository)
    newer = tmp_path / "repo/lists" / "9.0123456789abcdef"
    newer.write_bytes((tmp_path / "repo/lists" / name).read_bytes())
    (tmp_path / "repo/lists/notes").write_bytes(b"")
    found = newest_list(reopened(repository))
    assert found.found.number == 1
    assert list(found.damaged) == [newer.name]
    point(repository, tmp_path)
    with pytest.raises(RepositoryError, match="key accept"):
        listed(repository)  # it may be the newest, and say what was removed
    opened = reopened(repository)
    assert opened.unlocked.lists
    opened.unlocked.lists.accepted = Accepted(frozenset({newer.name}))
    write_list(opened)
    names = sorted(repository.storage.list("lists"))
    assert [one for one in names if one.startswith("2.")]
    assert newer.exists()  # whoever made it up has no list of ours deleted
    assert newest_list(reopened(repository)).found.number == 2


def test_generations_that_nobody_with_a_key_made_are_not_listed(
    repository: Repository, tmp_path: Path
) -> None:
    """Else a storage could have what is there be taken for an older state."""
    point(repository, tmp_path)
    (archive,) = repository.archive_ids()
    junk = tmp_path / "repo" / "archives" / archive / "index.99"
    junk.write_bytes(b"junk")
    listed(repository)
    assert newest_list(reopened(repository)).found.generations == {}
    junk.unlink()
    assert reopened(repository).archive(archive).header


def test_files_of_archives_that_are_hidden_keep_their_generations(
    repository: Repository, tmp_path: Path
) -> None:
    """Else a storage hides an archive for a moment, and puts an older state of it back."""
    listed_as = {"archives/20261129T072334Z_b06aa9bae47e14fa1c94.0/index": 2}
    write(repository, lambda before: replace(before, generations=listed_as))
    point(repository, tmp_path)
    listed(repository)
    assert newest_list(reopened(repository)).found.generations == listed_as


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_those_of_archives_that_were_removed_do_not(
    repository: Repository, tmp_path: Path, is_cut_off: bool
) -> None:
    point(repository, tmp_path)
    (archive,) = repository.archive_ids()
    name = f"archives/{archive}/index"
    write(repository, lambda before: replace(before, generations={name: 2}))
    repository.remove(archive)
    if is_cut_off:  # what says so is there still
        repository = reopened(repository)
    else:
        shutil.rmtree(tmp_path / "repo/archives" / archive)
    write_list(repository)
    assert newest_list(reopened(repository)).found.generations == {}


def test_a_point_that_is_put_back_is_in_a_later_turn(
    repository: Repository, tmp_path: Path
) -> None:
    """Names of it that somebody kept from before mean nothing; and as long as it is awaited, it is
    not missing."""
    one = point(repository, tmp_path)
    (manifest,) = (tmp_path / "repo/points").iterdir()
    data = manifest.read_bytes()
    repository.points.add_tag(one, "old")
    kept = shutil.copytree(tmp_path / "repo/tags", tmp_path / "tags")
    repository.points.remove(one)
    list_removed(repository)
    shutil.copytree(tmp_path / "repo/forgotten", tmp_path / "forgotten")
    assert admit(repository, one)
    assert not admit(repository, one)
    found = newest_list(repository).found
    assert (found.number, found.points, found.is_awaited(one)) == (2, frozenset(), True)
    assert found.withdrawn == {one: {ANY: 2}}
    assert repository.points.forgotten() == []
    repository.points.add_tag(one, "new")
    manifest.write_bytes(data)
    list_admitted(repository, one)
    assert newest_list(repository).found.points == {one}
    assert list((tmp_path / "repo/forgotten").iterdir()) == []
    shutil.copytree(kept, tmp_path / "repo/tags", dirs_exist_ok=True)
    shutil.copytree(tmp_path / "forgotten", tmp_path / "repo/forgotten", dirs_exist_ok=True)
    assert reopened(repository).points.tags(one) == ["new"]
    assert reopened(repository).points.forgotten() == []


def test_what_is_known_of_a_point_stays_as_long_as_it_may_be_hidden(
    repository: Repository, tmp_path: Path
) -> None:
    """If it was removed, how often it was put back stays: of two lists that tells the later."""
    one = point(repository, tmp_path)
    rows = {one: {ANY: 1, b"t" * 16: 3}}
    write(repository, lambda before: replace(before, withdrawn=rows, points=frozenset({one})))
    (manifest,) = (tmp_path / "repo/points").iterdir()
    data = manifest.read_bytes()
    manifest.unlink()
    listed(repository)
    assert newest_list(repository).found.withdrawn == rows
    manifest.write_bytes(data)
    repository.points.remove(one)
    listed(repository)
    assert newest_list(repository).found.withdrawn == rows
    repository.points.drop_forgotten(one)
    listed(repository)
    assert newest_list(repository).found.withdrawn == {one: {ANY: 1}}
