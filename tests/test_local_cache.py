"""The local cache: as good as what it is made from, and never believed when it is not."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3
from conftest import back_up, create, damages

from ibtfs.errors import ObjectMissing
from ibtfs.format.compression import Codec
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.manifests import LEAST
from ibtfs.store.points import PointList
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalObject, LocalStorage
from ibtfs.store.writing.catalog import Catalog
from ibtfs.store.writing.run import RunWriter


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of many points."""
    place = tmp_path_factory.mktemp("points")
    source = place / "source"
    source.mkdir()
    made = create(place / "repository")
    for number in range(LEAST + 4):
        (source / "file").write_text(f"{number}\n")
        back_up(made, source, comment=f"no. {number} \udcff")
    assert damages(made) == []
    return place / "repository"


def reads(monkeypatch: pytest.MonkeyPatch, path: Path, cache: Path) -> tuple[PointList, int]:
    """The points, and how many manifests were read for them."""
    names: list[str] = []
    real = LocalStorage.open

    def counted(self: LocalStorage, name: str) -> LocalObject:
        names.append(name)
        return real(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "open", counted)
        repository = Repository.open(os.fsencode(path), cache_folder=os.fsencode(cache))
        points = repository.points()
    repository.remember_points()
    return points, sum(name.startswith("points/") for name in names)


def test_second_time_no_manifest_is_read(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Repository.open(os.fsencode(many)).points()
    assert reads(monkeypatch, many, tmp_path) == (expected, LEAST + 4)
    assert reads(monkeypatch, many, tmp_path) == (expected, 0)
    (copy,) = tmp_path.iterdir()
    assert copy.stat().st_mode & 0o077 == 0


@pytest.mark.damaged
def test_a_manifest_that_changed_is_read(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "repository"
    subprocess.run(["cp", "-a", many, copied], check=True)
    cache = tmp_path / "cache"
    cache.mkdir()
    points, _ = reads(monkeypatch, copied, cache)
    hit, gone, *_ = [copied / "points" / point.id for point in points.points]
    data = bytearray(hit.read_bytes())
    data[-1] ^= 1
    hit.write_bytes(data)
    gone.unlink()
    left, count = reads(monkeypatch, copied, cache)
    assert left.points == points.points[2:]
    assert (list(left.damaged), count) == ([hit.name], 1)


def test_a_damaged_copy_is_not_used(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = reads(monkeypatch, many, tmp_path)
    (copy,) = tmp_path.iterdir()
    whole = copy.read_bytes()
    for damaged in (b"", whole[:20], whole[:-1], whole[:-1] + b"!", b"!" + whole[1:], whole + b"!"):
        copy.write_bytes(damaged)
        assert reads(monkeypatch, many, tmp_path) == (expected, LEAST + 4)
        copy.unlink(missing_ok=True)
        copy.write_bytes(whole)
        assert reads(monkeypatch, many, tmp_path) == (expected, 0)


def test_a_manifest_that_changes_while_it_is_used(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before it was damaged does not hide the damage."""
    copied, cache = tmp_path / "repository", tmp_path / "cache"
    subprocess.run(["cp", "-a", many, copied], check=True)
    cache.mkdir()
    repository = Repository.open(os.fsencode(copied), cache_folder=os.fsencode(cache))
    first, *_ = repository.points().points
    manifest = copied / "points" / first.id
    manifest.write_bytes(manifest.read_bytes()[:-1])
    repository.remember_points()
    points, count = reads(monkeypatch, copied, cache)
    assert (list(points.damaged), count) == ([first.id], 1)


def test_a_copy_that_moved_is_written_anew(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All inodes are others, then; and rows of another shape are as good as none."""
    expected, _ = reads(monkeypatch, many, tmp_path)
    copied = tmp_path / "repository"
    subprocess.run(["cp", "-a", many, copied], check=True)
    assert reads(monkeypatch, copied, tmp_path) == (expected, LEAST + 4)
    assert reads(monkeypatch, copied, tmp_path) == (expected, 0)
    (copy,) = tmp_path.glob("*.points")
    with monkeypatch.context() as patch:
        patch.setattr("ibtfs.store.manifests.row_of_point", lambda point: (point.id, 1))
        copy.unlink()
        assert reads(monkeypatch, copied, tmp_path) == (expected, LEAST + 4)
    assert reads(monkeypatch, copied, tmp_path) == (expected, LEAST + 4)
    assert reads(monkeypatch, copied, tmp_path) == (expected, 0)


def test_the_commands_use_it(many: Path, tmp_path: Path) -> None:
    """A backup writes it, and goes on well with it; who only lists makes no folder."""

    def run(*words: str | Path) -> list[dict[str, object]]:
        line = [sys.executable, "-m", "ibtfs", *map(str, words), "--json"]
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        done = subprocess.run(line, env=environment, capture_output=True, check=True)
        points: list[dict[str, object]] = json.loads(done.stdout).get("points", [])
        return points

    copied = tmp_path / "repository"
    subprocess.run(["cp", "-a", many, copied], check=True)
    before = run("list", copied)
    assert not (tmp_path / "cache").exists()
    (tmp_path / "more").mkdir()
    run("backup", tmp_path / "more", copied)
    assert len(list((tmp_path / "cache/ibtfs").glob("*.points"))) == 1
    after = run("list", copied)
    assert after[:-1] == before
    assert after[-1]["source"] == "more"


# What several processes do to each other


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
