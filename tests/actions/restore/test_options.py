"""What may be chosen about a restore, and what is refused before anything is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.restore.options import Overwrite, RestoreOptions
from ibtfs.errors import UsageError
from ibtfs.store.repository import Repository
from ibtfs.toolkit import restore_backup
from tests.support import snapshot
from tests.support.repositories import Backup, restored, the_point
from tests.support.trees import make_tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


@pytest.mark.parametrize("word", ["", "Always", "if_changed", "sometimes", None])
def test_an_unknown_word_for_existing_files_is_refused(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path, word: Any
) -> None:
    make_tree(source, {"a": b"1"})
    point, out = the_point(backup_of(source)), tmp_path / "out"
    known = "refuse, always, if-changed, never do$"
    with pytest.raises(UsageError, match=f"^{word!r} does not say what becomes .*: {known}"):
        restored(repository, point, out, overwrite=word)
    with pytest.raises(UsageError):
        restore_backup(repository, "source", out, overwrite=word)
    assert not os.path.lexists(out)


@pytest.mark.parametrize("overwrite", [*Overwrite, *(one.value for one in Overwrite)])
def test_every_known_word_does_as_text_and_as_a_value(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path, overwrite: str
) -> None:
    make_tree(source, {"a": b"new", "same": b"s", "missing": b"m"})
    expected = snapshot(source)
    point, out = the_point(backup_of(source)), tmp_path / "out"
    if overwrite != "refuse":
        make_tree(out, {"a": b"older", "same": b"s"})
    assert restored(repository, point, out, overwrite=overwrite).problems == []
    found = snapshot(out)
    assert (out / "missing").read_bytes() == b"m"
    assert (out / "a").read_bytes() == (b"older" if overwrite == "never" else b"new")
    assert (found == expected) == (overwrite != "never")


@pytest.mark.parametrize("overwrite", [one for one in Overwrite if one != Overwrite.REFUSE])
def test_a_rehearsal_tells_the_same_and_does_nothing(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path, overwrite: str
) -> None:
    make_tree(source, {"a": b"new", "sub": {"b": b"2", "c": b"3"}, "file": b"f"})
    point, out = the_point(backup_of(source)), tmp_path / "out"
    make_tree(out, {"a": b"older", "sub": {"b": b"other", "left": b""}, "more": {"x": b""}})
    before = snapshot(out)
    options = {"overwrite": overwrite, "delete": True}
    rehearsed = restored(repository, point, out, dry_run=True, **options)
    assert snapshot(out) == before
    done = restored(repository, point, out, **options)
    assert rehearsed.counts == done.counts
    assert done.counts["deleted"] == 2
    assert not (out / "more").exists()


def test_delete_needs_overwrite() -> None:
    with pytest.raises(UsageError, match="--delete needs --overwrite"):
        RestoreOptions(delete=True).check()
    RestoreOptions(delete=True, overwrite="never").check()
