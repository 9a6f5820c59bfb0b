"""What a backup says that it did: the counts of files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from ibtfs.store.repository import Repository
from tests.support.commands import run
from tests.support.repositories import damages


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    (folder / "sub").mkdir(parents=True)
    for number in range(3):
        (folder / "sub" / f"{number}.txt").write_text(str(number))
    return folder


def test_moved_files_are_counted_once(tmp_path: Path, source: Path) -> None:
    repository, counts = tmp_path / "repository", ("new", "changed", "unchanged", "gone", "moved")
    (source / "a" / "deep").mkdir(parents=True)
    (source / "z").mkdir()
    for number in range(10):
        (source / "a" / "deep" / str(number)).write_text(str(number))
        (source / "a" / f"top {number}").write_text(str(number))
        (source / "z" / str(number)).write_text(str(number))
    old = 100 * 365 * 86400
    for folder in (source, source / "a", source / "a" / "deep", source / "z"):
        os.utime(folder, (old // 2, old // 2))

    def counted() -> list[int]:
        answer = json.loads(run("backup", "--json", source, repository).stdout)
        return [answer["points"][0][key] for key in counts]

    assert counted() == [33, 0, 0, 0, 0]
    (source / "a").rename(source / "zz")
    (source / "z").rename(source / "sub" / "z")
    assert counted() == [0, 0, 3, 0, 30]
    assert counted() == [0, 0, 33, 0, 0]
    # one that was in a moved folder is gone, another is new; times as a program may set them
    (source / "zz").rename(source / "b")
    (source / "b" / "deep" / "3").unlink()
    (source / "b" / "deep" / "new").write_text("new")
    os.utime(source / "b" / "deep", (old // 2, old // 2))
    assert counted() == [1, 0, 13, 1, 19]
    shutil.rmtree(source / "b")
    assert counted() == [0, 0, 13, 20, 0]
    (source / "sub").rename(source / "renamed")
    told = run("backup", source, repository).stdout
    assert "  0 new, 0 changed, 0 unchanged, 0 gone, 13 moved; 13 files in" in told
    assert damages(Repository.open(os.fsencode(repository))) == []
