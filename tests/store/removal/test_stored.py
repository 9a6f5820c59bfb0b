"""What goes because it lies in a bundle, too, is compared with what is stored there and here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.format.frames import STATES
from ibtfs.store import layout
from ibtfs.store.lock import PRUNE
from ibtfs.store.removal.bundling import Bounds, Bundled, Bundler
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.storage.local import LocalStorage
from tests.support.bundles import SOON, assert_whole, bundles, folders, make_versions
from tests.support.far import FarObject, FarStorage
from tests.support.repositories import create, damages, on_disk, reopened


class Spoiling(FarStorage):
    """A storage far away of which the first index comes spoilt."""

    spoilt = ""

    def shared_as(self, shared: bool) -> Spoiling:
        return self

    def open_end(self, name: str, most: int, size: int = -1) -> tuple[FarObject, bytes]:
        stored, end = super().open_end(name, most, size)
        if layout.is_index(name) and not self.spoilt:
            self.spoilt = name
            end = end[:60] + bytes([end[60] ^ 1]) + end[61:]
        return stored, end


def bundled(place: FolderStorage, bounds: Bounds = SOON, **options: bool) -> list[Bundled]:
    opened = Repository.open(place)
    with opened.lock(PRUNE) as lock:
        return list(Bundler(opened, lock, bounds, **options).run())


def path_of(repository: Repository, archive_id: str) -> Path:
    name = layout.archive_file(archive_id, layout.INDEX, 1)
    return Path(on_disk(repository.storage, name))


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    made = create(fast_path / "repository")
    make_versions(made, fast_path / "source", 5)
    return reopened(made)


@pytest.mark.damaged
def test_what_came_spoilt_replaces_nothing(repository: Repository) -> None:
    place = Spoiling(LocalStorage(repository.path))
    done = bundled(place)
    assert [place.spoilt in one.failed for one in done if one.failed] == [True]
    assert folders(repository) == [layout.archive_of(place.spoilt)]
    assert len(bundles(repository)) == 1
    assert_whole(repository)


@pytest.mark.damaged
def test_a_copy_is_not_what_is_stored(repository: Repository, fast_path: Path) -> None:
    """What is kept of a folder's index says nothing about that."""
    (fast_path / "cache").mkdir()
    name = repository.archive_ids()[0]
    place = FarStorage(LocalStorage(repository.path))
    opened = Repository.open(place, cache_folder=os.fsencode(fast_path / "cache"))
    assert opened.archive(name).file(layout.INDEX).table(STATES)
    path = path_of(repository, name)
    times = path.stat()
    spoil(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = path.read_bytes()
    with opened.lock(PRUNE) as lock:
        list(Bundler(opened, lock, SOON).run())
    assert folders(repository) == [name]
    assert path.read_bytes() == found


@pytest.mark.damaged
@pytest.mark.parametrize("is_far", [False, True])
def test_what_was_damaged_comes_along(repository: Repository, is_far: bool) -> None:
    """Into a bundle, and from there into another one."""
    local = LocalStorage(repository.path)
    place = FarStorage(local) if is_far else local
    spoil(path_of(repository, repository.archive_ids()[2]))
    assert damages(repository)
    assert not any(one.failed for one in bundled(place))
    assert folders(repository) == []
    (first,) = bundles(repository)
    repository.remove(repository.archive_ids()[0])
    assert not any(one.failed for one in bundled(place, all_of_it=True))
    (second,) = bundles(repository)
    assert first != second
    assert damages(repository)
