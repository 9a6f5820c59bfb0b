"""Rows of directories: what no file can have is refused when it is decoded."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from blake3 import blake3

from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format.entry import (
    HASH_SIZE,
    NAME,
    NAME_LIMIT,
    PAGE_ROWS,
    SIZE,
    TARGET_LIMIT,
    TIME_LIMIT,
    XATTR_NAME_LIMIT,
    Page,
    PageEntry,
    Stamp,
    check_root,
    decode_page,
    decode_state,
    encode_page,
    encode_pages,
    ends_page,
    expected_blocks,
    is_page,
    is_page_of,
    is_xattrs,
    page_digest,
    pages_digest,
    split_rows,
)
from ibtfs.format.extents import CONTENT_LIMIT
from ibtfs.format.packing import pack
from tests.support.plain import UNKEYED

FILE, LINK = 0o100644, 0o120777
STAMP = (b"name", FILE, 0, 0, 0, 1, 1, 1, 1)


def decoded(
    mode: int = FILE, ref: Any = None, extra: dict[str, Any] | None = None, **stamp: int
) -> Page:
    """A page of one row with these values, encoded and decoded."""
    places = {"mtime_ns": 5, "ctime_ns": 6}
    row: list[Any] = [*STAMP]
    row[1] = mode
    for name, value in stamp.items():
        row[places[name]] = value
    return decode_page(
        encode_page(Page((tuple(row),), (ref,), {0: extra} if extra else {})), "here"
    )


@pytest.mark.parametrize("time", [0, -1, TIME_LIMIT - 1, -TIME_LIMIT])
@pytest.mark.parametrize("name", ["mtime_ns", "ctime_ns"])
def test_times_that_a_kernel_can_have(name: str, time: int) -> None:
    assert decoded(**{name: time}).stamps[0][{"mtime_ns": 5, "ctime_ns": 6}[name]] == time


@pytest.mark.parametrize("time", [TIME_LIMIT, -TIME_LIMIT - 1, 1 << 126, -(1 << 126)])
@pytest.mark.parametrize("name", ["mtime_ns", "ctime_ns"])
def test_times_that_no_kernel_can_have(name: str, time: int) -> None:
    with pytest.raises(FormatDamaged, match="impossible numbers"):
        decoded(**{name: time})


@pytest.mark.parametrize("target", [b"x" * (TARGET_LIMIT + 1), b"a\0b", b"\0"])
def test_targets_that_no_link_can_have(target: bytes) -> None:
    with pytest.raises(FormatDamaged, match="leads nowhere"):
        decoded(LINK, target)


def test_the_longest_target() -> None:
    assert decoded(LINK, b"x" * TARGET_LIMIT).refs == (b"x" * TARGET_LIMIT,)


@pytest.mark.parametrize("name", [b"", b"user.a\0b", b"u" * (XATTR_NAME_LIMIT + 1)])
def test_names_that_no_extended_attribute_can_have(name: bytes) -> None:
    with pytest.raises(FormatDamaged, match="'x' is not of its type"):
        decoded(extra={"x": {name: b""}})


def test_the_longest_name_of_an_extended_attribute() -> None:
    attributes = {b"u" * XATTR_NAME_LIMIT: b"1"}
    assert decoded(extra={"x": attributes}).extras[0]["x"] == attributes


HASH = bytes(HASH_SIZE)
ROW = (b"a", FILE, 0, 0, 5, 1, 1, 1, 1)


def page(*rows: tuple[Any, ...], refs: Any = None, extras: Any = None) -> bytes:
    return pack(
        (0, rows, [7] * len(rows) if refs is None else refs, {} if extras is None else extras)
    )


def row(**values: Any) -> tuple[Any, ...]:
    names = ("name", "mode", "uid", "gid", "size", "mtime", "ctime", "inode", "links")
    return tuple(values.get(name, old) for name, old in zip(names, ROW))


@pytest.mark.parametrize(
    "body",
    [
        page(), page(row()), page(row(), row(name=b"b")), page(row(uid=0xFFFFFFFF, gid=0xFFFFFFFF)),
        page(row(inode=(1 << 64) - 1)), page(row(links=0xFFFFFFFF)), page(row(size=CONTENT_LIMIT)),
        page(row(name=b"n" * 255)), page(row(size=0), refs=[None]), page(row(name=b"...")),
        page(row(mode=0o40755), refs=[[3, HASH]]), page(row(mode=0o20644), refs=[(1 << 64) - 1]),
        page(row(mode=0o60644), refs=[0]), page(row(mode=0o10644), refs=[None]),
        page(row(), extras={0: {"g": (1 << 63) - 1, "b": 0, "later": None}}),
        page(*(row(name=b"%06d" % n) for n in range(PAGE_ROWS))),
    ],
)  # fmt: skip
def test_pages_just_within_the_limits_are_taken(body: bytes) -> None:
    assert encode_page(decode_page(body, "here")) == body


@pytest.mark.parametrize(
    "body",
    [
        pack((0, [ROW], [7])), pack((0, {}, [], {})), pack((0, [], {}, {})), pack((0, [], [], [])),
        pack((2**70, 1)), pack((-1, 1)), pack(("0", [], [], {})), pack((1, 5)), pack((1, [])),
        page(row(), refs=[]), page(row(), refs=[7, 7]), page(ROW[:-1]), page((*ROW, 1)),
        page(row(name="a")), page(row(name=b"")), page(row(name=b"b"), row()), page(row(), row()),
        page(row(name=b"a/b")), page(row(name=b"a\0")), page(row(name=b".")), page(row(name=b"..")),
        page(row(name=b"n" * 256)), page(row(mode=1.0)), page(row(mode=True)), page(row(uid=-1)),
        page(row(uid=1 << 32)), page(row(gid=1 << 32)), page(row(mode=1 << 32)), page(row(size=-1)),
        page(row(size=CONTENT_LIMIT + 1)), page(row(inode=1 << 64)), page(row(inode=-1)),
        page(row(links=1 << 32)), page(row(links=-1)), page(row(), refs=[None]),
        page(row(), refs=[[3, HASH]]), page(row(size=0), refs=[7]),
        page(row(mode=0o40755), refs=[[3, HASH[:-1]]]), page(row(mode=0o40755), refs=[[3]]),
        page(row(mode=0o40755), refs=[["3", HASH]]), page(row(mode=0o40755), refs=[7]),
        page(row(mode=0o20644), refs=[1 << 64]), page(row(mode=0o60644), refs=[-1]),
        page(row(mode=0o10644), refs=[7]), page(row(mode=0o140644), refs=[b""]),
        page(row(), extras={1: {}}), page(row(), extras={-1: {}}), page(row(), extras={0: []}),
        page(row(), extras={"0": {}}), page(row(), extras={0: {"g": -1}}),
        page(row(), extras={0: {"g": 1 << 63}}), page(row(), extras={0: {"b": 1.0}}),
        page(row(), extras={0: {"f": None}}), page(row(), extras={0: {"x": []}}),
        page(row(), extras={0: {5: 1}}), page(extras={0: {}}), page(extras={0: b""}),
        page(*(row(name=b"%06d" % n) for n in range(PAGE_ROWS + 1))),
    ],
)  # fmt: skip
def test_pages_that_cannot_be_are_damage(body: bytes) -> None:
    with pytest.raises((FormatDamaged, UnsupportedFormat), match="here"):
        decode_page(body, "here")


@pytest.mark.parametrize(
    "entries",
    [
        5, [5], [[1, b"a", 1]], [[1, HASH, 0, b"m"]], [[1, HASH, PAGE_ROWS + 1, b"m"]],
        [[1, HASH[:-1], 1, b"m"]], [[1, HASH, 1, "m"]], [["1", HASH, 1, b"m"]],
        [[1, HASH, 1, b"m"], [2, HASH, 1, b"m"]], [[1, HASH, 1, b"m"], [2, HASH, 1, b"a"]],
    ],
)  # fmt: skip
def test_lists_of_pages_that_cannot_be_are_damage(entries: Any) -> None:
    good = [[1, HASH, 1, b"m"], [2, HASH, PAGE_ROWS, b"z"]]
    assert decode_state(pack((1, good)), "here") == tuple(PageEntry(*one) for one in good)
    with pytest.raises(FormatDamaged, match="here: a list of pages where"):
        decode_page(pack((1, good)), "here")
    with pytest.raises(FormatDamaged, match="here"):
        decode_state(pack((1, entries)), "here")


def test_a_root_is_a_directory_with_possible_numbers() -> None:
    root = row(name=b"", mode=0o40755)
    check_root(root, "here")
    for wrong in (
        root[:-1], list(root), row(), row(mode=0o40755, uid=1 << 32), row(mode=0o40755, size=-1),
        row(mode=0o40755, mtime=TIME_LIMIT), row(mode=0o40755, links="1"),
    ):  # fmt: skip
        with pytest.raises(FormatDamaged, match="here"):
            check_root(wrong, "here")


def test_attributes_are_no_more_than_a_kernel_lists() -> None:
    names = {b"%04d%s" % (n, b"x" * 251): b"" for n in range(256)}
    assert is_xattrs(names)  # 64 KiB, each name with the NUL behind it
    assert not is_xattrs({**names, b"a": b""})
    assert not is_xattrs([])
    assert not is_xattrs({"user.a": b""})
    assert not is_xattrs({b"user.a": "b"})


def file_row(name: bytes, **values: Any) -> Stamp:
    found: Stamp = row(name=name, **values)
    return found


def test_a_page_is_told_by_how_it_begins() -> None:
    stamps = (file_row(b"a"), file_row(b"b"))
    body = encode_page(Page(stamps, (7, 8), {1: {"f": 1}}))
    assert is_page(body)
    assert is_page_of(body, stamps)
    assert is_page_of(body, list(stamps))
    for other in ((), stamps[:1], stamps[::-1], (stamps[0], file_row(b"b", mtime=2)),
                  (*stamps, file_row(b"c"))):  # fmt: skip
        assert not is_page_of(body, other)
    listed = encode_pages([PageEntry(5, HASH, 2, b"b")])
    assert not is_page(listed)
    assert not is_page_of(listed, stamps)
    assert not is_page(b"")
    assert not is_page(b"\x94")
    assert not is_page(b"\x93\x00")


def linked(count: int, *, size: int = 0, last: int = 0) -> list[Stamp]:
    """Rows of links after none of which a page ends by its name; *size* is that of each target."""
    names = (b"%08d" % n for n in itertools.count())
    quiet = itertools.islice((name for name in names if not ends_page(name, UNKEYED)), count)
    rows = [file_row(name, mode=LINK, size=size) for name in quiet]
    if last:
        rows[-1] = rows[-1][:SIZE] + (last,) + rows[-1][SIZE + 1 :]  # type: ignore[assignment]
    return rows


@pytest.mark.parametrize(
    ("rows", "ends"),
    [
        ([], [0]), (linked(1), [1]), (linked(64, size=1 << 20), [64]), (linked(65), [65]),
        (linked(4096), [4096]), (linked(4097), [4096, 4097]), (linked(8193), [4096, 8192, 8193]),
        (linked(128, size=1 << 14), [64, 128]), (linked(100, size=(1 << 14) - 1), [65, 100]),
        (linked(129, size=1 << 14), [64, 128, 129]),
        (linked(66, size=16, last=1 << 20), [66]),
    ],
)  # fmt: skip
def test_rows_are_cut_into_pages_at_the_same_places(rows: list[Stamp], ends: list[int]) -> None:
    starts = [0, *ends[:-1]]
    assert list(split_rows(rows, UNKEYED)) == [slice(*pair) for pair in zip(starts, ends)]


def test_only_links_weigh() -> None:
    rows = [file_row(one[NAME], size=1 << 30) for one in linked(200)]
    assert list(split_rows(rows, UNKEYED)) == [slice(0, 200)]


def test_a_page_ends_after_one_name_in_a_thousand() -> None:
    names = [b"%d" % n for n in range(20_000)]
    ending = [
        name for name in names if int.from_bytes(blake3(name).digest()[:2], "little") % 1024 == 0
    ]
    assert [name for name in names if ends_page(name, UNKEYED)] == ending
    assert 10 < len(ending) < 40
    rows = linked(100)
    rows[69] = file_row(ending[0])
    assert list(split_rows(rows, UNKEYED)) == [slice(0, 70), slice(70, 100)]


@pytest.mark.parametrize(
    ("size", "blocks"), [(0, 0), (1, 8), (4095, 8), (4096, 8), (4097, 16), (1 << 40, 1 << 31)]
)
def test_blocks_that_are_expected(size: int, blocks: int) -> None:
    assert expected_blocks(FILE, size) == expected_blocks(0o40755, size) == blocks
    assert expected_blocks(LINK, size) == expected_blocks(0o10644, size) == 0


PLAIN = Page((file_row(b"a"), file_row(b"b", mode=0o40755)), (7, (3, HASH)), {})
TOKENS = [b"t" * 32, HASH]
DIGEST = page_digest(PLAIN, TOKENS, {}, UNKEYED)


def test_a_digest_is_of_bytes_that_are_known() -> None:
    rows = [(*stamp[:6], stamp[8], token) for stamp, token in zip(PLAIN.stamps, TOKENS)]
    hashed = blake3(pack((rows, [])), derive_key_context="ibtfs 2026 page").digest()
    assert hashed == DIGEST
    two = blake3(HASH + b"h" * 24, derive_key_context="ibtfs 2026 pages").digest()
    assert pages_digest([HASH, b"h" * 24], UNKEYED) == two
    with pytest.raises(ValueError, match="the page's digest"):
        pages_digest([HASH], UNKEYED)


@pytest.mark.parametrize(
    "values", [{"name": b"A"}, {"mode": FILE | 1}, {"uid": 1}, {"gid": 1}, {"size": 6},
               {"mtime": 2}, {"links": 2}],
)  # fmt: skip
def test_metadata_that_differ_make_another_digest(values: dict[str, Any]) -> None:
    other = PLAIN._replace(stamps=(row(**values), PLAIN.stamps[1]))
    assert page_digest(other, TOKENS, {}, UNKEYED) != DIGEST


def test_what_tells_of_changes_alone_makes_no_other_digest() -> None:
    moved = PLAIN._replace(
        stamps=(file_row(b"a", ctime=5, inode=9), PLAIN.stamps[1]), refs=(8, (4, HASH)),
        extras={0: {"f": 2, "g": 1}, 1: {"x": {}}},
    )  # fmt: skip
    assert page_digest(moved, TOKENS, {}, UNKEYED) == DIGEST
    assert page_digest(PLAIN, TOKENS[::-1], {}, UNKEYED) != DIGEST


def test_extras_that_count_make_another_digest() -> None:
    def digest(extras: dict[int, dict[str, Any]], digests: dict[int, bytes] | None = None) -> bytes:
        return page_digest(PLAIN._replace(extras=extras), TOKENS, digests or {}, UNKEYED)

    attributes = {b"user.b": b"1", b"user.a": b"2"}
    found = [
        DIGEST, digest({0: {"b": 0}}), digest({1: {"b": 0}}), digest({0: {"b": 8}}),
        digest({0: {"x": attributes}}), digest({0: {"x": {b"user.b": b"1"}}}),
        digest({0: {"X": 5}}, {0: b"d" * 32}), digest({0: {"X": 5}}, {0: b"e" * 32}),
        digest({0: {"x": attributes, "b": 8}}),
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert digest({0: {"x": dict(reversed(attributes.items()))}}) == found[4]
    assert digest({0: {"X": 6}}, {0: b"d" * 32}) == found[6]
    assert digest({1: {"b": 1}, 0: {"b": 2}}) == digest({0: {"b": 2}, 1: {"b": 1}})


def test_limits_are_those_of_linux() -> None:
    second = 1_000_000_000
    assert (1 << 63) * second == TIME_LIMIT
    assert decoded(mtime_ns=-(1 << 63) * second).stamps[0][5] == -(1 << 63) * second
    assert (TARGET_LIMIT, XATTR_NAME_LIMIT, NAME_LIMIT) == (4095, 255, 255)
    few = {b"%d" % n: b"" for n in range(5)}
    assert is_xattrs({})
    assert is_xattrs(few)


def test_what_a_later_version_adds_is_passed_over() -> None:
    listed = [[1, HASH, 1, b"m"]]
    assert decode_state(pack((1, listed, "later")), "here") == (PageEntry(1, HASH, 1, b"m"),)
    assert decode_page(pack((0, [ROW], [7], {}, "later")), "here") == Page((ROW,), (7,), {})
    with pytest.raises(UnsupportedFormat, match="here: kind 2 is not known here"):
        decode_state(pack((2, listed)), "here")
