"""What was a directory once: whom it may be shown to; how deep and how heavy trees may be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ibtfs.errors import EntryNotFound, FormatDamaged, IntegrityError
from ibtfs.format.acl import ACCESS_ACL
from ibtfs.format.entry import Page, PageEntry
from ibtfs.format.index import Reference
from ibtfs.format.packing import pack
from ibtfs.store.trees.directory import (
    EXTRA_BYTES,
    ROW_BYTES,
    Directory,
    Entry,
    Gap,
    StateRef,
    child_path,
    decode_xattrs,
    is_missing,
    weight_of,
)
from ibtfs.store.trees.past import Past
from ibtfs.store.trees.patience import Patience
from ibtfs.store.trees.totals import ENTRIES_LIMIT, entries_below, require_countable
from ibtfs.store.trees.trail import Trail, depth_of, may_hold_more, require_depth
from tests.support.states import Trees

NEW, OLD = cast(Any, SimpleNamespace(id="new")), cast(Any, SimpleNamespace(id="old"))
ROW = (b"a", 0o100644, 0, 0, 5, 1, 1, 1, 1)


def ref(number: int) -> Reference:
    return Reference("a", number)


def folder(mode: int = 0o755, uid: int = 1, gid: int = 2, number: int = 1, **more: Any) -> Entry:
    state = StateRef(ref(number), bytes([number]) * 24)
    values = {"extras": {}, "xattrs_content": None, **more}
    return Entry(
        b"name", 0o40000 | mode, uid, gid, 0, 1, 2, 3, 1, None, state, b"", 0, **values
    )  # fmt: skip


def past(*entries: Entry) -> Past:
    made = Past()
    for point, entry in zip((NEW, OLD, OLD), entries):
        made.add(point, entry)
    return made


LISTED = {"x": {ACCESS_ACL: b"acl"}}


@pytest.mark.parametrize(
    ("entries", "mode", "uid", "gid"),
    [
        ([folder()], 0o755, 1, 2), ([folder(0o4755)], 0o755, 1, 2),
        ([folder(0o755), folder(0o711)], 0o711, 1, 2),
        ([folder(0o711), folder(0o750)], 0o710, 1, 2),
        ([folder(), folder(uid=5)], 0o700, None, 2), ([folder(), folder(gid=5)], 0o700, 1, 2),
        ([folder(), folder(uid=5), folder()], 0o700, None, 2),
        ([folder(), folder(gid=5), folder()], 0o700, 1, 2),
        ([folder(xattrs_content=ref(9))], 0o700, 1, 2), ([folder(extras=LISTED)], 0o700, 1, 2),
        ([folder(extras={"x": {b"user.a": b""}})], 0o755, 1, 2),
        ([folder(), folder(extras=LISTED), folder()], 0o700, 1, 2), ([], 0o777, 0, 0),
    ],
)  # fmt: skip
def test_nobody_is_let_in_whom_one_of_the_points_kept_out(
    entries: list[Entry], mode: int, uid: int | None, gid: int
) -> None:
    found = past(*entries)
    assert (found.mode, found.uid, found.gid) == (mode, uid, gid)
    assert found.was_directory is bool(entries)
    assert (found.was_other, found.failed) == (False, False)
    copy = found.copy_for_owner()
    assert (copy.mode, copy.uid, copy.gid) == (mode & 0o700, uid, gid)
    assert (copy.states, copy.was_other) == (found.states, found.was_other)


def test_states_are_known_by_their_digests_each_with_the_newest_point() -> None:
    found = past(folder(number=1), folder(number=2), folder(number=1))
    assert [(one.point, one.state.ref) for one in found.states.values()] == [
        (NEW, ref(1)), (OLD, ref(2))
    ]  # fmt: skip
    found.add(OLD, folder()._replace(state=None, mode=0o100600, uid=7))
    assert (found.was_other, found.mode, found.uid, len(found.states)) == (True, 0o755, 1, 2)


def test_patience_is_over_when_its_seconds_are() -> None:
    now = [100.0]
    patience = Patience(5, lambda: now[0])
    found = []
    for now[0] in (100.0, 104.9, 105.0, 106.0):
        found.append(patience.is_over)
    assert found == [False, False, True, True]
    assert Patience(0, lambda: 1.0).is_over


def test_a_trail_goes_so_deep_and_so_long_a_way() -> None:
    require_depth(8192, b"x" * 65_536, "here")
    for depth, path in ((8193, b""), (0, b"x" * 65_537)):
        with pytest.raises(FormatDamaged, match="here: lies deeper"):
            require_depth(depth, path, "here")
    trail = Trail()
    for depth in range(8193):
        trail.enter(depth, ref(depth))
    with pytest.raises(FormatDamaged, match="archives/a: record 9000: lies deeper"):
        trail.enter(8193, ref(9000))
    with pytest.raises(FormatDamaged, match="archives/a: record 5: a directory that holds itself"):
        trail.enter(6, ref(5))
    trail.enter(6, ref(7000))  # what was below is left
    trail.enter(7, ref(6))
    with pytest.raises(FormatDamaged, match="holds itself"):
        trail.enter(8, ref(7000))


def test_what_lies_deeper_is_not_stored() -> None:
    assert [depth_of(path) for path in (b"", b"a", b"a/b", b"a/b/c")] == [0, 1, 2, 3]
    deep = b"/".join([b"a"] * 8191)
    assert may_hold_more(deep)
    assert not may_hold_more(deep + b"/a")
    assert may_hold_more(b"x" * (65_536 - 256))
    assert not may_hold_more(b"x" * (65_536 - 255))
    assert (child_path(b"", b"a"), child_path(b"a/b", b"c")) == (b"a", b"a/b/c")


def test_entries_are_counted_up_to_the_limit() -> None:
    rows = [folder(number=1), folder(number=2), folder(number=1), folder()._replace(state=None)]
    assert entries_below(rows, {ref(1): 5, ref(2): 7}) == 17
    assert entries_below(rows, {ref(2): 7}) == 7
    assert entries_below([], {}) == 0
    assert entries_below(rows, {ref(1): ENTRIES_LIMIT}) == ENTRIES_LIMIT + 1
    require_countable(ENTRIES_LIMIT, "here")
    with pytest.raises(Exception, match="here: would have more entries"):
        require_countable(ENTRIES_LIMIT + 1, "here")


GAPS = [Gap(b"", b"b", FormatDamaged("1")), Gap(b"d", b"f", FormatDamaged("2"))]


@pytest.mark.parametrize(
    ("name", "missing"),
    [(b"a", True), (b"b", True), (b"c", False), (b"d", False), (b"e", True), (b"f", True),
     (b"f0", False), (b"z", False)],
)  # fmt: skip
def test_names_in_gaps_are_missing(name: bytes, missing: bool) -> None:
    assert is_missing(name, GAPS) is missing
    assert not is_missing(name, [])


def test_a_state_weighs_about_what_it_holds() -> None:
    assert weight_of(Page((), (), {})) == 0
    rows = Page((ROW, ROW), (7, 7), {})
    assert weight_of(rows) == 2 * ROW_BYTES
    assert weight_of([PageEntry(1, b"", 1, b"")] * 3) == 3 * ROW_BYTES
    extras: dict[int, Any] = {0: {"f": 1}, 1: {"g": 1, "x": {b"ab": b"cde", b"": b""}}}
    assert weight_of(rows._replace(extras=extras)) == (
        2 * ROW_BYTES + EXTRA_BYTES * (2 + 3) + 2 * EXTRA_BYTES + 5
    )
    assert 300 <= ROW_BYTES <= 600
    assert 100 <= EXTRA_BYTES <= 300


def test_names_are_found_in_one_page_and_in_several() -> None:
    names = [b"%02d" % n for n in range(1, 40, 2)]
    for paged in (False, True):
        trees = Trees()
        root = trees.folder(dict.fromkeys(names), paged=paged)
        directory = Directory(cast(Any, trees), root.ref)
        assert directory.size == len(names)
        assert [entry.name for entry in directory.entries()] == names
        assert len(directory.page_digests) == (7 if paged else 0)
        for number in range(42):
            name = b"%02d" % number
            if name in names:
                assert directory.find(name).name == name
            else:
                with pytest.raises(EntryNotFound):
                    directory.find(name)
        assert directory.memory_size == 300 + ROW_BYTES * (7 if paged else 20)


def test_pages_that_others_have_are_left_out_and_gaps_are_told() -> None:
    trees = Trees()
    root = trees.folder(dict.fromkeys([b"%d" % n for n in range(9)]), paged=True)
    directory = Directory(cast(Any, trees), root.ref)
    digests = [number.to_bytes(24, "big") for number in range(3)]
    assert directory.page_digests == set(digests)
    found = [page.page.stamps[0][0] for page in directory.pages(without={digests[1]})]
    assert found == [b"0", b"6"]
    trees.damaged.add(1)
    trees.cache.drop(lambda _: True)
    gaps: list[Gap] = []
    read = [page.page.stamps[0][0] for page in directory.readable(gaps, {digests[0]})]
    assert read == [b"6"]
    ((after, last, error),) = gaps
    assert (after, last) == (b"2", b"5")
    assert isinstance(error, IntegrityError)
    assert str(error) == "state 1: 3 of 9 entries cannot be read, after '2' up to '5'"


def test_attributes_are_one_map() -> None:
    assert decode_xattrs(pack({b"user.a": b"1"}), "here") == {b"user.a": b"1"}
    others: list[Any] = [{b"user.a": {}}, [], {b"": b""}, {"a": b""}]
    for wrong in others:
        with pytest.raises(FormatDamaged, match="here: not"):
            decode_xattrs(pack(wrong), "here")
