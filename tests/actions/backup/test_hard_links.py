"""Hard links: a group stays a group, in whichever runs its names were written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ibtfs.actions.backup import classify
from ibtfs.actions.backup import small as store_small
from ibtfs.store.repository import Repository
from ibtfs.store.writing.run import RunWriter
from ibtfs.view.entry_node import point_node
from ibtfs.view.tree import RepositoryView
from tests.support import snapshot
from tests.support.faking import Patch
from tests.support.repositories import Backup, assert_comes_back, reopened, row, settle, the_point
from tests.support.trees import Fifo, File, Hardlink, Sparse, Symlink, make_tree


def test_hard_link_groups_are_kept(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    tree = {
        "a": {"one": File(b"same" * 1000, mtime_ns=5), "own": File(b"same" * 1000, mtime_ns=5)},
        "b": {"two": Hardlink("a/one"), "deep": {"three": Hardlink("a/one")}},
        "link": Symlink("x"), "link too": Hardlink("link"),
        "pipe": Fifo(), "pipe too": Hardlink("pipe"), "empty": b"", "empty too": Hardlink("empty"),
        "hole": Sparse(100_000), "hole too": Hardlink("hole"),
    }  # fmt: skip
    make_tree(source, tree)
    made = [(the_point(backup_of(source)), snapshot(source))]
    settle()
    made.append((the_point(backup_of(source)), snapshot(source)))
    os.link(source / "a/own", source / "late")
    os.link(source / "b/two", source / "fourth")
    made.append((the_point(backup_of(source)), snapshot(source)))
    with (source / "fourth").open("ab") as file:
        file.write(b"more")
    settle()
    made.append((the_point(backup_of(source)), snapshot(source)))
    shutil.copy2(source / "fourth", source / "new")
    os.replace(source / "new", source / "fourth")
    made.append((the_point(backup_of(source)), snapshot(source)))
    for point, expected in made:
        assert_comes_back(repository, point, expected, tmp_path)


def test_links_in_folders_that_are_written_in_different_runs(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    large = {"user.large": b"\x01\xff" * 300}
    make_tree(source, {"a": {"one": File(b"x", xattrs=large)}, "b": {"two": Hardlink("a/one")}})
    settle()
    inodes = set()
    for number in range(3):
        make_tree(source / "b", {f"{number}": File(b"1", xattrs={"user.n": b"%d" % number * 400})})
        settle()
        point = the_point(backup_of(source))
        assert_comes_back(repository, point, snapshot(source), tmp_path)
        node = point_node(RepositoryView(reopened(repository)), b"", point)
        inodes.add(node.lookup(b"a").lookup(b"one").attributes().ino)
        inodes.add(node.lookup(b"b").lookup(b"two").attributes().ino)
    assert len(inodes) == 1


def test_links_whose_content_was_stored_twice(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch, tmp_path: Path
) -> None:
    make_tree(source, {"a": {"one": b"content" * 100}, "b": {"two": Hardlink("a/one")}})
    settle()
    backup_of(source)
    monkeypatch.setattr(RunWriter, "find", lambda *_: None)  # as if two runs went on at once
    monkeypatch.setattr(store_small, "_usable", lambda *_: None)
    listing = classify.same_stamp
    monkeypatch.setattr(
        classify,
        "same_stamp",
        lambda s, *r, **o: s[0] != b"two" and listing(s, *r, **o),
    )
    (source / "b/new").write_bytes(b"")
    point = the_point(backup_of(source))
    refs = {row(repository, point, path).content for path in (b"a/one", b"b/two")}
    assert len(refs) == 2
    assert_comes_back(repository, point, snapshot(source), tmp_path)
