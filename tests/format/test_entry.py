"""Rows of directories: what no file can have is refused when it is decoded."""

from __future__ import annotations

from typing import Any

import pytest

from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format.entry import (
    HASH_SIZE,
    PAGE_ROWS,
    TARGET_LIMIT,
    TIME_LIMIT,
    XATTR_NAME_LIMIT,
    Page,
    PageEntry,
    check_root,
    decode_page,
    decode_state,
    encode_page,
    is_xattrs,
)
from ibtfs.format.extents import CONTENT_LIMIT
from ibtfs.format.packing import pack

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
        page(row(), extras={0: {5: 1}}),
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
