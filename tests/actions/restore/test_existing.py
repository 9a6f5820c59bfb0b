"""Restoring over what is already there: what is kept, replaced, removed, and never followed."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer
from ibtfs.actions.restore.clearing import Remover
from ibtfs.actions.restore.entry import EntryWriter
from ibtfs.actions.restore.run import Overwrite
from ibtfs.errors import RestoreFailed, UsageError
from ibtfs.format.patterns import Patterns
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory
from tests.support import differences, snapshot
from tests.support.repositories import back_up, put_back, reopened
from tests.support.trees import File, Hardlink, make_tree

ALWAYS, IF_CHANGED, NEVER = Overwrite.ALWAYS, Overwrite.IF_CHANGED, Overwrite.NEVER


def test_a_folder_in_the_place_of_a_file_stays(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"backups": b"a file once"})
    point = back_up(repository, tmp_path / "source").point
    assert point
    out = tmp_path / "out"
    make_tree(out, {"backups": {"precious": b"1"}})
    for overwrite in (ALWAYS, IF_CHANGED):
        told = put_back(repository, point, out, overwrite=overwrite)
        assert len(told.problems) == 1
        assert (out / "backups/precious").read_bytes() == b"1"
    told = put_back(repository, point, out, overwrite=ALWAYS, delete=True)
    assert not told.problems
    assert (out / "backups").read_bytes() == b"a file once"


def test_the_repository_is_never_removed(tmp_path: Path) -> None:
    make_tree(tmp_path / "source", {"backups": b"a file once"})
    repository = Repository.create(os.fsencode(tmp_path / "repo"), os.urandom(16))
    point = back_up(repository, tmp_path / "source").point
    assert point
    make_tree(tmp_path / "out", {"backups": {"below": {}}})
    os.rename(tmp_path / "repo", tmp_path / "out/backups/below/repo")
    moved = Repository.open(os.fsencode(tmp_path / "out/backups/below/repo"))
    told = put_back(moved, point, tmp_path / "out", overwrite=ALWAYS, delete=True)
    assert len(told.problems) == 1
    assert not check(reopened(moved), read_data=True, observer=Observer()).damages


def test_an_incomplete_point_deletes_nothing(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"a": b"1"})
    point = back_up(repository, tmp_path / "source").point
    assert point
    incomplete = type(point)(**{**vars(point), "statistics": {"problems": 1}})
    make_tree(tmp_path / "out", {"more": b"2"})
    with pytest.raises(UsageError, match="not complete"):
        put_back(repository, incomplete, tmp_path / "out", overwrite=ALWAYS, delete=True)


def test_delete_keeps_what_is_excluded_and_a_dry_run_tells_all(
    tmp_path: Path, repository: Repository
) -> None:
    make_tree(tmp_path / "source", {"sub": {"a": b"1"}})
    point = back_up(repository, tmp_path / "source").point
    assert point
    out = tmp_path / "out"
    make_tree(out, {"sub": {"gone": b"", "cache": {"x": b"1"}}})
    options = {"overwrite": ALWAYS, "delete": True, "exclude": Patterns.from_lines(["cache/"])}
    before = snapshot(out)
    told = put_back(repository, point, out, b"sub", dry_run=True, **options)
    assert (b"deleted", b"sub/gone") in [(k.encode(), p) for k, p in told.files]
    assert not differences(before, snapshot(out))
    put_back(repository, point, out, b"sub", **options)
    assert sorted(os.listdir(out / "sub")) == ["a", "cache"]


def test_links_between_paths_and_include_with_paths(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"d": {"a": b"1", "b": Hardlink("d/a"), "c.txt": b"2"}})
    point = back_up(repository, tmp_path / "source").point
    assert point
    put_back(repository, point, tmp_path / "out", b"d/a", b"d/b")
    assert (tmp_path / "out/a").stat().st_nlink == 2
    put_back(repository, point, tmp_path / "some", b"d", include=Patterns.from_lines(["*.txt"]))
    assert os.listdir(tmp_path / "some/d") == ["c.txt"]


def test_what_stays_is_not_linked_to(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"a": b"stored", "b": Hardlink("a"), "c": Hardlink("a")})
    point = back_up(repository, tmp_path / "source").point
    assert point
    out = tmp_path / "out"
    make_tree(out, {"a": b"my own"})
    assert not put_back(repository, point, out, overwrite=NEVER).problems
    assert (out / "a").read_bytes() == b"my own"
    assert (out / "b").read_bytes() == b"stored"
    assert (out / "b").stat().st_ino == (out / "c").stat().st_ino != (out / "a").stat().st_ino


def test_metadata_are_not_set_on_what_took_the_place(
    tmp_path: Path, repository: Repository
) -> None:
    """Who owns a folder may put a link there between two steps of a restore."""
    make_tree(tmp_path / "source", {"file": File(b"data", mode=0o666)})
    point = back_up(repository, tmp_path / "source").point
    assert point
    entry = next(iter(Directory(repository, point.state).entries()))
    make_tree(tmp_path / "out", {"secret": File(b"", mode=0o600), "file": b"data"})
    out = os.open(tmp_path / "out", os.O_RDONLY)
    seen = os.lstat("file", dir_fd=out)
    try:
        with ThreadPoolExecutor(1) as pool:
            writer = EntryWriter(Contents(repository), {}, {}, pool)
            for replace in (os.symlink, os.link):
                os.unlink("file", dir_fd=out)
                replace(tmp_path / "out/secret", tmp_path / "out/file")
                with pytest.raises(RestoreFailed, match="replaced"):
                    writer.metadata_at(entry, out, b"file", seen)
    finally:
        os.close(out)
    assert stat.S_IMODE((tmp_path / "out/secret").stat().st_mode) == 0o600


def test_nothing_is_removed_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "precious", {"below": {"file": b"1"}})
    make_tree(tmp_path / "top", {"x": {"below": {"file": b"1"}, "more": b""}})
    real, seen = os.scandir, []

    def scandir(descriptor: int) -> object:
        found = list(real(descriptor))
        seen.append(descriptor)
        if len(seen) == 2:  # x and x/below were looked at
            os.rename(tmp_path / "top/x", tmp_path / "top/y")
            os.symlink(tmp_path / "precious", tmp_path / "top/x")
        return nullcontext(iter(found))

    monkeypatch.setattr(os, "scandir", scandir)
    top = os.open(tmp_path / "top", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=r"loop|symbolic|directory"):
            Remover(None).remove(top, b"x")
    finally:
        os.close(top)
    assert len(seen) == 2
    assert (tmp_path / "precious/below/file").read_bytes() == b"1"
