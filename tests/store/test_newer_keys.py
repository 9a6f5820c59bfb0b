"""Keys that were made since a repository was opened: found, and nothing that a storage makes up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import StorageFailed
from ibtfs.sealing.slots import Stretching
from ibtfs.store import newer_keys
from ibtfs.store.keyring import NAMES_LIMIT, Secret
from ibtfs.store.newer_keys import AGAIN_SECONDS, NewerKeys
from ibtfs.store.storage.base import StoredObject
from ibtfs.store.storage.local import LocalStorage
from tests.support.sealing import QUICK, SECRET, changes_of, create_sealed, forge

NONE = b"\0" * 8


class Counted(LocalStorage):
    """A folder that tells what was asked of it; keys *vanish* once they were listed."""

    def __init__(self, root: bytes) -> None:
        super().__init__(root)
        self.listed, self.opened = 0, list[str]()
        self.is_failing = False
        self.vanishing: list[Path] = []

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        if self.is_failing:
            raise StorageFailed("keys/: the cable was pulled out")
        self.listed += 1
        found = super().list(folder, unfinished=unfinished)
        for path in self.vanishing:
            path.unlink()
        self.vanishing = []
        return found

    def open(self, name: str) -> StoredObject:
        self.opened.append(name)
        return super().open(name)


class Reader:
    """Who opened the repository at *path* at first, by *secret*."""

    def __init__(self, path: Path, secret: Secret = SECRET) -> None:
        repository, changes = changes_of(path, secret)
        self.now, self.folder = 1000.0, path / "keys"
        self.storage = Counted(os.fsencode(path))
        self.newer = NewerKeys(self.storage, repository.id, changes._found, lambda: self.now)

    def masters(self, sought: bytes | str = NONE) -> int:
        return len(self.newer.seek(sought).masters)

    def asked(self) -> tuple[int, int]:
        """How often it listed and opened anything since this was asked last."""
        found = self.storage.listed, len(self.storage.opened)
        self.storage.listed, self.storage.opened = 0, []
        return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_sealed(tmp_path / "repo")
    return tmp_path / "repo"


@pytest.fixture
def reader(path: Path) -> Reader:
    return Reader(path)


def test_newer_keys_are_read_once(path: Path, reader: Reader) -> None:
    changes_of(path)[1].rotate()
    assert reader.masters() == 2
    assert reader.asked() == (1, 1)  # the second copy is not newer any more
    assert [reader.masters(known) for known in reader.newer.seek(NONE).masters] == [2, 2]
    assert reader.asked() == (0, 0)


def test_what_is_not_there_is_not_looked_for_each_time(path: Path, reader: Reader) -> None:
    for _ in range(5):
        assert reader.masters() == 1
    assert reader.asked() == (1, 0)
    assert reader.masters(b"another.") == 1
    assert reader.asked() == (1, 0)
    changes_of(path)[1].rotate()
    assert reader.masters() == 1
    reader.now += AGAIN_SECONDS
    assert reader.masters() == 2


def test_what_a_storage_makes_up_is_read_once_and_opened_by_nobody(
    path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes_of(path)[1].rotate()
    forge(reader.folder, reader.newer._repository, 99, 60, Stretching(9, 4, 1 << 20))
    work: list[object] = []
    monkeypatch.setattr("ibtfs.sealing.slots.stretch", lambda *_, **how: work.append(how))
    older = {name: (reader.folder / name).read_bytes() for name in os.listdir(reader.folder)}
    for name, data in older.items():
        (reader.folder / f"98.{os.urandom(8).hex()}").write_bytes(data)  # not what its name says
        (reader.folder / f"97.{os.urandom(8).hex()}").write_bytes(data[:-1])
    assert reader.masters() == 2
    assert not reader.newer.is_lost
    reader.asked()
    for number in range(50):
        assert reader.masters(b"%8d" % number) == 2
    assert reader.asked() == (50, 0)
    assert work == []


def test_so_much_is_read_and_no_more(
    path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert NAMES_LIMIT == 4096
    monkeypatch.setattr(newer_keys, "NAMES_LIMIT", 20)
    for number in range(30):
        (reader.folder / f"{number + 5}.{os.urandom(8).hex()}").write_bytes(b"")
        assert reader.masters(b"%8d" % number) == 1
    assert reader.asked() == (30, 20)


def test_keys_that_are_changed_once_more_while_they_are_read(path: Path, reader: Reader) -> None:
    changes_of(path)[1].rotate()
    passing = {name: (reader.folder / name).read_bytes() for name in os.listdir(reader.folder)}
    changes_of(path)[1].rotate()
    for name, data in passing.items():
        (reader.folder / name).write_bytes(data)
    newest = [one for one in reader.folder.iterdir() if one.name not in passing]
    saved = [(one, one.read_bytes()) for one in newest]
    for one in newest:
        one.unlink()
    reader.storage.vanishing = [reader.folder / name for name in passing]

    class Later(Counted):
        def open(self, name: str) -> StoredObject:
            for one, data in saved:
                one.write_bytes(data)
            return super().open(name)

    reader.storage.__class__ = Later
    assert reader.masters() == 3


def test_a_storage_that_fails_is_asked_again(path: Path, reader: Reader) -> None:
    changes_of(path)[1].rotate()
    reader.storage.is_failing = True
    with pytest.raises(StorageFailed, match="cable"):
        reader.masters()
    reader.storage.is_failing = False
    assert reader.masters() == 2


def test_a_key_that_was_removed_is_lost_though_older_ones_are_put_back(path: Path) -> None:
    other = Secret("file", b"other")
    slot = changes_of(path)[1].add(other, "", QUICK)
    reader = Reader(path, other)
    before = {name: (reader.folder / name).read_bytes() for name in os.listdir(reader.folder)}
    changes_of(path)[1].remove(slot.id)
    changes_of(path)[1].rotate()
    assert reader.masters() == 1
    assert reader.newer.is_lost
    for name, data in before.items():
        (reader.folder / name).write_bytes(data)
    reader.now += AGAIN_SECONDS
    assert reader.masters() == 1
    assert reader.newer.is_lost
