"""In which order archives may lose something."""

from __future__ import annotations

import os
import random
from pathlib import Path

from ibtfs.store.removal.order import dependents_first
from tests.support.histories import History
from tests.support.repositories import back_up, create, reopened


def test_each_archive_comes_before_all_that_it_refers_to(fast_path: Path) -> None:
    repository = create(fast_path / "repository")
    history = History(fast_path / "source", random.Random(3))
    for _ in range(8):
        history.step()
        back_up(repository, os.fsencode(fast_path / "source"))
    opened = reopened(repository)
    ids = opened.archive_ids()
    order = dependents_first(opened, ids)
    assert sorted(order) == ids
    place = {name: number for number, name in enumerate(order)}
    named = {name: opened.archive(name).header.archives[1:] for name in ids}
    assert any(named.values())
    assert all(place[name] < place[other] for name in ids for other in named[name])
