"""What a mount sees to by itself: far away, which points there are."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ibtfs.store.repository import Repository
from ibtfs.store.storage import bundled, remembered
from ibtfs.store.storage.local import LocalStorage
from ibtfs.view import upkeep
from ibtfs.view.tree import RepositoryView
from ibtfs.view.upkeep import Upkeep
from tests.support.far import FarStorage, Requests
from tests.support.repositories import back_up
from tests.support.trees import make_tree


def test_nobody_who_browses_asks_for_points_far_away(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "RECENT_SECONDS", 1e9)
    monkeypatch.setattr(bundled, "LOOK_SECONDS", 1e9)
    make_tree(tmp_path / "source", {"a": b"1"})
    back_up(repository, tmp_path / "source")
    requests = Requests()
    opened = Repository.open(FarStorage(LocalStorage(repository.path), requests))
    view = RepositoryView(opened)
    assert len(view.sources()[b"source"].points) == 1
    back_up(repository, tmp_path / "source")
    requests.clear()
    for _ in range(100):
        assert len(view.sources()[b"source"].points) == 1
    assert requests.count == 0
    monkeypatch.setattr(upkeep, "FAR_SECONDS", 0.01)
    with Upkeep(opened):
        until = time.monotonic() + 60
        while len(view.sources()[b"source"].points) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_it_goes_on_whatever_fails(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks, looked_twice = [], threading.Event()

    def look_around() -> None:
        looks.append(1)
        if len(looks) > 1:
            looked_twice.set()
        raise ValueError("of all things")

    monkeypatch.setattr(repository, "look_around", look_around)
    monkeypatch.setattr(upkeep, "UPKEEP_SECONDS", 0.001)
    with Upkeep(repository):
        assert looked_twice.wait(60)
    assert "of all things" in caplog.text
