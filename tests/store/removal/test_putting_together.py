"""Putting archives together, step by step, where something cannot be read or removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.errors import ObjectMissing, StorageFailed
from ibtfs.store import layout
from ibtfs.store.lock import PRUNE, Lock
from ibtfs.store.removal.bundling import Bounds, Bundled, Bundler
from ibtfs.store.removal.held import Unit
from ibtfs.store.storage.bundled import BundledStorage
from ibtfs.store.storage.bundles import Bundles
from ibtfs.store.storage.local import LocalObject, LocalStorage
from tests.support.bundles import bundles, folders, make_versions
from tests.support.repositories import create, damages, on_disk, reopened

SOON = Bounds(least=2, age=-3600, tiers=(64 << 20,))


class Made:
    """A repository of four archives, each of one index, and the lock of who prunes it."""

    def __init__(self, path: Path) -> None:
        self.repository = create(path / "repository")
        make_versions(self.repository, path / "source", 4)
        self.ids = reopened(self.repository).archive_ids()
        self.opened = reopened(self.repository)
        self.lock: Lock = self.opened.lock(PRUNE)
        self.ticks = 0

    def bundler(self, **options: object) -> Bundler:
        return Bundler(self.opened, self.lock, SOON, tick=self.tick, **options)  # type: ignore[arg-type]

    def tick(self) -> None:
        self.ticks += 1

    def index(self, number: int) -> Path:
        path = on_disk(self.repository.storage, layout.archive_file(self.ids[number], "index", 1))
        return Path(path)

    def units(self) -> list[Unit]:
        return [Unit((name,), self.index(n).stat().st_size) for n, name in enumerate(self.ids)]


@pytest.fixture
def made(fast_path: Path) -> Iterator[Made]:
    found = Made(fast_path)
    yield found
    found.lock.release()


def test_all_become_one_and_go(made: Made) -> None:
    sizes = [made.index(n).stat().st_size for n in range(4)]
    done = list(made.bundler().run())
    (bundle,) = bundles(made.repository)
    assert done == [Bundled(), Bundled(4, bundle.stat().st_size, sum(sizes))]
    assert folders(made.repository) == []
    assert made.ticks == 8  # each was copied, and read again
    assert list(made.bundler().run()) == [Bundled()]
    assert list(made.bundler(all_of_it=True).run()) == [Bundled()]
    assert damages(made.repository) == []


def test_what_was_written_counts_against_what_may_be(made: Made) -> None:
    most = sum(made.index(n).stat().st_size for n in range(4))
    bundler = made.bundler(most=most)
    _, done = bundler.run()
    assert done.archives == 4
    assert bundler._left is not None
    assert bundler._left == most - done.written < 0


def test_files_that_lie_twice_go_if_they_are_alike(made: Made) -> None:
    before = [made.index(n).read_bytes() for n in range(4)]
    list(made.bundler().run())
    changed = before[1][:-1] + bytes([before[1][-1] ^ 1])
    for number, data in ((0, before[0]), (1, changed), (2, before[2] + b"x")):
        made.index(number).parent.mkdir()
        made.index(number).write_bytes(data)
    made.index(3).parent.mkdir()
    made.opened.forget_read()
    assert made.bundler()._drop_twice(made.ids) == len(before[0])
    assert folders(made.repository) == made.ids[1:3]


def test_an_archive_that_cannot_be_read_keeps_no_others_back(made: Made) -> None:
    path, units = made.index(1), made.units()
    path.rename(path.with_name("away"))
    path.symlink_to("nowhere")
    bundler = made.bundler()
    bundler._units = units[:2]
    done = bundler._put_together(bundler._units)
    assert done.archives == 0
    assert f"archives/{made.ids[1]}/index" in done.failed
    assert [unit.archives for unit in bundler._units] == [(made.ids[0],)]
    # one whose index is gone is none any more
    path.unlink()
    bundler._units = units[:2]
    done = bundler._put_together(bundler._units)
    assert done.failed == f"archives/{made.ids[1]}/index: is gone"
    assert [one.archives for one in made.bundler().run()] == [0, 3]


def test_a_file_of_which_less_comes_than_there_should_be(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalObject.read

    def cut(self: LocalObject, offset: int, size: int) -> bytes:
        data = real(self, offset, size)
        return data[:-1] if self.name.startswith(f"archives/{made.ids[2]}/") else data

    bundler = made.bundler()
    bundler._units = made.units()
    monkeypatch.setattr(LocalObject, "read", cut)
    done = bundler._put_together(bundler._units)
    assert "the disk gives less than it should" in done.failed
    assert [unit.archives for unit in bundler._units] == [
        (name,) for n, name in enumerate(made.ids) if n != 2
    ]
    assert bundles(made.repository) == []
    assert made.repository.storage.list(layout.BUNDLES, unfinished=True) == []


@pytest.mark.parametrize("all_of_it", [True, False])
def test_without_room_nothing_is_done(
    made: Made, monkeypatch: pytest.MonkeyPatch, all_of_it: bool
) -> None:
    monkeypatch.setattr(Bundler, "_is_room", lambda *_: False)
    (_, done) = made.bundler(all_of_it=all_of_it).run()
    told = "Small archives were not put together: too little room"
    assert done == Bundled(failed=told if all_of_it else "")
    assert folders(made.repository) == made.ids


def test_what_cannot_be_removed_is_told(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = LocalStorage.delete, [made.index(n).stat().st_size for n in range(4)]

    def failing(storage: LocalStorage, name: str) -> None:
        if made.ids[1] in name:
            raise StorageFailed(f"{name}: busy")
        real(storage, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "delete", failing)
        _, done = made.bundler().run()
    assert done.failed == f"archives/{made.ids[1]}/index.1: busy"
    assert (done.archives, done.freed) == (4, 0)
    assert done.written > sum(sizes)
    assert folders(made.repository) == made.ids[1:]
    assert sum(one.freed for one in made.bundler().run()) == sum(sizes[1:])


def test_a_bundle_that_cannot_be_read_takes_nothing_away(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bundles, "all", lambda _: [])
    with pytest.raises(StorageFailed, match="cannot be read, though it was just written"):
        list(made.bundler().run())
    monkeypatch.undo()
    assert folders(made.repository) == made.ids


def test_who_lost_his_lock_ages_nothing(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    monkeypatch.setattr(Lock, "verify", lambda lock: verified.append(lock.name))
    assert len(list(made.bundler()._in_folders())) == 4
    assert verified == [made.lock.name]
    young = Bundler(made.opened, made.lock, SOON._replace(age=3600))
    assert list(young._in_folders()) == []
    os.utime(made.index(2), (5, 5))
    assert [unit.archives for unit in young._in_folders()] == [(made.ids[2],)]
    size = made.index(2).stat().st_size
    for most, found in ((size, 0), (size + 1, 1)):
        bounded = Bundler(made.opened, made.lock, SOON._replace(age=3600, archive_size=most))
        assert len(list(bounded._in_folders())) == found


def test_an_object_that_is_gone_frees_nothing(made: Made) -> None:
    bundler = made.bundler()
    assert bundler._delete("bundles/0000000000000000") == 0
    size = made.index(0).stat().st_size
    assert bundler._delete(layout.archive_file(made.ids[0], "index", 1)) == size
    with pytest.raises(ObjectMissing):
        bundler._size(layout.archive_file(made.ids[0], "index", 1))
    assert isinstance(made.opened.storage, BundledStorage)
