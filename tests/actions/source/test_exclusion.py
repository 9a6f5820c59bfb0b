"""What is left out of a backup: by patterns, tags, size, file system; and the repository itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.backup.tree import TreeOptions
from ibtfs.actions.source.scan import Exclusions
from ibtfs.store.repository import Repository
from tests.support.faking import Patch, another_file_system
from tests.support.repositories import Backup, Recorder, back_up, create, damages, names, the_point
from tests.support.trees import Fifo, Symlink, make_tree


def tree_of(**options: Any) -> TreeOptions:
    return TreeOptions(exclusions=Exclusions(**options))


def test_the_exclude_file_of_a_source(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {
        ".exclude": b"*.tmp\n/build/\n!keep.tmp\n# comment\n\n", "a.tmp": b"", "keep.tmp": b"",
        "build": {"x": b""}, "sub": {"build": {"y": b""}, "b.tmp": b""}, ".git": {"HEAD": b""},
    })  # fmt: skip
    recorder = Recorder()
    result = backup_of(source, observer=recorder)
    assert names(repository, the_point(result)) == {
        b".exclude", b"keep.tmp", b"sub", b"sub/build", b"sub/build/y", b".git", b".git/HEAD",
    }  # fmt: skip
    assert any(".exclude" in note for note in recorder.notes)
    assert result.tally.counts["excluded"] == 3
    result = backup_of(source, patterns=("!*.tmp", "sub"))
    assert names(repository, the_point(result)) == {
        b".exclude", b"a.tmp", b"keep.tmp", b".git", b".git/HEAD",
    }  # fmt: skip


def test_an_exclude_file_that_would_block_is_no_exclude_file(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {".exclude": Fifo(), "a": b""})
    assert names(repository, the_point(backup_of(source))) == {b".exclude", b"a"}


def test_exclusion_by_tags_and_size(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    signature = b"Signature: 8a477f597d28d172789f06886806bc55 and more"
    make_tree(source, {
        "cache": {"CACHEDIR.TAG": signature, "x": b"", "deep": {"y": b""}},
        "not": {"CACHEDIR.TAG": b"Signature: else", "x": b""},
        "link": {"CACHEDIR.TAG": Symlink("../cache/CACHEDIR.TAG"), "x": b""},
        "marked": {".nobackup": b"", "x": b"", "deep": {"y": b""}},
        "large": b"x" * 101, "fits": b"x" * 100,
    })  # fmt: skip
    everything = names(repository, the_point(backup_of(source)))
    assert len(everything) == 18
    found = names(repository, the_point(backup_of(source, tree=tree_of(caches=True))))
    assert everything - found == {b"cache/x", b"cache/deep", b"cache/deep/y"}
    options = tree_of(if_present=(b"nothing", b".nobackup"))
    found = names(repository, the_point(backup_of(source, tree=options)))
    assert everything - found == {b"marked/x", b"marked/deep", b"marked/deep/y"}
    found = names(repository, the_point(backup_of(source, tree=tree_of(larger_than=100))))
    assert everything - found == {b"large"}


@pytest.mark.parametrize("stay", [True, False])
def test_one_file_system(
    stay: bool, source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch
) -> None:
    make_tree(source, {"a": b"", "mount": {}, "z": {"b": b""}})
    with another_file_system(source / "mount", monkeypatch):
        make_tree(source / "mount", {"inside": b"x"})
        result = backup_of(source, tree=tree_of(one_file_system=stay))
    found = names(repository, the_point(result))
    assert found - {b"mount/inside"} == {b"a", b"mount", b"z", b"z/b"}
    assert (b"mount/inside" in found) != stay
    assert result.tally.counts["mounts_left_out"] == stay


def test_a_repository_inside_the_source(tmp_path: Path, monkeypatch: Patch) -> None:
    source = tmp_path / "source"
    make_tree(source, {"a": b"1", "backups": {"beside": b"2"}})
    repository, recorder = create(source / "backups/repo"), Recorder()
    point = the_point(back_up(repository, source, observer=recorder))
    assert names(repository, point) == {b"a", b"backups", b"backups/beside", b"backups/repo"}
    assert any("repository itself" in note for note in recorder.notes)
    (tmp_path / "link").symlink_to(source)
    there = Repository.open(os.fsencode(tmp_path / "link/backups/repo"))
    again = back_up(there, source)
    assert len(names(repository, the_point(again))) == 4
    assert damages(repository) == []


def test_odd_exclude_files(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {".exclude": {"in": b"1"}})
    assert back_up(repository, tmp_path / "source").point
