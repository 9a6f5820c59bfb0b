"""The sweep, step by step: what goes, in which order, and what is told if something cannot."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ibtfs.errors import StorageFailed, StorageFull
from ibtfs.format.compression import Codec
from ibtfs.store import layout
from ibtfs.store.archives.rewriter import FileRewriter
from ibtfs.store.protection.keeping import Kept
from ibtfs.store.removal.plan import ArchivePlan
from ibtfs.store.removal.sizes import Freed
from ibtfs.store.removal.spans import Spans
from ibtfs.store.removal.sweep import Sweeper, Swept
from ibtfs.store.removal.weights import Weights
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalStorage
from tests.support.removal import forget, pruned
from tests.support.repositories import back_up, create, damages, reopened, the_point


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    return create(fast_path / "repository")


@pytest.fixture
def archive(repository: Repository, fast_path: Path) -> str:
    """An archive with data and digests of slabs."""
    source = fast_path / "source"
    source.mkdir()
    (source / "file").write_bytes(random.Random(1).randbytes(200_000))
    return the_point(back_up(repository, source)).state.archive


def folder(repository: Repository, archive: str) -> Path:
    return Path(os.fsdecode(repository.path)) / "archives" / archive


def failing(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """Have some names not be deleted; what is deleted, in order."""
    deleted: list[str] = []
    real = LocalStorage.delete

    def delete(storage: LocalStorage, name: str) -> None:
        base = name.rpartition("/")[2]
        if base in names:
            raise StorageFailed(f"{name}: busy")
        deleted.append(base)
        real(storage, name)

    monkeypatch.setattr(LocalStorage, "delete", delete)
    return deleted


def size_without_parity(place: Path) -> int:
    return sum(path.stat().st_size for path in place.iterdir() if "parity" not in path.name)


@pytest.mark.damaged
def test_what_is_left_of_an_archive_goes_its_mark_last(
    repository: Repository, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder(repository, archive)
    for name in ("index.2", "sigs.1", "data.1.parity.10"):
        (place / name).write_bytes(b"x" * 10)
    size = size_without_parity(place)
    assert Sweeper(repository).removed() == []
    repository.remove(archive)
    assert Sweeper(repository).removed() == [archive]
    with monkeypatch.context() as patch:
        failing(patch, "data.1")
        swept = Sweeper(repository).clear(archive)
    assert swept.failed == f"archives/{archive}/data.1: busy"
    assert layout.REMOVED in os.listdir(place)
    gone = size - size_without_parity(place)
    assert swept == Swept(gone, 0, swept.failed)
    deleted = failing(monkeypatch)
    swept = Sweeper(repository).clear(archive)
    assert swept == Swept(size - gone)
    assert deleted[-1] == layout.REMOVED
    assert not place.exists()
    assert Sweeper(repository).removed() == []
    assert Sweeper(repository).clear(archive) == Swept(0, 0, "", is_full=False)


@pytest.mark.damaged
def test_indexes_go_first_of_what_was_removed(
    repository: Repository, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("index.2", "aaa", "index.1.parity.10"):
        (folder(repository, archive) / name).write_bytes(b"x")
    repository.remove(archive)
    deleted = failing(monkeypatch)
    Sweeper(repository).clear(archive)
    first = [name.startswith("index") for name in deleted]
    assert first == sorted(first, reverse=True)
    assert sum(first) == 3


@pytest.mark.damaged
def test_earlier_generations_and_their_parity_go(
    repository: Repository, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder(repository, archive)
    for _ in range(2):
        index = repository.archive(archive).file("index")
        with FileRewriter(
            repository.storage, repository.keys, f"archives/{archive}/index", index, Codec()
        ) as file:
            for stream in index.tables:
                file.copy_all(stream)
            file.finish()
        repository.archive(archive).refresh()
    (place / "index.2").write_bytes(b"x" * 7)
    (place / "data.1.parity.10").write_bytes(b"x")
    for number in (1, 2, 3):
        (place / f"index.{number}.parity.10").write_bytes(b"x" * 5)
    size = (place / "index.1").stat().st_size
    with monkeypatch.context() as patch:
        failing(patch, "index.1")
        swept = Sweeper(repository).drop_earlier(archive)
    assert swept == Swept(7, 0, f"archives/{archive}/index.1: busy")
    assert Sweeper(repository).drop_earlier(archive) == Swept(size)
    assert sorted(os.listdir(place)) == [
        "data.1", "data.1.parity.10", "index.3", "index.3.parity.10",
    ]  # fmt: skip
    assert Sweeper(repository).drop_earlier(archive) == Swept()


@pytest.fixture
def wasteful(repository: Repository, fast_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An archive whose data holds twice what its index needs, and is to be swept."""
    source = fast_path / "source"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_bytes(random.Random(name).randbytes(100_000))
    first = the_point(back_up(repository, source))
    (source / "b").unlink()
    back_up(repository, source)
    forget(repository, [first])
    with monkeypatch.context() as patch:
        patch.setattr(Sweeper, "sweep", lambda *_, **__: Swept())
        assert pruned(repository).failed == []
    return first.state.archive


def test_files_are_written_anew_without_what_nobody_needs(
    repository: Repository, wasteful: str
) -> None:
    place = folder(repository, wasteful)
    size = (place / "data.1").stat().st_size
    sweeper = Sweeper(reopened(repository))
    assert sweeper.wasteful(wasteful) == ["data"]
    for most in (0, 50_000):
        swept = Sweeper(reopened(repository)).sweep(wasteful, most=most)
        assert (swept.written, (place / "data.1").exists()) == (0, True)
    swept = sweeper.sweep(wasteful, most=150_000)
    written = (place / "data.2").stat().st_size
    assert swept.written == written
    assert 100_000 < written < 101_000
    assert swept.freed >= size
    assert (swept.failed, swept.is_full) == ("", False)
    assert not (place / "data.1").exists()
    assert Sweeper(reopened(repository)).wasteful(wasteful) == []
    assert Sweeper(reopened(repository), all_of_it=True).wasteful(wasteful) == []
    assert Sweeper(reopened(repository)).sweep(wasteful) == Swept()
    assert damages(repository) == []


@pytest.mark.parametrize("kind", [StorageFull, StorageFailed])
def test_what_could_not_be_written_is_told(
    repository: Repository, wasteful: str, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def refused(*_: object) -> Any:
        raise kind("told so")

    with monkeypatch.context() as patch:
        patch.setattr(FileRewriter, "finish", refused)
        swept = Sweeper(reopened(repository)).sweep(wasteful)
    assert (swept.failed, swept.written) == ("told so", 0)
    assert swept.is_full is (kind is StorageFull)
    assert [path.name for path in folder(repository, wasteful).glob("data*")] == ["data.1"]
    with monkeypatch.context() as patch:
        failing(patch, "data.1")
        swept = Sweeper(reopened(repository)).sweep(wasteful)
    assert swept.failed == f"archives/{wasteful}/data.1: busy"
    assert swept.written > 0
    assert Sweeper(reopened(repository)).sweep(wasteful).failed == ""
    assert damages(repository) == []


def test_a_first_index_needs_all_of_its_files(repository: Repository, archive: str) -> None:
    assert Sweeper(repository, all_of_it=True).wasteful(archive) == []


def test_what_was_not_done_counts_as_nothing() -> None:
    assert Swept() == Swept(freed=0, written=0, failed="", is_full=False)
    assert vars(Kept()) == vars(Kept(files=0, written=0, failed=[]))
    assert Freed(5, 3) == Freed(size=5, freed=3, loses=False)
    plain = ArchivePlan("a", bytearray(), bytearray())
    assert plain == replace(plain, is_fixed=False, in_use=False, shells={}, rebuilt={})
    weights = Weights(Spans([]), [])
    nothing = replace(weights, total=0, unknown=0.0, contents=0, content_bytes=0, payload_bytes=0,
                      payload_stored=0.0)  # fmt: skip
    assert weights == nothing
    assert weights.unneeded == 0
    assert replace(weights, total=50, unknown=9.0, by_span=[3.0, 8.0]).unneeded == 30
    assert replace(weights, total=50, unknown=9.0, by_span=[30.0, 18.0]).unneeded == 0
