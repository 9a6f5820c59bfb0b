"""Bytes behind the end of an archive's file: all that was there before them still reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format.tables import BEHIND_LIMIT, MAGIC
from ibtfs.store.repository import Repository
from tests.support import snapshot
from tests.support.repositories import Backup, damages, reopened, restored_tree, the_point
from tests.support.trees import make_tree

APPENDED = {
    "a line feed": b"\n",
    "zeros": bytes(4096),
    "as many as there may be": b"x" * BEHIND_LIMIT,
    "what looks like an end": MAGIC * 100,
}


@pytest.mark.damaged
@pytest.mark.parametrize("what", APPENDED)
def test_appended_bytes_do_no_harm_and_are_told(
    tmp_path: Path, repository: Repository, backup_of: Backup, what: str
) -> None:
    source = tmp_path / "source"
    make_tree(source, {"a": b"12345", "large": os.urandom(300_000)})
    point = the_point(backup_of(source))
    files = sorted(Path(os.fsdecode(repository.path), "archives").glob("*/*"))
    assert {path.name for path in files} == {"data.1", "index.1"}
    for path in files:
        with path.open("ab") as file:
            file.write(APPENDED[what])
    tree = restored_tree(repository, point, tmp_path / "back")
    assert tree == {**snapshot(source), b"": tree[b""]}
    told = damages(repository)
    assert len(told) == len(files)
    for path in files:
        size = len(APPENDED[what])
        assert any(f"{path.name}: {size} bytes lie behind its end" in line for line in told)


@pytest.mark.damaged
def test_more_than_the_bound_is_not_searched(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(tmp_path / "source", {"a": b"12345"})
    point = the_point(backup_of(tmp_path / "source"))
    path = Path(os.fsdecode(repository.path), "archives", point.state.archive, "index.1")
    with path.open("ab") as file:
        file.write(bytes(BEHIND_LIMIT + 1))
    with pytest.raises(FormatDamaged, match="no trailer at the end"):
        reopened(repository).archive(point.state.archive).require_header()
