"""Whole backups by the building blocks: full, incremental, restored."""

from __future__ import annotations

import os
import shutil
import socket
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ibtfs.errors import (
    AmbiguousSource,
    EntryNotFound,
    NotARepository,
    PointNotFound,
    SourceError,
    UsageError,
)
from ibtfs.store.repository import Repository
from ibtfs.toolkit import (
    Choice,
    forget_points,
    full_backup,
    incremental_backup,
    list_points,
    repository_statistics,
    restore_backup,
    tag_points,
    undo_backup,
    untag_points,
)
from tests.support import differences, snapshot
from tests.support.realdata import mixed
from tests.support.toolkit import bytes_of
from tests.support.trees import make_tree


def test_full_incremental_restore(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "repository"
    make_tree(source, {"a": mixed(1, 200_000), "sub": {"b": b"two"}, "junk.o": b"junk"})
    first = full_backup(source, place, patterns=["*.o"], comment="the first")
    one = snapshot(source)
    (source / "a").write_bytes(mixed(1, 200_000) + b"more")
    second = incremental_backup(str(source), str(place), patterns=["*.o"])
    assert (first.full, second.full) == (True, False)
    assert first.tally.problems == second.tally.problems == []
    points = list_points(place)
    assert [point.source for point in points] == ["source", "source"]
    assert [point.full for point in points] == [True, False]
    assert [point.files for point in points] == [2, 2]
    assert [point.point for point in points] == [first.point, second.point]
    assert points[0].point.comment == "the first"
    restored = restore_backup(place, "source", tmp_path / "new")
    assert restored.point == second.point
    assert restored.tally.problems == []
    expected = {path: entry for path, entry in snapshot(source).items() if path != b"junk.o"}
    assert differences(expected, snapshot(tmp_path / "new")) == []
    for at in (points[0].point.id, points[0].name, "latest~1", points[0].time):
        shutil.rmtree(tmp_path / "old", ignore_errors=True)
        assert restore_backup(place, "source", tmp_path / "old", at).point == first.point
        found = snapshot(tmp_path / "old")
        assert found[b"a"].sha256 == one[b"a"].sha256
    assert set(found) == set(one) - {b"junk.o"}


def test_a_full_backup_refers_to_nothing_older(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": mixed(1, 50_000)})
    repository = Repository.create(os.fsencode(tmp_path / "repository"), bytes(range(16)))
    results = [full_backup(source, repository), incremental_backup(source, repository)]
    results.append(full_backup(source, repository))
    epochs = [result.point.epoch for result in results if result.point]
    assert epochs == sorted(epochs)
    assert epochs[0] == epochs[1] < epochs[2]
    first = incremental_backup(source, tmp_path / "second")
    assert first.full
    assert first.point
    assert first.point.source.host == socket.gethostname()


def test_parts_and_overwriting(source: Path, tmp_path: Path) -> None:
    place, target = tmp_path / "repository", tmp_path / "target"
    make_tree(source, {"a": b"one", "sub": {"b": b"two"}})
    full_backup(source, place, name="docs")
    restore_backup(place, "docs", target, paths=["sub"])
    assert bytes_of(target) == {b"sub/b": b"two"}
    with pytest.raises(UsageError):
        restore_backup(place, "docs", target)
    (target / "sub" / "b").write_bytes(b"changed")
    restore_backup(place, "docs", target, overwrite="always")
    assert bytes_of(target) == {b"a": b"one", b"sub/b": b"two"}
    with pytest.raises(EntryNotFound):
        restore_backup(place, "docs", tmp_path / "x", paths=["missing"])


def test_words_that_name_nothing(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "repository"
    make_tree(source, {"a": b"one"})
    with pytest.raises(NotARepository):
        list_points(place)
    with pytest.raises(NotARepository):
        full_backup(tmp_path / "missing", place)
    assert not place.exists()
    full_backup(source, place)
    with pytest.raises(SourceError):
        incremental_backup(tmp_path / "missing", place)
    past = datetime.now() - timedelta(days=3)
    for name, at in (("other", None), ("source", "2d"), ("source", past), ("source", "nonsense!")):
        with pytest.raises(PointNotFound):
            restore_backup(place, name, tmp_path / "x", at)
    with pytest.raises(PointNotFound, match="there are: source"):
        list_points(place, "other")
    assert len(list_points(place, "source")) == 1
    assert not (tmp_path / "x").exists()


def test_two_sources_never_need_to_be_told_apart(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "repository"
    for name in ("b", "a"):
        make_tree(source / name, {name: name.encode()})
        full_backup(source / name, place)
    assert [point.source for point in list_points(place)] == ["a", "b"]
    try:
        restore_backup(place, "b", tmp_path / "x")
    except AmbiguousSource:  # pragma: no cover
        pytest.fail("The source was named")
    assert bytes_of(tmp_path / "x") == {b"b": b"b"}


def test_a_damaged_manifest_is_told(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "repository"
    make_tree(source, {"a": b"one"})
    full_backup(source, place)
    second = incremental_backup(source, place)
    assert second.point
    (place / "points" / second.point.id).write_bytes(b"damaged")
    assert len(list_points(place)) == 1
    assert second.point.id in caplog.text


def test_points_are_tagged_taken_back_and_forgotten(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "repository"
    ids = []
    for number in range(5):
        (source / "file").write_text(str(number))
        result = incremental_backup(source, place)
        assert result.point
        ids.append(result.point.id)

    def left() -> list[str]:
        return [shown.point.id for shown in list_points(place)]

    assert [p.id for p in tag_points(place, "good", [ids[1], "latest~3"]).done] == [ids[1]]
    assert restore_backup(place, "source", tmp_path / "new", "good").point.id == ids[1]
    assert undo_backup(place, dry_run=True).gone == [ids[4]]
    assert left() == ids
    assert undo_backup(place, "source").gone == [ids[4]]
    told = forget_points(place, keep_last=1, keep_tags=["good"], dry_run=True)
    assert told.gone == [ids[0], ids[2]]
    chosen = forget_points(place, keep_last=1, choice=Choice(tags=["good"]), group_by=["host"])
    assert (chosen.gone, left()) == ([], ids[:4])
    assert forget_points(place, keep_last=1, keep_tags=["good"]).gone == [ids[0], ids[2]]
    assert [p.id for p in untag_points(place, "good", ["good"]).done] == [ids[1]]
    assert forget_points(place, [ids[1]]).gone == [ids[1]]
    for wrong in (
        lambda: forget_points(place),
        lambda: forget_points(place, ["latest"], keep_last=1),
        lambda: forget_points(place, ["latest"]),
        lambda: undo_backup(place),
        lambda: tag_points(place, "../x", ["latest"]),
    ):
        with pytest.raises(UsageError):
            wrong()
    assert left() == [ids[3]]
    assert forget_points(place, ["latest"], allow_none=True).gone == [ids[3]]
    assert left() == []


def test_what_points_cost(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(5000))
    full_backup(source, tmp_path / "repository")
    (source / "file").write_bytes(os.urandom(7000))
    incremental_backup(source, tmp_path / "repository")
    found = repository_statistics(tmp_path / "repository")
    first, second = found.sources[0].points
    assert 5000 < first.alone <= first.added < 7000 < second.alone <= second.added
    assert [(one.first, one.last, one.freed) for one in found.ranges_by_time()] == [
        (second.point, second.point, second.alone),
        (first.point, first.point, first.alone),
        (first.point, second.point, second.with_earlier),
    ]
