"""What differs between two entries: the rule as a table, with stored entries and with live ones."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ibtfs.actions import compare_live
from ibtfs.actions.compare_live import LiveComparison
from ibtfs.errors import FormatDamaged, SourceError
from ibtfs.format.entry import HASH_SIZE
from ibtfs.format.index import Reference
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.compare import Comparison, same_state
from ibtfs.store.trees.differences import StoredFacts, differences
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.paths import root_entry
from tests.support.repositories import Backup, reopened, the_point
from tests.support.trees import Device, Fifo, Symlink, make_tree

ONE, TWO = Reference("a", 1), Reference("a", 2)
FILE = Entry(b"name", stat.S_IFREG | 0o644, 1, 2, 10, 100, 200, 300, 1, ONE, None, b"", 0, {}, None)
LINK = FILE._replace(mode=stat.S_IFLNK | 0o777, content=None, size=2, target=b"to")
DISK = FILE._replace(mode=stat.S_IFBLK | 0o660, content=None, size=0, rdev=8)
FIFO = FILE._replace(mode=stat.S_IFIFO | 0o644, content=None, size=0)
FOLDER = FILE._replace(mode=stat.S_IFDIR | 0o755, content=None, state=StateRef(ONE, b""))
EMPTY = FILE._replace(size=0, content=None)


class Asked:
    """Facts that are as a test says, and which were asked for."""

    def __init__(self, *, contents: bool = True, xattrs: bool = True) -> None:
        self._contents, self._xattrs = contents, xattrs
        self.asked: list[str] = []

    def same_contents(self, _: Entry, __: Entry) -> bool:
        self.asked.append("contents")
        return self._contents

    def same_xattrs(self, _: Entry, __: Entry) -> bool:
        self.asked.append("xattrs")
        return self._xattrs


BOTH, XATTRS = ["contents", "xattrs"], ["xattrs"]


@pytest.mark.parametrize(
    ("old", "new", "same", "words", "asked"),
    [
        (FILE, {}, True, (), BOTH),
        (FILE, {"ctime_ns": 1, "inode": 1, "rdev": 1, "target": b"x"}, True, (), BOTH),
        (FILE, {"content": TWO}, True, (), BOTH),
        (FILE, {"size": 11}, True, ("contents",), XATTRS),
        (EMPTY, {}, True, (), BOTH),
        (FILE, {"mode": stat.S_IFREG | 0o4644}, True, ("mode",), BOTH),
        (FILE, {"uid": 5}, True, ("owner",), BOTH),
        (FILE, {"gid": 5}, True, ("owner",), BOTH),
        (FILE, {"mtime_ns": 101}, True, ("mtime",), BOTH),
        (FILE, {"links": 2}, True, ("links",), BOTH),
        (FILE, {}, False, ("contents", "xattrs"), BOTH),
        (
            FILE, {"mode": stat.S_IFREG, "uid": 0, "mtime_ns": 0, "links": 3}, False,
            ("contents", "mode", "owner", "mtime", "xattrs", "links"), BOTH,
        ),
        (LINK, {"size": 3}, True, (), XATTRS),
        (LINK, {"target": b"x", "mtime_ns": 1}, True, ("target", "mtime"), XATTRS),
        (DISK, {"size": 1}, True, (), XATTRS),
        (DISK, {"rdev": 9, "uid": 0}, False, ("device", "owner", "xattrs"), XATTRS),
        (FIFO, {"links": 2}, True, ("links",), XATTRS),
        (FOLDER, {"size": 1, "mtime_ns": 1, "links": 9, "state": None}, True, (), XATTRS),
        (FOLDER, {"mode": stat.S_IFDIR, "gid": 0}, False, ("mode", "owner", "xattrs"), XATTRS),
        (FILE, {"mode": stat.S_IFLNK | 0o644, "uid": 9}, False, ("type",), []),
        (DISK, {"mode": stat.S_IFCHR | 0o660}, False, ("type",), []),
        (FOLDER, {"mode": stat.S_IFREG | 0o755}, False, ("type",), []),
    ],
)  # fmt: skip
def test_the_words_their_order_and_what_is_asked_for(
    old: Entry, new: dict[str, Any], same: bool, words: tuple[str, ...], asked: list[str]
) -> None:
    facts = Asked(contents=same, xattrs=same)
    assert differences(old, old._replace(**new), facts) == words
    assert facts.asked == asked


# Stored entries


def facts_of(digests: dict[Reference, bytes]) -> tuple[StoredFacts, list[Reference]]:
    read: list[Reference] = []

    def record(ref: Reference) -> Any:
        read.append(ref)
        if ref not in digests:
            raise FormatDamaged("gone")
        return SimpleNamespace(digest=digests[ref])

    return StoredFacts(SimpleNamespace(record=record)), read  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "same", "reads"),
    [
        (ONE, ONE, True, 0), (None, None, True, 0), (None, ONE, False, 0), (ONE, None, False, 0),
        (ONE, TWO, False, 2), (ONE, Reference("b", 7), True, 2), (ONE, Reference("c", 0), False, 2),
    ],
)  # fmt: skip
def test_stored_contents_are_compared_by_reference_and_else_by_digest(
    one: Reference | None, other: Reference | None, same: bool, reads: int
) -> None:
    facts, read = facts_of({ONE: b"1", TWO: b"2", Reference("b", 7): b"1"})
    assert facts.same_contents(FILE._replace(content=one), FILE._replace(content=other)) == same
    assert len(read) == reads


def test_stored_xattrs_are_compared_where_they_lie_and_damaged_ones_differ() -> None:
    facts, read = facts_of({})
    inline, other = FILE._replace(extras={"x": {b"a": b"1"}}), FILE._replace(extras={"f": 2})
    assert facts.same_xattrs(inline, inline._replace(extras={"x": {b"a": b"1"}, "f": 1}))
    assert not facts.same_xattrs(inline, FILE)
    assert facts.same_xattrs(FILE, other)
    apart = FILE._replace(xattrs_content=ONE)
    assert facts.same_xattrs(apart, apart)
    assert read == []
    assert not facts.same_xattrs(inline, apart)
    assert read == [ONE]


# Live ones: what a comparison with now says is what the next point will say


def _replaced(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"0123456789")


def _led_elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("other")


def _of_another_number(path: Path) -> None:
    path.unlink()
    make_tree(path.parent, {path.name: Device(kind="c", major=1, minor=5)})


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("file", lambda p: p.write_bytes(b"1023456789"), ("contents", "mtime")),
        ("file", lambda p: p.write_bytes(b"longer than that"), ("contents", "mtime")),
        ("file", lambda p: p.chmod(0o600), ("mode",)),
        ("file", lambda p: os.chown(p, 12, 34), ("owner",)),
        ("file", lambda p: os.utime(p, ns=(5, 5)), ("mtime",)),
        ("file", lambda p: os.setxattr(p, "user.a", b"1"), ("xattrs",)),
        ("file", lambda p: os.link(p, p.with_name("another")), ("links",)),
        ("file", _replaced, ("mtime",)),
        ("file", lambda p: (p.unlink(), p.symlink_to("x")), ("type",)),
        ("link", _led_elsewhere, ("target", "mtime")),
        ("disk", _of_another_number, ("device", "mtime")),
        ("fifo", lambda p: p.chmod(0o600), ("mode",)),
        ("folder", lambda p: p.chmod(0o700), ("mode",)),
        ("folder", lambda p: os.chown(p, 12, 34), ("owner",)),
        ("folder", lambda p: os.setxattr(p, "user.a", b"1"), ("xattrs",)),
        ("folder", lambda p: (p / "more").mkdir(), ()),
        ("", lambda p: os.setxattr(p, "user.a", b"1"), ("xattrs",)),
        ("", lambda p: (p.chmod(0o700), os.chown(p, 12, 34)), ("mode", "owner")),
        ("", lambda p: (p / "more").mkdir(), ()),
    ],
)
def test_now_has_the_words_that_the_next_point_has(
    repository: Repository, backup_of: Backup, tmp_path: Path, name: str,
    change: Callable[[Path], object], words: tuple[str, ...],
) -> None:  # fmt: skip
    source = tmp_path / "source"
    make_tree(
        source,
        {"file": b"0123456789", "link": Symlink("file"), "fifo": Fifo(mode=0o640), "folder": {},
         "disk": Device(kind="c", major=1, minor=3)},
    )  # fmt: skip
    old = the_point(backup_of(source))
    time.sleep(0.02)
    change(source / name)
    path = os.fsencode(name)
    live = LiveComparison(reopened(repository), old).changes(os.fsencode(source))
    found = [c.change.what for c in live if c.path == path and c.error is None]
    new = the_point(backup_of(source))
    fresh = reopened(repository)
    trees = Comparison(fresh, Contents(fresh)).tree_changes(root_entry(old), root_entry(new))
    stored = [c.change.what for c in trees if c.path == path]
    assert (found, stored) == (([words], [words]) if words else ([], []))


@pytest.mark.parametrize("size", [1, 2 << 20])
def test_a_comparison_that_fails_leaves_nothing_open(
    tmp_path: Path, repository: Repository, backup_of: Backup, monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:  # fmt: skip
    source = tmp_path / "source"
    make_tree(source, {"a": b"1"})
    point = the_point(backup_of(source))
    (source / ".exclude").write_bytes(b"#" * size)  # too many patterns are refused

    def refused(*_: object) -> None:
        raise SourceError("cannot be listed")

    monkeypatch.setattr(compare_live, "list_folder", refused)
    with pytest.raises(SourceError):
        list(LiveComparison(reopened(repository), point).changes(os.fsencode(source)))
    opened = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    assert str(source) not in [os.readlink(one) for one in opened if os.path.islink(one)]


def test_folders_are_known_to_be_the_same_by_place_or_by_digest() -> None:
    one, moved = StateRef(ONE, b"d" * HASH_SIZE), StateRef(TWO, b"d" * HASH_SIZE + b"more")
    rewritten, other = StateRef(ONE, b"e" * HASH_SIZE), StateRef(TWO, b"e" * HASH_SIZE)
    assert same_state(None, None) is True
    assert same_state(one, None) is same_state(None, one) is False
    assert same_state(one, moved) is same_state(one, rewritten) is True
    assert same_state(one, other) is False
