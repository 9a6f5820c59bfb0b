"""The names under which sources and points are shown."""

from __future__ import annotations

from pathlib import Path

from ibtfs.store.naming import by_source
from ibtfs.store.repository import Repository
from tests.support.repositories import back_up
from tests.support.trees import make_tree


def test_two_sources_that_chose_one_name(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "a/docs", {"one": b"1"})
    make_tree(tmp_path / "b/docs", {"two": b"2"})
    first = back_up(repository, tmp_path / "a/docs").point
    second = back_up(repository, tmp_path / "b/docs").point
    assert first
    assert second
    points = [p if p.id == first.id else type(p)(**{**vars(p), "display": "docs"})
              for p in (first, second)]  # fmt: skip
    shown = by_source(points)
    assert [[p.id for p in mine] for mine in shown.values()] == [[first.id], [second.id]]
    assert len(set(shown)) == 2
