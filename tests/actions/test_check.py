"""What check names: every point and path that a damage hit, and points that are not there."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from ibtfs.actions.check import CheckResult, check
from ibtfs.actions.observer import Observer
from ibtfs.errors import ObjectMissing
from ibtfs.format.frames import STATES
from ibtfs.format.point import Point
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.repository import Repository
from tests.support.faking import Patch, set_clock
from tests.support.repositories import (
    Recorder,
    back_up,
    create,
    damages,
    reopened,
    the_point,
)
from tests.support.trees import make_tree
from tests.support.views import SECOND


@pytest.mark.damaged
def test_check_names_every_point_that_lost_a_folder(tmp_path: Path, repository: Repository) -> None:
    source = tmp_path / "source"
    make_tree(source, {"a": {"b": {"c": b"1"}}, "n": b""})
    time.sleep(0.3)  # no longer young: the folders are shared by all points
    for number in range(3):
        (source / "n").write_bytes(b"%d" % number)
        assert back_up(repository, source).point
    first = repository.points.all().points[0]
    assert first.state
    archive = ArchiveReader.file(repository.archive(first.state.archive), "index")
    table = archive.table(STATES)
    path = (
        Path(os.fsdecode(repository.path))
        / "archives"
        / first.state.archive
        / archive.name.rpartition("/")[2]
    )
    data = bytearray(path.read_bytes())
    data[table.offsets[0] + 30] ^= 1
    path.write_bytes(data)
    found = check(reopened(repository), read_data=False, observer=Observer()).damages
    hit = {(point, name) for damage in found for point in damage.points for name in damage.paths}
    assert {point for point, _ in hit} == {point.id for point in repository.points.all().points}


def lose(repository: Repository, name: str) -> None:
    """Remove the object, or the folder, *name*, as a disk or somebody's hand would."""
    path = Path(os.fsdecode(repository.path)) / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def looked(repository: Repository) -> CheckResult:
    return check(reopened(repository), read_data=True, observer=Observer())


def three_points(tmp_path: Path, repository: Repository) -> list[Point]:
    source, made = tmp_path / "source", []
    source.mkdir()
    for number in range(3):
        (source / "file").write_bytes(b"%d" % number)
        with Patch.context() as patch:
            set_clock(patch, time.time_ns() + (number - 3) * 2 * SECOND)  # ids tell seconds
            made.append(the_point(back_up(repository, source, tags=(f"tag{number}",))))
    return made


@pytest.mark.damaged
def test_without_the_folder_of_points_there_is_damage(
    tmp_path: Path, repository: Repository
) -> None:
    three_points(tmp_path, repository)
    lose(repository, "points")
    (damage,) = looked(repository).damages
    assert damage.object == "points"
    assert "points/: is missing although there are archives" in damage.message
    with pytest.raises(ObjectMissing, match="put the folder back"):
        back_up(repository, tmp_path / "source")
    assert len(list((tmp_path / "repository" / "tags").glob("*/tag?"))) == 3
    assert not (tmp_path / "repository" / "points").exists()


def test_a_folder_of_points_that_is_empty_is_told(tmp_path: Path, repository: Repository) -> None:
    three_points(tmp_path, repository)
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "repository" / "points", kept)
    for manifest in (tmp_path / "repository" / "points").iterdir():
        manifest.unlink()
    found = looked(repository)
    assert found.damages == []
    (missing,) = found.missing
    assert missing.startswith("points/: holds no backup point although there are archives")
    back_up(repository, tmp_path / "source")
    back_up(repository, tmp_path / "source")
    for manifest in kept.iterdir():
        shutil.copy(manifest, tmp_path / "repository" / "points")
    points = reopened(repository).points
    assert sorted(tag for point in points.ids() for tag in points.tags(point)) == [
        "tag0", "tag1", "tag2"
    ]  # fmt: skip


@pytest.mark.parametrize("number", [0, 1])
def test_a_manifest_that_is_gone_is_told_and_its_tags_stay(
    tmp_path: Path, repository: Repository, number: int
) -> None:
    made = three_points(tmp_path, repository)
    lose(repository, f"points/{made[number].id}")
    found = looked(repository)
    assert found.damages == []
    (missing,) = found.missing
    assert missing.startswith(f"points/{made[number].id}: is not there, though points/")
    assert made[number + 1].id in missing
    back_up(repository, tmp_path / "source")
    assert reopened(repository).points.tags(made[number].id) == [f"tag{number}"]


def test_a_source_whose_points_are_gone_shows_in_the_numbers_of_others(
    tmp_path: Path, repository: Repository
) -> None:
    made = three_points(tmp_path, repository)
    make_tree(tmp_path / "other", {"a": b"1"})
    back_up(repository, tmp_path / "other")
    for point in made:
        lose(repository, f"points/{point.id}")
    found = looked(repository)
    assert found.damages == []
    (missing,) = found.missing
    assert "3 points that are not there" in missing


def test_the_newest_manifest_leaves_an_archive_of_no_point(
    tmp_path: Path, repository: Repository
) -> None:
    made = three_points(tmp_path, repository)
    assert looked(repository).counts["unneeded_archives"] == 0
    lose(repository, f"points/{made[-1].id}")
    found = looked(repository)
    assert (found.damages, found.missing) == ([], ())
    assert found.counts["unneeded_archives"] == 1


def test_a_first_run_that_was_cut_off_is_no_damage(tmp_path: Path, repository: Repository) -> None:
    """Its archives are there, and no point, also where init was cut off before it."""
    three_points(tmp_path, repository)
    cut = create(tmp_path / "cut")
    for folder in (tmp_path / "cut").iterdir():
        if folder.is_dir():
            folder.rmdir()

    class Cut(Recorder):
        def file(self, kind: str, path: bytes) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(cut, tmp_path / "source", Cut())
    assert (tmp_path / "cut" / "points").is_dir()
    assert damages(cut) == []


def test_what_was_forgotten_on_purpose_is_not_missed(
    tmp_path: Path, repository: Repository
) -> None:
    made = three_points(tmp_path, repository)
    for point in made[:2]:
        repository.storage.put_new(f"forgotten/{point.id}", b"")
        lose(repository, f"points/{point.id}")
    assert looked(repository).missing == ()
    back_up(repository, tmp_path / "source")
    assert reopened(repository).points.tags(made[0].id) == []
