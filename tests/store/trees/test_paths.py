"""Entries by path, and what they hold."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ibtfs.actions.restore.entry import EntryWriter
from ibtfs.errors import FormatDamaged
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.paths import content_pieces, find_entry
from tests.support.repositories import back_up, reopened, the_point
from tests.support.trees import make_tree


@pytest.mark.timeout(20)
def test_a_row_that_says_more_bytes_than_there_are(tmp_path: Path, repository: Repository) -> None:
    """Nobody reads on to the end of what is not there."""
    make_tree(tmp_path / "source", {"a": b"123456"})
    point = the_point(back_up(repository, tmp_path / "source"))
    opened = reopened(repository)
    entry = find_entry(opened, point, b"a")._replace(size=(1 << 63) - 1)
    with pytest.raises(FormatDamaged, match="is not as long as the row that refers to it"):
        next(content_pieces(opened, entry))
    folder = os.open(tmp_path, os.O_RDONLY)
    with ThreadPoolExecutor(1) as pool, pytest.raises(FormatDamaged, match="is not as long"):
        EntryWriter(Contents(opened), {}, {}, pool).file(entry, folder, b"a")
    os.close(folder)
    assert not (tmp_path / "a").exists()
