"""Copies of manifests kept on this machine: as good as these, and never believed when not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ibtfs.store.manifest_copies import LEAST
from ibtfs.store.points import PointList
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalObject, LocalStorage
from tests.support.repositories import back_up, create, damages


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
        points = repository.points.all()
    repository.points.remember()
    return points, sum(name.startswith("points/") for name in names)


def test_second_time_no_manifest_is_read(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Repository.open(os.fsencode(many)).points.all()
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
    first, last = bytes([whole[0] ^ 1]), bytes([whole[-1] ^ 1])
    for damaged in (
        b"", whole[:20], whole[:-1], whole[:-1] + last, first + whole[1:], whole + b"!",
    ):  # fmt: skip
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
    first, *_ = repository.points.all().points
    manifest = copied / "points" / first.id
    manifest.write_bytes(manifest.read_bytes()[:-1])
    repository.points.remember()
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
    for values in ((), (1, 0, 0, 0, ("host", b"/x", ""), 7, (), ("a.0", 0), *[()] * 13, "")):
        with monkeypatch.context() as patch:
            copies = "ibtfs.store.manifest_copies"
            patch.setattr(f"{copies}.row_of_point", lambda point, v=values: (point.id, *v))
            copy.unlink(missing_ok=True)
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
