"""Places for commands: caches of their own, a source, a repository of two points."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import CHECKOUT
from tests.support.commands import ODD, run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("IBTFS_DEBUG", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"first\n")
    (folder / "sub" / "b.bin").write_bytes(bytes(range(256)) * 400)
    os.symlink("a.txt", folder / "link")
    (folder / os.fsdecode(ODD)).write_bytes(b"odd")
    return folder


@pytest.fixture
def repo(tmp_path: Path, source: Path) -> Path:
    """A repository with two points of `documents`."""
    path = tmp_path / "repo"
    run("backup", source, path, "--tag", "old")
    (source / "a.txt").write_bytes(b"first\nsecond\n")
    (source / "new.txt").write_bytes(b"new")
    run("backup", source, path, "--comment", "für alle")
    return path
