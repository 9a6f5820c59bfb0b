"""Lists of points as they are written down, one after the other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import RepositoryError
from ibtfs.format.marks import Marks
from ibtfs.format.point_list import PointList, mark_of
from ibtfs.store.listed import NONE, Accepted
from ibtfs.store.point_lists import newest_list, write_list
from ibtfs.store.repository import Repository
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
