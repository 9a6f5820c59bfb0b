"""``ibtfs repair``: from a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ibtfs.errors import StorageFull
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.upload import LocalUpload
from tests.support.commands import run, run_json


def test_from_a_copy(repo: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(repo, copy)
    lost = sorted(repo.glob("archives/*/index.1"))
    for path in lost:
        path.unlink()
    (repo / "ibtfs.json").unlink()
    foreseen = run("repair", repo, "--from", copy, "--dry-run", code=10)
    assert "not an ibtfs repository" in foreseen.stderr
    answer = run_json("repair", repo, "--from", copy)
    names = [str(path.relative_to(repo)) for path in lost]
    assert answer["healed"] == dict.fromkeys(["ibtfs.json", *names], "taken from the copy")
    assert answer["damages"] == []
    assert run("repair", repo, "--from", copy).stdout == "No damage\n"
    assert run("check", "--read-data", repo).stdout.startswith("No damage: 2 points")


def test_some_is_healed_and_some_is_lost(repo: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(repo, copy)
    first, second = sorted(repo.glob("archives/*/index.1"))
    for path in (first, second, copy / second.relative_to(repo)):
        data = bytearray(path.read_bytes())
        data[40] ^= 1
        path.write_bytes(data)
    run("repair", repo, "--from", copy, "--dry-run", code=3)
    answer = run_json("repair", repo, "--from", copy, code=3)
    assert list(answer["healed"]) == [str(first.relative_to(repo))]
    assert answer["damages"] != []
    assert "left: lost" in run("repair", repo, "--from", copy, code=1).stderr


def test_not_from_itself(repo: Path) -> None:
    assert "itself" in run("repair", repo, "--from", repo, code=2).stderr


def test_a_point_that_finds_no_room_is_told(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(repo, copy)
    lost = min(repo.glob("points/*"))
    lost.unlink()
    replace = LocalStorage.replace

    def full(storage: LocalStorage, name: str) -> LocalUpload:
        if name.startswith("points/"):
            raise StorageFull("No space left in the repository")
        return replace(storage, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "replace", full)
        told = run("repair", repo, "--from", copy, code=1).stderr
    assert "No space left" in told
    assert "not all" in told
    run("repair", "-q", repo, "--from", copy)
    assert lost.exists()
