"""Points of a repository: listed, committed, hidden, removed, tagged; what is damaged apart."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ibtfs.errors import (
    FormatDamaged,
    IbtfsError,
    ObjectExists,
    ObjectMissing,
    ObjectUnreadable,
    PointNotFound,
    StorageFailed,
    StorageFull,
    UsageError,
)
from ibtfs.format.index import Reference
from ibtfs.format.point import Point, Source
from ibtfs.store import layout, points
from ibtfs.store.points import replaced_ids
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalStorage
from tests.support.repositories import create, reopened

IDS = [f"2026112{day}T101112Z_host_{day:010}" for day in range(4)]
POINT = Point(
    id=IDS[0], sequence=1, epoch=0, time_ns=0, utc_offset=0, source=Source("host", b"/x"),
    display="x", root=(b"", 0o40755, 0, 0, 4096, 1, 1, 1, 2), state=Reference("aaaaaaaa.0", 3),
    digest=bytes(32),
)  # fmt: skip


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    return create(fast_path / "repository")


def committed(repository: Repository, *places: int, **values: object) -> list[Point]:
    """Points with these ids, the later the higher their number."""
    made = [
        replace(POINT, id=IDS[n], sequence=n + 1, time_ns=n * 10**9, **values)  # type: ignore[arg-type]
        for n in places
    ]
    return [repository.points.commit(point) for point in made]


def path_of(repository: Repository, name: str) -> Path:
    return Path(os.fsdecode(repository.path)) / name


def spoil(repository: Repository, point_id: str) -> None:
    path = path_of(repository, layout.point(point_id))
    path.write_bytes(path.read_bytes()[:-1])


def test_points_are_listed_in_their_order(repository: Repository) -> None:
    assert repository.points.all().points == []
    made = committed(repository, 2, 0, 1)
    for name in ("short", "no point", f"{IDS[3]}.0f.part"):
        path_of(repository, f"points/{name}").write_bytes(b"")
    opened = reopened(repository)
    assert opened.points.ids() == IDS[:3]
    assert opened.points.all().points == [made[1], made[2], made[0]]
    assert opened.points.all().damaged == {}
    assert opened.points.get(IDS[1]) == made[2]
    with pytest.raises(PointNotFound, match=f"No backup point '{IDS[3]}'"):
        opened.points.get(IDS[3])
    size = path_of(repository, layout.point(IDS[1])).stat().st_size
    assert opened.points.manifest_size(made[2]) == size


def test_the_folder_of_points_is_missed_if_there_are_archives(repository: Repository) -> None:
    folder = path_of(repository, "points")
    folder.rmdir()
    assert repository.points.ids() == []
    path_of(repository, "archives/20260101T000000Z_host_0123456789.0").mkdir()
    with pytest.raises(ObjectMissing, match=r"^points/: is missing although there are archives"):
        repository.points.ids()
    folder.mkdir()
    assert repository.points.ids() == []


@pytest.mark.damaged
def test_a_manifest_that_is_damaged_or_goes_costs_no_other(repository: Repository) -> None:
    made = committed(repository, 0, 1, 2)
    spoil(repository, IDS[1])
    found = reopened(repository).points.all()
    assert found.points == [made[0], made[2]]
    assert list(found.damaged) == [IDS[1]]
    assert isinstance(found.damaged[IDS[1]], FormatDamaged)
    opened = reopened(repository)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened.points, "ids", lambda **_: IDS)
        assert opened.points.all().points == [made[0], made[2]]  # one went meanwhile
    assert opened.points.get(IDS[0]) == made[0]
    path_of(repository, layout.point(IDS[0])).unlink()
    assert opened.points.all().points == [made[2]]
    with pytest.raises(PointNotFound):
        opened.points.get(IDS[0])


def refusing(
    monkeypatch: pytest.MonkeyPatch, number: int, is_refused: Callable[[str], bool]
) -> None:
    real = os.open

    def refused(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if is_refused(str(path)) and not flags & os.O_DIRECTORY:
            raise OSError(number, os.strerror(number))
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refused)


@pytest.mark.damaged
def test_a_disk_that_gives_no_manifest_at_all_is_told(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = committed(repository, 0, 1)
    with monkeypatch.context() as patch:
        refusing(patch, errno.EACCES, lambda path: path.endswith(IDS[0]))
        found = reopened(repository).points.all()
        assert (found.points, list(found.damaged)) == ([made[1]], [IDS[0]])
    with monkeypatch.context() as patch:
        refusing(patch, errno.EACCES, lambda path: "/points/" in path)
        with pytest.raises(StorageFailed, match=IDS[0]):
            reopened(repository).points.all()
    with monkeypatch.context() as patch:
        refusing(patch, errno.EIO, lambda path: "/points/" in path)
        found = reopened(repository).points.all()
        assert (found.points, list(found.damaged)) == ([], IDS[:2])
        assert isinstance(found.damaged[IDS[0]], ObjectUnreadable)
        # nobody knows, so it counts as there
        assert reopened(repository).points.has(IDS[0])
    assert [reopened(repository).points.has(IDS[n]) for n in (0, 1, 2)] == [True, True, False]


def test_a_manifest_has_so_many_bytes_at_most(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (point,) = committed(repository, 0)
    size = repository.points.manifest_size(point)
    monkeypatch.setattr(points, "MANIFEST_LIMIT", size)
    assert reopened(repository).points.get(point.id) == point
    monkeypatch.setattr(points, "MANIFEST_LIMIT", size - 1)
    with pytest.raises(ObjectUnreadable, match="too large"):
        reopened(repository).points.get(point.id)


def test_points_in_whose_place_others_stand_are_hidden(repository: Repository) -> None:
    made = committed(repository, 0, 1)
    standing = replace(POINT, id=IDS[2], sequence=1, replaces=(IDS[0], IDS[3]))
    repository.points.put(standing)
    with pytest.raises(ObjectExists):
        repository.points.put(standing)
    opened = reopened(repository)
    assert opened.points.all().points == [standing, made[1]]
    assert opened.points.hidden() == [IDS[0]]
    assert replaced_ids([standing, made[1]]) == {IDS[0], IDS[3]}
    assert replaced_ids([]) == frozenset()
    # it takes with it what would be shown again
    opened.points.remove(IDS[2])
    assert reopened(repository).points.ids() == [IDS[1]]
    assert sorted(opened.points.forgotten()) == [IDS[0], IDS[2]]


def test_sources_of_one_name_are_shown_by_two(repository: Repository) -> None:
    made = committed(repository, 0)
    other = replace(POINT, id=IDS[1], source=Source("host", b"/y"))
    path_of(repository, layout.point(IDS[1])).write_bytes(repository.points._encoded(other))
    found = reopened(repository).points.all().points
    assert len({point.display for point in found}) == 2
    assert all(point.display.startswith("x-") for point in found)
    assert reopened(repository).points.get(IDS[0]) == made[0]


def test_a_point_is_removed_with_its_tags_and_noted(repository: Repository) -> None:
    committed(repository, 0, 1)
    for tag in ("one", "two"):
        repository.points.add_tag(IDS[0], tag)
    repository.points.add_tag(IDS[1], "one")
    assert repository.points.tags(IDS[0]) == ["one", "two"]
    assert repository.points.tagged("one") == {IDS[0], IDS[1]}
    assert repository.points.tagged("two") == {IDS[0]}
    repository.points.remove_tag(IDS[1], "one")
    repository.points.remove_tag(IDS[1], "one")
    assert repository.points.tagged("one") == {IDS[0]}
    repository.points.remove(IDS[0])
    assert repository.points.tags(IDS[0]) == []
    assert reopened(repository).points.ids() == [IDS[1]]
    assert repository.points.forgotten() == [IDS[0]]
    repository.points.drop_forgotten(IDS[0])
    assert repository.points.forgotten() == []
    repository.points.remove(IDS[3])  # missing is fine
    assert repository.points.forgotten() == [IDS[3]]
    path_of(repository, "forgotten/no id").write_bytes(b"")
    assert repository.points.forgotten() == [IDS[3]]


@pytest.mark.parametrize("tag", ["", ".", "..", ".x", "a/b", "a\nb", "x.part", "n" * 256])
def test_what_is_no_tag_is_refused(repository: Repository, tag: str) -> None:
    with pytest.raises(UsageError, match="is no tag"):
        repository.points.add_tag(IDS[0], tag)
    assert repository.storage.list("tags") == []


def test_what_cannot_be_removed_is_not_noted_as_removed(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(repository, 0)
    repository.points.add_tag(IDS[0], "kept")
    delete = LocalStorage.delete

    def failing(storage: LocalStorage, name: str) -> None:
        if name == layout.point(IDS[0]):
            raise StorageFailed(f"{name}: Operation not permitted")
        delete(storage, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "delete", failing)
        with pytest.raises(StorageFailed, match="not permitted"):
            repository.points.remove(IDS[0])
    assert repository.points.forgotten() == []
    assert repository.points.tags(IDS[0]) == ["kept"]
    # a folder in its place is no file, and stays
    path = path_of(repository, layout.point(IDS[0]))
    path.unlink()
    (path / "x").mkdir(parents=True)
    with pytest.raises(StorageFailed, match="is no file, was not removed"):
        repository.points.remove(IDS[0])
    assert repository.points.forgotten() == []


def test_notes_of_what_is_forgotten(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(repository, 0)
    noted = repository.points
    assert noted.note_forgotten(IDS[0]) is True
    assert noted.note_forgotten(IDS[0]) is True
    noted.withdraw_note(IDS[0])
    assert noted.forgotten() == []
    noted.expect_none(IDS[1])
    noted.expect_none(IDS[1])
    assert noted.forgotten() == [IDS[1]]
    noted.withdraw_note(IDS[1])  # there is no such point
    assert noted.forgotten() == [IDS[1]]
    errors: dict[type[IbtfsError], bool] = {ObjectExists: True, StorageFull: False}
    for error, expected in errors.items():

        def failing(*_: object, kind: type[IbtfsError] = error) -> None:
            raise kind("told")

        with monkeypatch.context() as patch:
            patch.setattr(LocalStorage, "put_new", failing)
            patch.setattr("ibtfs.store.storage.bundled.BundledStorage.put_new", failing)
            assert noted.note_forgotten(IDS[2]) is expected
    assert noted.forgotten() == [IDS[1]]


def test_who_commits_sees_what_is_about_to_be(repository: Repository) -> None:
    """Of uploads those that can be read already; of damaged ids each may have the name."""
    (first,) = committed(repository, 0)
    second = replace(POINT, id=IDS[0][:-10] + "abcdef0123", sequence=2)
    data = repository.points._encoded(second)
    part = path_of(repository, f"points/{second.id}.0f.part")
    part.write_bytes(data)
    third = replace(POINT, id=IDS[0][:-10] + "abcdef0124", sequence=3)
    others, damaged = repository.points._others(third.id)
    assert [point.id for point in others] == [first.id, second.id]
    assert damaged == []
    part.write_bytes(data[:-1])
    assert repository.points._others(third.id) == ([first], [])
    spoil(repository, IDS[0])
    assert reopened(repository).points._others(third.id) == ([], [IDS[0]])
    assert reopened(repository).points._others(IDS[0]) == ([], [])


def test_tokens_tell_when_points_come_and_go(repository: Repository) -> None:
    folder = path_of(repository, "points")
    os.utime(folder, (5, 5))
    assert repository.points.token() == repository.points.changed_ns() == 5 * 10**9
    committed(repository, 0)
    assert repository.points.changed_ns() > 5 * 10**9
    os.utime(folder, (1 << 33, 1 << 33))
    assert repository.points.token() == 0  # it may be changing now


def test_removals_become_durable(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(LocalStorage, "sync", lambda _, folders: synced.extend(folders))
    repository.points.settle()
    assert synced == ["forgotten", "points"]
