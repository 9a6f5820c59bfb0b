"""A directory as an earlier backup stored it: what is the same as now, and where it lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.format.entry import PageEntry, pages_digest
from ibtfs.format.frames import HEADER
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.old_directory import (
    OldDirectory,
    load_old,
    same_but_stamps,
    same_stamp,
)
from tests.support import hostile
from tests.support.plain import UNKEYED
from tests.support.repositories import back_up, create, reopened, the_point

NAMES = [b"%03d" % number for number in range(300)]


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    return create(fast_path / "repository")


def root_of(point: Point) -> StateRef:
    return StateRef(point.state, point.digest)


@pytest.fixture
def root(repository: Repository) -> StateRef:
    """A folder of several pages: the first lies with the list of them, the others elsewhere."""
    entries = []
    for number, parts in ((0, (NAMES[100:200], NAMES[200:])), (1, (NAMES[:100],))):
        with hostile.archive(repository, number) as writer:
            for names in parts:
                page, digest = hostile.page_of(writer, dict.fromkeys(names))
                ref = writer.add_page(page)
                entries.append((names[-1], ref, digest[:24], len(names)))
            if number:
                listed = [
                    PageEntry(writer.packed(ref), digest, rows, last)
                    for last, ref, digest, rows in sorted(entries)
                ]
                state = StateRef(
                    writer.add_pages(listed), pages_digest([e.digest for e in listed], UNKEYED)
                )
    hostile.commit(repository, state)
    return state


FIRST, SECOND = hostile.archive_id(0), hostile.archive_id(1)


def spoil(repository: Repository, archive: str, stream: int) -> None:
    """Damage the first frame of a stream of an index."""
    offset = reopened(repository).archive(archive).file("index").table(stream).offsets[0]
    path = Path(os.fsdecode(repository.path), "archives", archive, "index.1")
    data = bytearray(path.read_bytes())
    data[offset + 30] ^= 1
    path.write_bytes(data)


def test_a_folder_of_several_pages(repository: Repository, root: StateRef) -> None:
    old = OldDirectory(reopened(repository), root)
    assert [len(page.page.stamps) for page in old.pages] == [100, 100, 100]
    assert [stamp[0] for stamp in old.stamps] == NAMES
    assert old.is_readable
    assert old.is_same(old.stamps)
    assert old.is_same(list(old.stamps))
    assert not old.is_same(old.stamps[:-1])
    assert not old.is_same(old.stamps[::-1])
    for name in (b"000", b"123", b"299"):
        found = old.find(name)
        assert found is not None
        assert found.stamp == old.stamp(name) == old.stamps[NAMES.index(name)]
    assert old.find(b"none") is None
    assert old.stamp(b"none") is None
    # of the list there are as many rows as pages
    assert old.rows_by_archive(300) == {SECOND: 3 + 100, FIRST: 200}


def test_a_page_may_be_referred_to_if_it_is_the_same(
    repository: Repository, root: StateRef
) -> None:
    old = OldDirectory(reopened(repository), root)
    for page in old.pages:
        stamps = page.page.stamps
        name = stamps[-1][0]
        assert old.page_ending(name, list(stamps)) == page
        assert old.page_ending(name, stamps[1:]) is None
        assert old.page_ending(name + b"x", stamps) is None
        assert old.page_ending(stamps[-2][0], stamps) is None


def test_one_page_is_compared_as_it_lies(repository: Repository, fast_path: Path) -> None:
    source = fast_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"contents")
    (source / "b").touch()
    os.setxattr(source / "b", "user.long", os.urandom(3000))
    point = the_point(back_up(repository, source))
    old = OldDirectory(reopened(repository), root_of(point))
    stamps = old.stamps
    assert old.is_same(stamps)
    fresh = OldDirectory(reopened(repository), root_of(point))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OldDirectory, "pages", property(lambda _: pytest.fail("it was decoded")))
        assert fresh.is_same(stamps)
        assert not fresh.is_same([*stamps, *stamps])
        assert fresh.rows_by_archive(1) == {point.state.archive: 1}
        assert fresh.rows_by_archive(7) == {point.state.archive: 7}
    contents = [old.find(b"a"), old.find(b"b")]
    (one, other) = (entry and (entry.content or entry.xattrs_content) for entry in contents)
    assert (one is None, other is None) == (False, False)
    assert old.refers_to([one]) == {b"a"}
    assert old.refers_to([other]) == {b"b"}
    assert old.refers_to([one, other]) == {b"a", b"b"}
    assert old.refers_to([]) == set()
    # one page is never referred to: the folder's state is it
    assert old.page_ending(b"a", stamps) is None


@pytest.mark.damaged
def test_what_leads_nowhere_is_not_readable(repository: Repository, root: StateRef) -> None:
    """A page can be read whose archive does not say any more where its rows lead."""
    stamps = OldDirectory(reopened(repository), root).stamps
    assert load_old(reopened(repository), StateRef(Reference(FIRST, 0), b"")) is not None
    spoil(repository, FIRST, HEADER)
    old = load_old(reopened(repository), root)
    assert old is not None
    assert len(list(old.pages)) == 3
    assert not old.is_readable
    assert not old.is_same(stamps)
    assert load_old(reopened(repository), StateRef(Reference(FIRST, 0), b"")) is None
    spoil(repository, SECOND, HEADER)
    assert load_old(reopened(repository), root) is None
    assert load_old(reopened(repository), None) is None
    assert load_old(reopened(repository), StateRef(Reference(FIRST, 10**6), b"")) is None


STAMP = (b"a", 0o100644, 1, 2, 3, 4, 5, 6, 1)


def changed(place: int, value: int) -> tuple[bytes, int, int, int, int, int, int, int, int]:
    values = list(STAMP)
    values[place] = value
    return tuple(values)  # type: ignore[return-value]


def test_stamps_that_tell_of_no_change() -> None:
    for inodes in (True, False):
        assert same_stamp(STAMP, STAMP, inodes=inodes)
        assert not same_stamp(STAMP, None, inodes=inodes)
        for place in (1, 2, 3, 4, 5, 6, 8):
            assert not same_stamp(STAMP, changed(place, 99), inodes=inodes)
            assert not same_stamp(changed(place, 99), STAMP, inodes=inodes)
    # inodes count between hard links, or where they stay
    assert not same_stamp(STAMP, changed(7, 99), inodes=True)
    assert same_stamp(STAMP, changed(7, 99), inodes=False)
    linked, other = changed(8, 2), (*changed(7, 99)[:8], 2)
    assert not same_stamp(linked, other, inodes=False)
    assert same_stamp(linked, linked, inodes=False)
    # a time of change that is not known tells nothing, where inodes do not either
    unknown = changed(6, 0)
    assert not same_stamp(unknown, unknown, inodes=False)
    assert same_stamp(unknown, unknown, inodes=True)


def test_entries_that_are_the_same_but_for_their_stamps() -> None:
    entry = Entry(*STAMP, None, None, b"", 0, {}, None)
    assert same_but_stamps(entry, entry._replace(ctime_ns=77, inode=88))
    for other in (
        {"mtime_ns": 77}, {"size": 9}, {"links": 2}, {"rdev": 1}, {"target": b"x"},
        {"extras": {"f": 1}}, {"content": Reference("a", 1)}, {"mode": 0o100600},
    ):  # fmt: skip
        assert not same_but_stamps(entry, entry._replace(**other))
