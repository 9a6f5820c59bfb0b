"""Check, beside others who remove points and prune: what went is no damage, what is damaged is."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.check import CheckResult, check
from ibtfs.actions.checking.look import Look
from ibtfs.actions.observer import Observer
from ibtfs.errors import RepositoryLocked
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.lock import EXCLUSIVE, PRUNE
from ibtfs.store.repository import Repository
from tests.support import removal
from tests.support.faking import Patch
from tests.support.removal import forget
from tests.support.repositories import (
    Recorder,
    back_up,
    create,
    damages,
    on_disk,
    reopened,
    row,
    settle,
)

KEPT = (2, 5)
STEPS = [
    ("point", 0), ("point", 3), ("_state", 2), ("archive", 0), ("archive", 2), ("_file", 1),
    ("_frame", 3), ("contents", 0), ("_chain", 9), ("_read", 0), ("_read", 11),
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Six points of files that change: deltas of deltas, folders that come and go."""
    place, rng = tmp_path_factory.mktemp("made"), random.Random(3)
    repository, source = create(place / "repository"), place / "source"
    source.mkdir()
    (source / "large").write_bytes(rng.randbytes(6_000_000))
    for number in range(6):
        with (source / "large").open("r+b") as file:
            file.seek(rng.randrange(5_000_000))
            file.write(rng.randbytes(150_000))
        (source / f"folder{number}").mkdir()
        (source / f"folder{number}" / "own").write_bytes(rng.randbytes(60_000))
        (source / "text").write_bytes(b"".join(b"%d\n" % n for n in range(number, 9000 + number)))
        settle()
        back_up(repository, source)
        if number:
            (source / f"folder{number}" / "own").unlink()
    return repository


@pytest.fixture
def repository(
    made: Repository, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Repository]:
    """A copy of it, which is checked when the test is done."""
    path = shutil.copytree(os.fsdecode(made.path), tmp_path / "repository")
    copy = Repository.open(os.fsencode(path))
    yield copy
    if request.node.get_closest_marker("damaged") is None:
        assert damages(copy) == []


@pytest.fixture
def points(repository: Repository) -> list[Point]:
    return repository.points.all().points


@pytest.fixture
def read_only(repository: Repository, tmp_path: Path) -> Iterator[Path]:
    """The repository as it is seen where it cannot be written."""
    place = tmp_path / "read-only"
    place.mkdir()
    subprocess.run(["mount", "--bind", repository.path, place], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def before(patch: Patch, step: str, number: int, act: Callable[[], object]) -> list[int]:
    """Have *act* happen before call *number* of a step of check; how often that was called."""
    method, calls = getattr(Look, step), [0]

    def called(self: Look, *args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == number + 1:
            act()
        return method(self, *args, **kwargs)

    patch.setattr(Look, step, called)
    return calls


def pruned(repository: Repository) -> int:
    """The bytes that a prune frees that is not kept waiting."""
    return removal.pruned(repository, wait=0, all_of_it=True).freed


def checked(path: bytes | Path, observer: Observer | None = None) -> CheckResult:
    opened = Repository.open(os.fsencode(path))
    return check(opened, read_data=True, observer=observer or Observer())


def told(result: CheckResult) -> list[str]:
    return [damage.message for damage in result.damages]


@pytest.mark.parametrize(("step", "number"), STEPS)
def test_what_is_pruned_under_a_check_without_a_lock_is_no_damage(
    step: str, number: int, points: list[Point], repository: Repository, read_only: Path,
    monkeypatch: Patch,
) -> None:  # fmt: skip
    gone = [point for place, point in enumerate(points) if place not in KEPT]

    def remove() -> None:
        forget(repository, [point.id for point in gone])
        assert pruned(repository) > 0

    calls = before(monkeypatch, step, number, remove)
    heard = Recorder()
    assert told(checked(read_only, heard)) == []
    assert heard.problems == heard.notes == []
    assert calls[0] > number, "never came to this step"


def test_pruning_goes_on_and_on_under_a_check(
    points: list[Point], repository: Repository, read_only: Path, monkeypatch: Patch
) -> None:
    """One point after the other goes, the last ones while what seems damaged is looked at again."""
    left = points[:-1]

    def remove_one() -> None:
        if left:
            forget(repository, [left.pop().id])
            pruned(repository)

    for step, number in (("_read", 2), ("_read", 6)):
        before(monkeypatch, step, number, remove_one)
    again = Look.again

    def removing(self: Look) -> Look:
        remove_one()
        return again(self)

    monkeypatch.setattr(Look, "again", removing)
    assert told(checked(read_only)) == []


@pytest.mark.parametrize(("step", "number"), [("point", 2), ("contents", 0), ("_read", 4)])
def test_nothing_is_pruned_under_a_check_with_a_lock(
    step: str, number: int, points: list[Point], repository: Repository, monkeypatch: Patch
) -> None:
    def remove() -> None:
        forget(repository, [point.id for point in (*points[:2], *points[3:5])])
        with pytest.raises(RepositoryLocked):
            pruned(repository)

    calls = before(monkeypatch, step, number, remove)
    heard = Recorder()
    assert told(checked(repository.path, heard)) == []
    assert heard.problems == heard.notes == []
    assert calls[0] > number
    assert repository.damage.contents() == frozenset()
    assert os.listdir(on_disk(repository.storage, layout.LOCKS)) == []


def flip(repository: Repository, point: Point, path: bytes) -> None:
    """Damage the frame that holds the first byte of the payload of a file."""
    opened = reopened(repository)
    ref = row(opened, point, path).content
    assert ref is not None
    archive = opened.archive(ref.archive)
    record = archive.content(ref.number)
    file = archive.file(layout.DATA if archive.header.has_data else layout.INDEX)
    table = file.table(record.stream)
    with Path(on_disk(repository.storage, file.name)).open("r+b") as stored:
        stored.seek(table.offsets[table.find(record.start)] + 40)
        byte = stored.read(1)
        stored.seek(-1, os.SEEK_CUR)
        stored.write(bytes([byte[0] ^ 1]))


@pytest.mark.damaged
def test_what_is_damaged_is_told_though_others_prune(
    points: list[Point], repository: Repository, read_only: Path, monkeypatch: Patch
) -> None:
    flip(repository, points[5], b"folder0/own")
    before(
        monkeypatch, "_read", 3, lambda: (forget(repository, [points[1].id]), pruned(repository))
    )
    heard = Recorder()
    result = checked(read_only, heard)
    (damage,) = [damage for damage in result.damages if b"folder0/own" in damage.paths]
    assert set(damage.points) == {point.id for point in points if point != points[1]}
    assert [note for note in heard.notes if "could not be noted" in note]
    assert repository.damage.contents() == frozenset()


@pytest.mark.damaged
def test_damage_of_a_point_that_goes_is_not_noted(
    points: list[Point], repository: Repository, monkeypatch: Patch
) -> None:
    gone, kept = (
        row(reopened(repository), points[number], b"folder%d/own" % folder).content
        for number, folder in ((3, 3), (5, 0))
    )
    flip(repository, points[3], b"folder3/own")
    flip(repository, points[5], b"folder0/own")
    before(monkeypatch, "_read", 0, lambda: forget(repository, [points[3].id]))
    result = checked(repository.path)
    paths = {path for damage in result.damages for path in damage.paths}
    assert b"folder0/own" in paths
    assert b"folder3/own" not in paths
    noted = reopened(repository).damage.contents()
    assert kept in noted
    assert gone not in noted


def test_a_check_waits_for_nobody_but_a_prune_that_decides(repository: Repository) -> None:
    with repository.lock(PRUNE):
        assert told(checked(repository.path)) == []
    with repository.lock(EXCLUSIVE), pytest.raises(RepositoryLocked, match="exclusive"):
        checked(repository.path)
