"""Directory states, read: what is listed wrong is refused."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format.entry import HASH_SIZE, Page, PageEntry
from ibtfs.format.index import Reference
from ibtfs.store.trees.directory import Directory
from tests.support.states import ID, Trees


def page_of(*names: bytes) -> Page:
    stamps = tuple((name, 0o100644, 0, 0, 0, 1, 1, 1, 1) for name in names)
    return Page(stamps, (None,) * len(names), {})


def listed(*pages: Page) -> Directory:
    """The directory of these pages, in a repository without a disk."""
    trees = Trees()
    entries = []
    for page in pages:
        trees._states.append(page)
        number, last = len(trees._states) - 1, page.stamps[-1][0]
        entries.append(PageEntry(number, bytes(HASH_SIZE), len(page.stamps), last))
    trees._states.append(tuple(entries))
    return Directory(cast(Any, trees), Reference(ID, len(trees._states) - 1))


def test_pages_one_behind_the_other() -> None:
    directory = listed(page_of(b"a", b"b"), page_of(b"c"))
    assert [entry.name for entry in directory.entries()] == [b"a", b"b", b"c"]
    assert directory.find(b"c").name == b"c"


@pytest.mark.parametrize("first", [b"a", b"b"])
def test_pages_that_hold_a_name_twice(first: bytes) -> None:
    """Whoever restores such a folder would make one entry on top of the other."""
    directory = listed(page_of(b"a", b"b"), page_of(first, b"c"))
    with pytest.raises(FormatDamaged, match="pages that overlap"):
        list(directory.entries())
    with pytest.raises(FormatDamaged, match="pages that overlap"):
        directory.find(b"c")
