"""A repository as a whole: made once, opened if it is one, told from another, and kept in sight."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from ibtfs.errors import (
    NotARepository,
    ObjectMissing,
    ObjectUnreadable,
    PointNotFound,
    RepositoryError,
    RepositoryExists,
    UnsupportedFormat,
)
from ibtfs.format.config import Config
from ibtfs.store import layout
from ibtfs.store.archives import readers as readers_module
from ibtfs.store.lock import SHARED
from ibtfs.store.repository import Repository
from ibtfs.store.storage.bundled import BundledStorage
from ibtfs.store.storage.local import LocalStorage
from tests.support.far import FarStorage
from tests.support.generations import put_generation
from tests.support.repositories import back_up, create, on_disk, reopened, the_point


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    return create(fast_path / "repository")


@pytest.fixture
def two(repository: Repository, fast_path: Path) -> list[str]:
    """The archives of two points."""
    source, ids = fast_path / "source", []
    source.mkdir()
    for number in range(2):
        (source / f"{number}").write_bytes(os.urandom(100_000))
        ids.append(the_point(back_up(repository, source)).state.archive)
    return ids


def test_one_is_made_once_and_opened(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "r")
    for nothing in (path, os.fsencode(tmp_path)):
        with pytest.raises(NotARepository, match=r"does not exist|is not an ibtfs repository"):
            Repository.open(nothing)
    made = Repository.create(path, b"i" * 16, shared=True, level=3)
    assert made.config == Repository.open(path).config == Config(b"i" * 16, shared=True, level=3)
    assert (made.path, made.path_shown) == (path, str(tmp_path / "r"))
    assert sorted(os.listdir(path)) == sorted([b"ibtfs.json", *map(os.fsencode, layout.FOLDERS)])
    with pytest.raises(RepositoryExists):
        Repository.create(path, b"j" * 16)
    assert Repository.open(path).id == b"i" * 16
    shutil.rmtree(tmp_path / "r" / "tags")
    made.complete()
    assert (tmp_path / "r" / "tags").is_dir()


def test_of_two_who_make_one_at_once_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = os.fsencode(tmp_path / "r"), LocalStorage.put_new

    def second(storage: LocalStorage, name: str, data: bytes) -> None:
        if not (tmp_path / "r" / layout.CONFIG).exists():
            real(storage, name, data)
        real(storage, name, data)

    monkeypatch.setattr(LocalStorage, "put_new", second)
    with pytest.raises(RepositoryExists, match="is a repository already"):
        Repository.create(path, b"i" * 16)


def test_a_disk_that_fails_is_told_and_not_taken_for_no_repository(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, kind in ((errno.EIO, ObjectUnreadable), (errno.EACCES, NotARepository)):

        def failing(*_: object, n: int = number, **__: object) -> int:
            raise OSError(n, os.strerror(n))

        with monkeypatch.context() as patch:
            patch.setattr("ibtfs.store.storage.local.os.open", failing)
            with pytest.raises(kind, match=r"ibtfs.json"):
                Repository.open(repository.path)


def test_only_who_knows_all_features_may_write(repository: Repository) -> None:
    repository.require_writable()
    newer = Repository(repository.storage, Config(b"i" * 16, write_requires=("a", "b")))
    with pytest.raises(UnsupportedFormat, match="by a newer ibtfs only: a, b"):
        newer.require_writable()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BundledStorage, "refusal", lambda _: "so it is")
        with pytest.raises(RepositoryError, match="is not writable: so it is"):
            repository.require_writable()


def test_it_is_there_or_another_one_is(repository: Repository, fast_path: Path) -> None:
    repository.require_there()
    assert repository.is_there()
    path = fast_path / "repository"
    path.rename(fast_path / "away")
    assert not repository.is_there()
    with pytest.raises(ObjectMissing, match=r"is gone \(a disk unplugged\?\)$"):
        repository.require_there()
    create(path)
    assert not repository.is_there()
    with pytest.raises(RepositoryError, match="is another repository by now"):
        repository.require_there()


@pytest.mark.parametrize(
    ("files", "most"), [(-1, 1024), (0, 16), (127, 16), (136, 17), (1024, 128), (1 << 20, 1024)]
)
def test_so_many_archives_are_kept_open(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, files: int, most: int
) -> None:
    monkeypatch.setattr(readers_module.resource, "getrlimit", lambda _: (files, files))
    opened = reopened(repository)
    first = opened.archive("20260101T000000Z_host_0123456789.0")
    for number in range(1, most):
        opened.archive(f"20260101T000000Z_host_0123456789.{number}")
    assert opened.archive("20260101T000000Z_host_0123456789.0") is first
    last = opened.archive("20260101T000000Z_host_0123456789.1")
    opened.archive("another0.0")
    assert opened.archive("20260101T000000Z_host_0123456789.1") is last
    assert opened.archive("20260101T000000Z_host_0123456789.0") is first
    third = opened.archive("20260101T000000Z_host_0123456789.2")
    for number in range(most):
        opened.archive(f"another{number}.1")
    assert opened.archive("20260101T000000Z_host_0123456789.2") is not third


def test_what_was_read_is_forgotten_with_a_lock(repository: Repository, two: list[str]) -> None:
    opened = reopened(repository)
    reader, era = opened.archive(two[0]), opened.era
    assert opened.points.get(two[0].partition(".")[0])
    with opened.lock(SHARED):
        assert opened.era == era + 1
        assert opened.archive(two[0]) is not reader


@pytest.mark.damaged
def test_files_of_archives_are_told(repository: Repository, two: list[str]) -> None:
    assert repository.archive_ids() == sorted(two)
    assert repository.has_archives()
    assert repository.index_generations() == dict.fromkeys(sorted(two), 1)
    assert repository.index_generations(known=two[:1]) == {two[1]: 1}
    assert repository.files_of(two[0]) == {"data": 1, "index": 1}
    assert repository.missing_files(two[0]) == repository.missing_files(two[0], ["data"]) == []
    assert repository.missing_files(two[0], ["data", "sigs"]) == [f"archives/{two[0]}/sigs"]
    os.unlink(on_disk(repository.storage, f"archives/{two[0]}/data.1"))
    assert repository.missing_files(two[0]) == [f"archives/{two[0]}/data"]
    assert repository.is_whole(two[0])
    assert repository.incomplete_archives() == []
    os.unlink(on_disk(repository.storage, f"archives/{two[1]}/index.1"))
    assert not repository.is_whole(two[1])
    assert repository.incomplete_archives() == [two[1]]
    assert repository.missing_files(two[1]) == [f"archives/{two[1]}/index"]
    assert reopened(repository).archive_ids() == [two[0]]


@pytest.mark.damaged
def test_a_run_settles_only_if_all_that_it_needs_is_there(
    repository: Repository, two: list[str]
) -> None:
    one, other = two
    repository.settle([one], {other: ["data", "index"]}, {one: 1})
    repository.settle([], {}, {})
    with pytest.raises(ObjectMissing, match=f"archives/{one}/sigs is gone, it was removed meanw"):
        repository.settle([], {one: ["sigs"]}, {})
    with pytest.raises(ObjectMissing, match=f"archives/{one}/index was replaced meanwhile"):
        repository.settle([one], {}, {one: 2})
    os.unlink(on_disk(repository.storage, f"archives/{one}/data.1"))
    for adopted, written in (([one], {}), ([], {one: ["data"]})):
        with pytest.raises(ObjectMissing, match=f"archives/{one}/data is gone"):
            repository.settle(adopted, written, {})
    repository.remove(other)
    repository.remove(other)
    assert repository.archive_ids() == [one]
    with pytest.raises(ObjectMissing, match=f"archives/{other}/index is gone"):
        repository.settle([other], {}, {})


def test_an_archive_is_as_old_as_its_first_index(repository: Repository, two: list[str]) -> None:
    path = on_disk(repository.storage, f"archives/{two[0]}/index.1")
    with repository.lock(SHARED) as lock:
        made = os.stat(on_disk(repository.storage, f"locks/{lock.name}")).st_mtime - 500
        os.utime(path, (made, made))
        assert repository.age(two[0], lock) == pytest.approx(500, abs=1)
        assert repository.age("none0000.0", lock) == float("inf")


def test_files_that_have_no_name_are_let_go(repository: Repository, two: list[str]) -> None:
    opened = reopened(repository)
    (archive, _), root = two, Path(os.fsdecode(repository.path))
    held = opened.archive(archive)
    assert held.header
    folder, locks = root / "archives" / archive, root / "locks"
    put_generation(folder / "index.1", 2)
    os.unlink(folder / "index.1")
    os.utime(locks, (5, 5))
    opened.drop_replaced()
    assert held.generation == 2
    put_generation(folder / "index.2", 3)
    os.unlink(folder / "index.2")
    opened.drop_replaced()  # nobody worked here since
    assert held.generation == 2
    (locks / "lock").write_bytes(b"")
    os.utime(locks, (6, 6))
    opened.drop_replaced()
    assert held.generation == 3
    put_generation(folder / "index.3", 4)
    os.unlink(folder / "index.3")
    opened.drop_replaced()  # somebody may be at work
    assert held.generation == 4


def test_beside_backups_alone_nothing_far_away_is_looked_at_again(
    repository: Repository, two: list[str]
) -> None:
    """They replace nothing; who prunes, or cannot be told, may."""
    place = FarStorage(LocalStorage(repository.path))
    opened = Repository.open(place)
    assert opened.archive(two[0]).header
    for kind, again in (("shared", 0), ("prune", 1)):
        with reopened(repository).lock(kind):
            opened.drop_replaced()
            place.requests.clear()
            opened.drop_replaced()
            assert [one.kind for one in place.requests.made].count("survey") == again


def test_later_generations_are_looked_for(repository: Repository, two: list[str]) -> None:
    opened = reopened(repository)
    assert not opened.refresh()
    for archive in two:
        assert opened.archive(archive).header
    era = opened.era
    assert not opened.refresh()
    assert opened.era == era
    folder = Path(os.fsdecode(repository.path)) / "archives" / two[1]
    put_generation(folder / "index.1", 2)
    assert opened.refresh()
    assert opened.era == era + 1
    assert [opened.archive(archive).generation for archive in two] == [1, 2]


def test_what_was_changed_becomes_durable(
    repository: Repository, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(os.fsdecode(repository.path)) / "archives" / two[1]
    put_generation(folder / "index.1", 2)
    synced: list[str] = []
    monkeypatch.setattr(BundledStorage, "sync", lambda _, folders: synced.extend(folders))
    repository.settle_changes()
    assert synced == ["forgotten", "points", "bundles", f"archives/{two[1]}"]


@pytest.mark.damaged
def test_with_a_lock_points_and_bundles_are_read_anew(
    repository: Repository, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, forgotten = reopened(repository), []
    point_id = two[0].rpartition(".")[0]
    assert opened.points.get(point_id)
    os.unlink(on_disk(repository.storage, f"points/{point_id}"))
    assert opened.points.get(point_id)  # as it was read before
    monkeypatch.setattr(BundledStorage, "forget", lambda _: forgotten.append(1))
    with opened.lock(SHARED), pytest.raises(PointNotFound):
        opened.points.get(point_id)
    assert forgotten == [1]
