"""The folder of caches on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibtfs.cli.cache_folder import cache_folder


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder() == bytes(tmp_path / "c" / "ibtfs")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == bytes(tmp_path / ".cache" / "ibtfs")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder() == b""
