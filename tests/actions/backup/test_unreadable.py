"""What a backup cannot read: reported, kept as it was, never taken for deleted."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.backup import entry as store_file
from ibtfs.actions.backup import tree as backup_tree
from ibtfs.actions.observer import Observer
from ibtfs.actions.restore.run import RestoreOptions, restore
from ibtfs.actions.source.scan import Exclusions, Listing
from ibtfs.errors import SourceError
from ibtfs.format.entry import KEPT, NOT_READ
from ibtfs.store.repository import Repository
from ibtfs.store.trees import directory as states
from tests.support import differences, snapshot
from tests.support.faking import Patch
from tests.support.repositories import (
    Backup,
    Recorder,
    assert_comes_back,
    back_up,
    content,
    create,
    damages,
    reopened,
    restored_tree,
    row,
    the_point,
)
from tests.support.trees import make_tree
from tests.support.views import viewed_tree

NOBODY = 65_534


# What cannot be read


def as_ordinary_user(run: Callable[[], Any]) -> Any:
    """What *run* gives, as JSON allows, done by a user who is not root."""
    if os.geteuid() != 0:
        return json.loads(json.dumps(run()))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, json.dumps(run()).encode())
        except BaseException as error:
            os.write(writing, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said)


@pytest.fixture
def open_path(fast_path: Path) -> Path:
    """A folder that an ordinary user can reach, and owns."""
    if os.geteuid() == 0:
        for parent in (fast_path, *fast_path.parents):
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        os.chown(fast_path, NOBODY, NOBODY)
    return fast_path


def owned(path: Path) -> None:
    if os.geteuid() == 0:
        subprocess.run(["chown", "-hR", f"{NOBODY}:{NOBODY}", str(path)], check=True)


def test_an_unreadable_folder_does_not_look_deleted(open_path: Path) -> None:
    source = open_path / "source"
    make_tree(source, {"shut": {"deep": {"file": b"1"}, "file": b"2"}, "beside": b"3",
                       "secret": b"4", "new": {}})  # fmt: skip
    owned(source)
    expected = snapshot(source)
    as_ordinary_user(lambda: str(create(open_path / "repository").path))
    repository = Repository.open(os.fsencode(open_path / "repository"))

    def run() -> list[Any]:
        result = back_up(repository, source)
        found = sorted([path.decode(), said] for path, said in result.tally.problems)
        return [the_point(result).id, found]

    assert as_ordinary_user(run)[1] == []
    make_tree(source / "new", {"shut": {"x": b"5"}, "secret": b"6"})
    owned(source)
    for path in ("shut", "secret", "new/shut", "new/secret"):
        (source / path).chmod(0)
    (source / "beside").write_bytes(b"changed")
    point_id, problems = as_ordinary_user(run)
    assert [path for path, _ in problems] == ["new/secret", "new/shut", "secret", "shut"]
    assert {said for _, said in problems} == {"cannot be read: Permission denied"}
    point = reopened(repository).points.get(point_id)
    found = viewed_tree(reopened(repository), point)
    for path in (b"shut", b"shut/deep", b"shut/deep/file", b"shut/file", b"secret"):
        assert differences({path: expected[path]}, {path: found[path]}) == [], path
    assert content(repository, point, b"beside") == b"changed"
    assert b"new/secret" not in found
    assert found[b"new/shut"].type == "directory"
    flags = [row(repository, point, p).flags for p in (b"shut", b"secret", b"new/shut")]
    assert flags == [KEPT, KEPT, NOT_READ]
    for path in ("shut", "secret", "new/shut", "new/secret"):
        (source / path).chmod(0o755)
    point_id, problems = as_ordinary_user(run)
    assert problems == []
    point = reopened(repository).points.get(point_id)
    assert differences(snapshot(source), viewed_tree(reopened(repository), point)) == []
    assert {row(repository, point, p).flags for p in (b"shut", b"secret", b"new/shut")} == {0}
    assert damages(repository) == []


def test_a_folder_that_opens_and_cannot_be_listed(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch, tmp_path: Path
) -> None:
    make_tree(source, {"bad": {"file": b"1", "deep": {"file": b"2"}}, "beside": b"3"})
    expected = snapshot(source)
    backup_of(source)
    listing = backup_tree.list_folder

    def list_folder(descriptor: int, folder: bytes, exclusions: Exclusions) -> Listing:
        if folder == b"bad":
            raise SourceError("cannot be read: Input/output error")
        return listing(descriptor, folder, exclusions)

    monkeypatch.setattr(backup_tree, "list_folder", list_folder)
    result = backup_of(source)
    assert [path for path, _ in result.tally.problems] == [b"bad"]
    assert_comes_back(repository, the_point(result), expected, tmp_path)
    assert row(repository, the_point(result), b"bad").flags == KEPT


def test_a_source_that_cannot_be_read_makes_no_point(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    backup_of(source)
    source.rename(source.with_name("elsewhere"))
    with pytest.raises(SourceError):
        backup_of(source)
    assert len(reopened(repository).points.ids()) == 1
    assert os.listdir(os.path.join(repository.path, b"locks")) == []


def test_a_folder_whose_xattrs_cannot_be_read_costs_only_itself(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    make_tree(source, {"bad": {"file": b"1"}, "good": {"file": b"2"}})
    assert back_up(repository, source).point
    real, inode = os.listxattr, (source / "bad").stat().st_ino
    before = len(os.listdir("/proc/self/fd"))

    def listxattr(target: int | bytes, **options: bool) -> list[str]:
        if type(target) is int and os.fstat(target).st_ino == inode:
            raise OSError(errno.EIO, "Input/output error")
        return real(target, **options)

    monkeypatch.setattr(os, "listxattr", listxattr)
    os.utime(source / "bad", ns=(1, 1))
    (source / "good/file").write_bytes(b"changed")
    recorder = Recorder()
    point = back_up(repository, source, recorder).point
    assert point
    assert [path for path, _ in recorder.problems] == [b"bad"]
    assert len(os.listdir("/proc/self/fd")) <= before
    restore(repository, point, [], os.fsencode(tmp_path / "out"), RestoreOptions(), Observer())
    assert (tmp_path / "out/bad/file").read_bytes() == b"1"
    assert (tmp_path / "out/good/file").read_bytes() == b"changed"
    inode = source.stat().st_ino
    with pytest.raises(SourceError, match="The source itself cannot be read"):
        back_up(repository, source)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    (folder / "sub").mkdir(parents=True)
    for number in range(3):
        (folder / "sub" / f"{number}.txt").write_text(str(number))
    return folder


# Extended attributes


@pytest.mark.parametrize("kind", ["file", "folder", "root"])
def test_xattrs_that_could_not_be_read_back_are_told_when_stored(
    kind: str, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "XATTRS_LIMIT", 2500)
    monkeypatch.setattr(store_file, "XATTRS_ROOT", 2500)
    path = {"file": source / "sub" / "1.txt", "folder": source / "sub", "root": source}[kind]
    for number in range(3):
        os.setxattr(path, f"user.{number}", bytes(700))
    os.setxattr(source / "sub" / "0.txt", "user.small", bytes(2000))
    repository = create(tmp_path / "repository")
    results, trees = [], []
    for size in (900, 900, 700, 100):  # too large when new, and again; then they fit
        for number in range(3):
            os.setxattr(path, f"user.{number}", bytes(size))
        trees.append(snapshot(source))
        recorder = Recorder()
        results.append(back_up(repository, source, recorder))
        expected = [os.fsencode(path.relative_to(source))] if size == 900 else []
        assert [p.replace(b".", b"") if p == b"." else p for p, _ in recorder.problems] == [
            b"" if p == b"." else p for p in expected
        ]
        assert all("of extended attributes" in message for _, message in recorder.problems)
    for tree, result, fits in zip(trees, results, (False, False, True, True)):
        back = restored_tree(repository, the_point(result), tmp_path / "back")
        assert (differences(tree, back) == []) == fits
        assert set(back) == set(tree)
    assert damages(repository) == []
