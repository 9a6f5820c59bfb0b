"""Copies from where somebody lies: of which point one is, or by what is kept back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ibtfs.actions.copy.run import CopyOptions, copy
from ibtfs.actions.copy.survey import gone_there
from ibtfs.actions.observer import Observer
from ibtfs.errors import RepositoryError
from ibtfs.format.point import Origin
from ibtfs.store.repository import Repository
from tests.actions.copy.test_points import here, ids
from tests.support.copying import copied, copied_well
from tests.support.repositories import (
    back_up,
    create,
    remove,
    reopened,
    restored_tree,
    the_point,
)
from tests.support.sealing import create_sealed

Make = Callable[[Path], Repository]
PLAIN_OR_SEALED = pytest.mark.parametrize("make", [create, create_sealed])


@pytest.mark.parametrize("sequence", [1, 99])
@PLAIN_OR_SEALED
def test_who_says_to_be_another_point_that_is_there_takes_not_its_place(
    make: Make, repository: Repository, source: Path, tmp_path: Path, *, sequence: int
) -> None:
    target = make(tmp_path / "target")
    true = the_point(back_up(repository, source))
    (source / "file").write_bytes(b"evil")
    forged = the_point(back_up(repository, source, host="evil", name="evil"))
    remove(repository, forged)
    lie = replace(forged, sequence=sequence, origin=Origin(repository.id, true.id))
    reopened(repository).points.put(lie)
    result = copied(repository, target)
    assert set(result.failed) == {lie.id}
    assert not result.is_all_well
    [one] = reopened(target).points.all().points
    assert one.source == true.source
    assert restored_tree(target, one, tmp_path / "back") == restored_tree(
        repository, true, tmp_path / "back"
    )
    remove(repository, lie)
    assert copied_well(repository, target).copied == []
    assert gone_there(reopened(repository), reopened(target)) == []


@PLAIN_OR_SEALED
def test_of_two_that_say_to_be_the_same_none_is_believed(
    make: Make, repository: Repository, source: Path, tmp_path: Path
) -> None:
    target, other = make(tmp_path / "target"), create(tmp_path / "other")
    true = the_point(back_up(other, source))
    for number in range(2):
        made = the_point(back_up(repository, source, name=f"{number}"))
        remove(repository, made)
        reopened(repository).points.put(replace(made, origin=Origin(other.id, true.id)))
    result = copied(repository, target)
    assert (set(result.failed), here(target)) == (here(repository), set())
    assert len(copied_well(other, target).copied) == 1


def test_a_storage_that_keeps_points_back_takes_none_from_a_mirror(
    source: Path, tmp_path: Path
) -> None:
    there, target = create_sealed(tmp_path / "there"), create(tmp_path / "target")
    points = [the_point(back_up(there, source)) for _ in range(2)]
    copied_well(there, target)
    kept = here(target)
    reopened(target).points.add_tag(sorted(kept)[1], "given")
    remove(there, points[0])
    seen = reopened(there)
    assert ids(*gone_there(seen, reopened(target)))
    seen.refuse_writing("a point is missing that nobody removed")  # as who has seen it before says
    with pytest.raises(RepositoryError, match="not as it must be: a point is missing"):
        gone_there(seen, reopened(target))
    copy(seen, reopened(target), CopyOptions(same_tags=True), Observer())
    assert here(target) == kept
    assert reopened(target).points.tagged("given")
