"""Directories written: pages that did not change are referred to where they lie."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ibtfs.format.entry import Stamp, split_rows
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory, Entry
from ibtfs.store.trees.old_directory import OldDirectory
from ibtfs.store.writing.pages import write_directory
from tests.store.writing.test_draft import writing
from tests.support.plain import UNKEYED
from tests.support.repositories import create, reopened

NAMES = [b"%05d" % number for number in range(6000)]


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    return create(fast_path / "repository")


def stamp(name: bytes, time: int = 7) -> Stamp:
    return (name, 0o100644, 1, 2, 0, time, 8, 9, 1)


def entry(name: bytes, time: int = 7) -> Entry:
    return Entry(*stamp(name, time), None, None, b"", 0, {}, None)


def test_only_pages_that_changed_are_written(repository: Repository) -> None:
    stamps = [stamp(name) for name in NAMES]
    pages = [len(stamps[part]) for part in split_rows(stamps, UNKEYED)]
    assert len(pages) > 2
    taken: Counter[str] = Counter()
    with writing(repository) as writer:
        first = write_directory(writer, stamps, {n: entry(n) for n in NAMES}, None, taken)
    assert taken == Counter()
    stamps[0] = stamp(NAMES[0], 9)
    with writing(repository, 1) as writer:
        old = OldDirectory(writer.repository, first)
        changed = {NAMES[0]: entry(NAMES[0], 9)}
        second = write_directory(writer, stamps, changed, old, taken)
        again = write_directory(writer, stamps, changed, old)
        with pytest.raises(AssertionError, match="No row was made for b'new'"):
            write_directory(writer, [stamp(b"new")], {}, old)
    assert taken == {first.ref.archive: sum(pages[1:])}
    assert second.digest == again.digest != first.digest
    found = list(Directory(reopened(repository), second.ref).pages())
    assert [len(page.page.stamps) for page in found] == pages
    assert [page.ref.archive == first.ref.archive for page in found] == [
        False, *[True] * (len(pages) - 1)
    ]  # fmt: skip
    assert [one.stamp for one in Directory(reopened(repository), second.ref).entries()] == stamps


def test_a_small_folder_is_one_page(repository: Repository) -> None:
    taken: Counter[str] = Counter()
    with writing(repository) as writer:
        first = write_directory(writer, [stamp(b"a"), stamp(b"b")],
                                {b"a": entry(b"a"), b"b": entry(b"b")}, None)  # fmt: skip
    with writing(repository, 1) as writer:
        old = OldDirectory(writer.repository, first)
        same = write_directory(writer, [stamp(b"a"), stamp(b"b")], {}, old, taken)
        less = write_directory(writer, [stamp(b"b")], {}, old, taken)
    assert same.digest == first.digest != less.digest
    assert taken == Counter()
    (row,) = Directory(reopened(repository), less.ref).entries()
    assert row == entry(b"b")
