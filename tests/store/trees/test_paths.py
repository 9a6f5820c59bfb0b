"""Entries by path, and what they hold."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ibtfs.actions.restore.entry import EntryWriter
from ibtfs.errors import EntryNotFound, FormatDamaged, NotADirectory, NotAFile
from ibtfs.format.point import Point
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory, entry_xattrs
from ibtfs.store.trees.paths import (
    check_digest,
    check_size,
    content_pieces,
    find_entry,
    located,
    walk,
)
from tests.support.plain import digest as digest_of
from tests.support.repositories import back_up, reopened, the_point
from tests.support.trees import Symlink, make_tree


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


@pytest.fixture
def point(tmp_path: Path, repository: Repository) -> Point:
    make_tree(tmp_path / "source", {
        "d": {"e": {"f": b"12345"}, "large": b"x" * 300_000}, "empty": b"", "link": Symlink("d"),
    })  # fmt: skip
    os.setxattr(tmp_path / "source" / "empty", "user.long", b"l" * 3000)
    return the_point(back_up(repository, tmp_path / "source"))


def test_paths_lead_to_entries_or_it_is_told(repository: Repository, point: Point) -> None:
    opened = reopened(repository)
    assert find_entry(opened, point, b"").state is not None
    assert find_entry(opened, point, b"d/e/f").size == 5
    assert find_entry(opened, point, b"link").target == b"d"
    for path in (b"none", b"d/none", b"d/e/f0", b"none/x"):
        with pytest.raises(EntryNotFound, match=f"No such path in the point: '{path.decode()}'"):
            find_entry(opened, point, path)
    for path, name in ((b"d/e/f/g", "f"), (b"link/e", "link"), (b"empty/a/b", "empty")):
        with pytest.raises(NotADirectory, match=f"'{name}' is not a directory"):
            find_entry(opened, point, path)


def test_a_walk_comes_by_all_that_lies_below(repository: Repository, point: Point) -> None:
    def walked(path: bytes, *, recursive: bool = True) -> list[bytes]:
        return [one for one, _ in walk(reopened(repository), point, path, recursive=recursive)]

    assert walked(b"") == [b"d", b"d/e", b"d/e/f", b"d/large", b"empty", b"link"]
    assert walked(b"", recursive=False) == [b"d", b"empty", b"link"]
    assert walked(b"d", recursive=False) == [b"d/e", b"d/large"]
    assert walked(b"d/e") == [b"d/e/f"]
    assert walked(b"d/e/f") == [b"d/e/f"]


def test_contents_come_in_pieces(
    repository: Repository, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibtfs.store.trees.paths.PIECE", 130_000)
    opened = reopened(repository)
    large = find_entry(opened, point, b"d/large")
    pieces = list(content_pieces(opened, large))
    assert [len(piece) for piece in pieces] == [130_000, 130_000, 40_000]
    assert b"".join(pieces) == b"x" * 300_000
    assert list(content_pieces(opened, find_entry(opened, point, b"empty"))) == []
    for path in (b"d", b"link"):
        with pytest.raises(NotAFile, match=f"'{path.decode()}' is not a regular file"):
            list(content_pieces(opened, find_entry(opened, point, path)))
    contents = Contents(opened)
    digest = digest_of(b"x" * 300_000)
    check_digest(contents, large, digest)
    check_digest(contents, large._replace(content=None), b"")
    for entry, digest in (
        (large, b"x" * 32),
        (large._replace(size=5), digest_of(b"x" * 300_000)),
    ):
        with pytest.raises(FormatDamaged, match="do not have the digest of the content"):
            check_digest(contents, entry, digest)
    check_size(contents, large)
    check_size(contents, large._replace(content=None, size=7))
    with pytest.raises(FormatDamaged, match="is not as long as the row that refers to it"):
        check_size(contents, large._replace(size=299_999))
    error = located(FormatDamaged("so"), "p", b"a/b")
    assert (type(error), str(error)) == (FormatDamaged, "p: 'a/b': so")


def test_attributes_that_lie_apart_are_read_and_bounded(
    repository: Repository, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = Contents(reopened(repository))
    entry = find_entry(reopened(repository), point, b"empty")
    assert entry.xattrs_content is not None
    assert entry_xattrs(entry, contents) == {b"user.long": b"l" * 3000}
    assert entry_xattrs(entry._replace(xattrs_content=None), contents) == {}
    inline = entry._replace(xattrs_content=None, extras={"x": {b"user.a": b"1"}})
    assert entry_xattrs(inline, contents) == {b"user.a": b"1"}
    size = contents.record(entry.xattrs_content).size
    monkeypatch.setattr("ibtfs.store.trees.directory.XATTRS_LIMIT", size)
    assert len(entry_xattrs(entry, contents)) == 1
    monkeypatch.setattr("ibtfs.store.trees.directory.XATTRS_LIMIT", size - 1)
    with pytest.raises(FormatDamaged, match=f"'empty': extended attributes of {size} bytes"):
        entry_xattrs(entry, contents)


def test_a_large_state_is_kept_as_it_was_decoded(
    repository: Repository, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = reopened(repository)
    size = opened.archive(point.state.archive).state_bytes(point.state.number)
    for least, kept in ((size + 1, False), (size, True)):
        monkeypatch.setattr("ibtfs.store.trees.directory.LARGE_STATE", least)
        Directory(opened, point.state)
        keys: list[object] = []
        opened.cache.drop(lambda key, k=keys: bool(k.append(key)))  # type: ignore[misc]
        assert (("state", point.state) in keys) is kept
