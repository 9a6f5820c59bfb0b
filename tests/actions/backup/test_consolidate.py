"""States that lie in too many archives are put together, and no more of them than that takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.actions.backup import run as backup_run
from ibtfs.actions.backup.consolidate import largest
from ibtfs.format.frames import CONTENTS
from ibtfs.format.index import Reference
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef
from ibtfs.store.trees.reach import reach
from tests.support import snapshot
from tests.support.repositories import Backup, assert_comes_back, reopened, settle, the_point


def test_the_largest_are_left() -> None:
    rows = {"a": 5, "b": 9, "c": 5, "d": 1}
    assert largest(rows, 8) == {"a", "b"}
    assert largest(rows, 3) == frozenset()


def state_archives(repository: Repository, state: Reference, digest: bytes) -> dict[str, int]:
    """How many pages of a tree lie in which archive."""
    found: dict[str, int] = {}
    for visit in reach(reopened(repository), StateRef(state, digest[:24])):
        for page in visit.pages():
            found[page.ref.archive] = found.get(page.ref.archive, 0) + 1
    return found


def test_what_never_changes_is_written_once(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(backup_run, "STATE_ARCHIVES", 8)
    for name in [*(f"still{n}" for n in range(60)), *(f"busy{n}" for n in range(20))]:
        (source / name).mkdir()
        (source / name / "file").write_text(name)
    settle()
    first = the_point(backup_of(source))
    most = 0
    for number in range(25):
        (source / f"busy{number % 20}" / "file").write_bytes(os.urandom(9))
        settle()
        point = the_point(backup_of(source))
        spread = state_archives(repository, point.state, point.digest)
        most = max(most, len(spread))
        assert spread[first.state.archive] >= 60
    assert 4 < most <= 10
    assert_comes_back(repository, point, snapshot(source), tmp_path)


@pytest.mark.damaged
def test_what_could_not_be_put_together_leaves_nothing(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        (source / f"folder{number}").mkdir()
        (source / f"folder{number}" / "file").write_bytes(os.urandom(50))
        settle()
        point = the_point(backup_of(source))
    monkeypatch.setattr(backup_run, "STATE_ARCHIVES", 4)
    victim = reopened(repository).points.all().points[2].state.archive
    file = repository.archive(victim).file("index")
    path = Path(os.fsdecode(repository.path)) / "archives" / victim / "index.1"
    data = bytearray(path.read_bytes())
    data[file.table(CONTENTS).offsets[0] + 30] ^= 1
    path.write_bytes(data)
    before = set(reopened(repository).archive_ids())
    for _ in range(3):
        assert the_point(backup_of(source)).state == point.state
    assert set(reopened(repository).archive_ids()) == before
