"""Where the local cache lies, and where it may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.cli.cache_folder import cache_folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_it_is_made_when_it_is_wanted(home: Path) -> None:
    assert cache_folder(make=False) == b""
    made = cache_folder()
    assert made == os.fsencode(home.resolve() / ".cache/ibtfs")
    assert (home / ".cache/ibtfs/CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d")
    assert cache_folder(make=False) == made


def test_a_home_that_does_not_exist_is_not_made(home: Path) -> None:
    home.rmdir()
    assert cache_folder() == b""
    assert not home.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("place", ["home", "home/.cache", "home/.cache/ibtfs"])
def test_root_with_the_home_of_somebody_else_does_without(home: Path, place: str) -> None:
    (home / ".cache/ibtfs").mkdir(parents=True)
    os.chown(home.parent / place, 1000, 1000)
    assert cache_folder() == b""


@pytest.mark.parametrize("place", ["home", "home/.cache", "home/.cache/ibtfs"])
def test_a_folder_that_others_may_write_to_is_not_used(home: Path, place: str) -> None:
    (home / ".cache/ibtfs").mkdir(parents=True)
    (home.parent / place).chmod(0o777)
    assert cache_folder() == b""


def test_a_link_is_followed_to_where_it_leads(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (home / ".cache").symlink_to(tmp_path / "elsewhere")
    assert cache_folder() == os.fsencode((tmp_path / "elsewhere/ibtfs").resolve())


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder() == bytes(tmp_path / "c" / "ibtfs")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == bytes(tmp_path / ".cache" / "ibtfs")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder() == b""
