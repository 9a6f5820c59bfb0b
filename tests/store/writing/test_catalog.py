"""The catalog of digests: beside other processes, which forget and take back; and damaged."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from ibtfs.errors import ObjectMissing
from ibtfs.format.compression import Codec
from ibtfs.format.digests import SLAB
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.contents.slabs import kept_of
from ibtfs.store.repository import Repository
from ibtfs.store.writing.catalog import Catalog
from ibtfs.store.writing.draft import Draft
from ibtfs.store.writing.run import RunWriter
from tests.store.writing.test_draft import slabs_of, writing
from tests.support.generations import put_generation
from tests.support.plain import digest as digest_of
from tests.support.plain import slab_digest
from tests.support.repositories import back_up, reopened, the_point
from tests.support.trees import make_tree


def test_the_catalog_takes_in_again_what_another_process_forgot(
    repository: Repository, tmp_path: Path
) -> None:
    """Another, which looked at the archives before this one's was there, takes it for gone."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("something to be found\n")
    back_up(repository, tmp_path / "source")
    digest = blake3(b"something to be found\n").digest()
    with Catalog(repository, os.fsencode(tmp_path / "cache")) as catalog:
        found = list(catalog.contents(digest, 0))
        assert len(found) == 1
        (path,) = (tmp_path / "cache").glob("*.sqlite")
        other = sqlite3.connect(path)
        with other:
            other.execute("DELETE FROM contents")
            other.execute("DELETE FROM archives")
        other.close()
        assert list(catalog.contents(digest, 0)) == []
        catalog.feed()
        assert list(catalog.contents(digest, 0)) == found


def test_no_point_refers_to_an_archive_that_was_taken_back(
    repository: Repository, tmp_path: Path
) -> None:
    """Another run's backup may fail after this one began to build upon its archive."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("contents\n")
    back_up(repository, tmp_path / "source")
    (whole,) = repository.archive_ids()
    with compression_pool() as pool, Catalog(repository, b"") as catalog:
        writer = RunWriter(
            repository, "20261121T101500Z_pc_0123456789", epoch=0, catalog=catalog,
            codec=Codec(), pool=pool,
        )  # fmt: skip
        writer.adopted.add(whole)
        writer.settle()
        gone = "20261121T101400Z_pc_9876543210.0"
        os.mkdir(tmp_path / "repository/archives" / gone)
        writer.adopted.add(gone)
        with pytest.raises(ObjectMissing, match="back up again"):
            writer.settle()
        os.rmdir(tmp_path / "repository/archives" / gone)


def test_no_point_is_built_on_an_index_that_was_replaced(
    repository: Repository, tmp_path: Path
) -> None:
    """What was found in it may be gone; also if a later one has been read meanwhile."""
    make_tree(tmp_path / "source", {"file": b"contents\n"})
    back_up(repository, tmp_path / "source")
    (name,) = repository.archive_ids()
    folder = tmp_path / "repository/archives" / name
    with compression_pool() as pool, Catalog(repository, b"") as catalog:
        writer = RunWriter(
            repository, "20261121T101500Z_pc_0123456789", epoch=0, catalog=catalog,
            codec=Codec(), pool=pool,
        )  # fmt: skip
        assert writer.find(blake3(b"contents\n").digest(), 9)
        writer.settle()
        put_generation(folder / "index.1", 2)
        with pytest.raises(ObjectMissing, match=r"index was replaced .* back up again"):
            writer.settle()
        assert repository.refresh()
        assert writer.find(blake3(b"contents\n").digest(), 9)
        with pytest.raises(ObjectMissing, match=r"index was replaced .* back up again"):
            writer.settle()
        (folder / "index.2").unlink()


@pytest.mark.parametrize("offset", range(0, 12_288, 257))
def test_a_byte_of_the_catalog_changes(tmp_path: Path, repository: Repository, offset: int) -> None:
    cache = tmp_path / "cache"
    make_tree(tmp_path / "source", {"a": b"1" * 1000})
    back_up(repository, tmp_path / "source", cache=os.fsencode(cache))
    make_tree(tmp_path / "second", {"b": b"2" * 1000})
    back_up(repository, tmp_path / "second", cache=os.fsencode(cache))
    (path,) = cache.glob("*.sqlite")
    data = bytearray(path.read_bytes())
    data[offset % len(data)] ^= 0xFF
    path.write_bytes(data)
    make_tree(tmp_path / "third", {"c": b"1" * 1000})
    the_point(back_up(repository, tmp_path / "third", cache=os.fsencode(cache)))


def test_names_of_the_catalog_that_are_not_text(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"a": b"1" * 1000})
    back_up(repository, tmp_path / "source", cache=os.fsencode(tmp_path))
    with Catalog(repository, os.fsencode(tmp_path)) as catalog:
        catalog._opened().execute("UPDATE archives SET name = CAST(x'ff2e30' AS TEXT)")
    make_tree(tmp_path / "second", {"b": b"1" * 1000})
    the_point(back_up(repository, tmp_path / "second", cache=os.fsencode(tmp_path)))


def test_a_byte_of_the_schema_of_the_catalog_changes(
    tmp_path: Path, repository: Repository
) -> None:
    """SQLite's message has it, which is no text then."""
    cache = tmp_path / "cache"
    for name in ("first", "second"):
        make_tree(tmp_path / name, {"a": name.encode() * 1000})
        back_up(repository, tmp_path / name, cache=os.fsencode(cache))
    (path,) = cache.glob("*.sqlite")
    spoilt = path.read_bytes().replace(b"TABLE files", b"TABL\xbd files")
    assert spoilt != path.read_bytes()
    path.write_bytes(spoilt)
    make_tree(tmp_path / "third", {"a": b"3" * 1000})
    the_point(back_up(repository, tmp_path / "third", cache=os.fsencode(cache)))


@pytest.fixture
def two(repository: Repository, tmp_path: Path) -> list[str]:
    """Archives of two points, the second of which is built on the first."""
    (tmp_path / "source").mkdir()
    names = []
    for number in range(2):
        (tmp_path / "source" / f"{number}").write_bytes(b"%d" % number * 100_000)
        names.append(the_point(back_up(repository, tmp_path / "source")).state.archive)
    return names


def found(catalog: Catalog, number: int, epoch: int = 0) -> list[tuple[str, int]]:
    return list(catalog.contents(digest_of(b"%d" % number * 100_000), epoch))


def test_contents_are_found_by_their_digests(
    repository: Repository, two: list[str], tmp_path: Path
) -> None:
    for folder in (b"", os.fsencode(tmp_path / "cache"), os.fsencode(tmp_path / "cache")):
        with Catalog(repository, folder) as catalog:
            assert [found(catalog, n) for n in (0, 1, 2)] == [[(two[0], 0)], [(two[1], 0)], []]
            assert found(catalog, 0, epoch=1) == []
            catalog.close()
    (path,) = (tmp_path / "cache").iterdir()
    assert path.name == f"{repository.id.hex()}.sqlite"
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.damaged
def test_it_knows_whether_files_are_lacking(
    repository: Repository, two: list[str], tmp_path: Path
) -> None:
    """Of what it has seen: without a folder it knows nothing."""
    cache = os.fsencode(tmp_path / "cache")

    def may_lack(folder: bytes = cache) -> bool:
        with Catalog(reopened(repository), folder) as catalog:
            return catalog.may_lack()

    assert may_lack(b"")
    assert not may_lack()
    archives = tmp_path / "repository" / "archives"
    for name in (f"{two[0]}/data.1", f"{two[0]}/index.1", f"{two[1]}/data.1"):
        if not (archives / name).exists():
            continue
        (archives / name).rename(tmp_path / "away")
        assert may_lack()
        (tmp_path / "away").rename(archives / name)
        assert not may_lack()
    index = archives / two[1] / "index.1"
    data = index.read_bytes()
    index.write_bytes(data[:-1])
    assert not may_lack()  # it was seen before
    (tmp_path / "cache" / f"{repository.id.hex()}.sqlite").unlink()
    assert may_lack()
    index.write_bytes(data)
    assert not may_lack()
    # the newest is not named by any other
    shutil.rmtree(archives / two[1])
    assert not may_lack()


@pytest.mark.damaged
def test_what_is_gone_or_pruned_is_forgotten(
    repository: Repository, two: list[str], tmp_path: Path
) -> None:
    cache, archives = os.fsencode(tmp_path / "cache"), tmp_path / "repository" / "archives"
    with Catalog(repository, cache) as catalog:
        assert found(catalog, 0)
    put_generation(archives / two[0] / "index.1", 2)
    shutil.rmtree(archives / two[1])
    with Catalog(reopened(repository), cache) as catalog:
        assert [found(catalog, 0), found(catalog, 1)] == [[(two[0], 0)], []]
        rows = catalog._opened().execute("SELECT name, generation FROM archives").fetchall()
        assert rows == [(two[0], 2)]
        named = catalog._opened().execute("SELECT name FROM named").fetchall()
        assert (two[0],) in named
        assert (two[1],) not in named
        (count,) = catalog._opened().execute("SELECT COUNT(*) FROM contents").fetchone()
        assert count == 1


def test_a_file_that_is_no_catalog_is_one_again(
    repository: Repository, two: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "cache" / f"{repository.id.hex()}.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"no catalog " * 1000)
    with Catalog(repository, os.fsencode(tmp_path / "cache")) as catalog:
        assert found(catalog, 1) == [(two[1], 0)]
        assert not catalog.may_lack()
    assert path.read_bytes().startswith(b"SQLite format 3")


def test_one_that_somebody_else_keeps_is_done_without(
    repository: Repository, two: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, real = os.fsencode(tmp_path / "cache"), sqlite3.connect
    with Catalog(repository, cache) as catalog:
        assert found(catalog, 0)
    other = sqlite3.connect(tmp_path / "cache" / f"{repository.id.hex()}.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite3, "connect", lambda path, **k: real(path, **{**k, "timeout": 0}))
    with Catalog(repository, cache) as catalog:
        assert found(catalog, 1) == [(two[1], 0)]
        assert catalog.may_lack()
    other.close()
    monkeypatch.undo()
    with Catalog(repository, cache) as catalog:
        assert not catalog.may_lack()


@pytest.mark.parametrize(
    ("error", "is_kept"), [(sqlite3.DatabaseError, True), (sqlite3.OperationalError, False)]
)
def test_one_that_fails_while_it_is_used_is_made_anew(
    repository: Repository, two: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    error: type[Exception], is_kept: bool,
) -> None:  # fmt: skip
    """What SQLite cannot use goes; what it cannot have is done without."""
    cache, real, fails = os.fsencode(tmp_path / "cache"), Catalog._find, [1]

    def find(self: Catalog, *given: Any) -> Any:
        if fails:
            fails.pop()
            raise error("as if")
        return real(self, *given)

    with Catalog(repository, cache) as catalog:
        assert not catalog.may_lack()
        path = tmp_path / "cache" / f"{repository.id.hex()}.sqlite"
        catalog._opened().execute("PRAGMA user_version = 7")
        monkeypatch.setattr(Catalog, "_find", find)
        assert found(catalog, 0) == [(two[0], 0)]
        assert fails == []
        assert catalog.may_lack() is not is_kept
        assert found(catalog, 1) == [(two[1], 0)]
        catalog.feed()
    with contextlib.closing(sqlite3.connect(path)) as stored:
        assert stored.execute("PRAGMA user_version").fetchone() == (0 if is_kept else 7,)
    with Catalog(repository, b"") as memory:
        memory.feed()  # nothing was asked yet
        assert memory._connection is None


def test_large_contents_are_found_by_their_first_slab(
    repository: Repository, tmp_path: Path
) -> None:
    """That which is not zeros."""
    data = bytes(SLAB) + random.Random(1).randbytes(4 * SLAB)
    with writing(repository) as writer:
        draft = Draft(writer)
        draft.append(data)
        ref, _ = draft.finish(digest_of(data), len(data), slabs_of(data))
        other = Draft(writer)
        other.append(data[SLAB:])
        other.finish(digest_of(data[SLAB:]), 4 * SLAB)  # has no slabs in its vault
    for folder in (b"", os.fsencode(tmp_path / "cache"), os.fsencode(tmp_path / "cache")):
        with Catalog(reopened(repository), folder) as catalog:
            assert list(catalog.heads(kept_of(slab_digest(data[SLAB : 2 * SLAB])), 0)) == [ref]
            assert list(catalog.heads(kept_of(slab_digest(data[SLAB : 2 * SLAB])), 1)) == []
            assert list(catalog.heads(kept_of(slab_digest(data[2 * SLAB : 3 * SLAB])), 0)) == []
            assert list(catalog.contents(digest_of(data), 0)) == [ref]
    with writing(repository, 1) as writer:
        assert writer.heads(kept_of(slab_digest(data[SLAB : 2 * SLAB]))) == [ref]
        assert writer.find(digest_of(data), len(data)) == ref
        assert writer.find(digest_of(data), len(data) - 1) is None
        assert writer.find(digest_of(b"none"), 4) is None
