"""Rows of directories: what no file can have is refused when it is decoded."""

from __future__ import annotations

from typing import Any

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format.entry import (
    TARGET_LIMIT,
    TIME_LIMIT,
    XATTR_NAME_LIMIT,
    Page,
    decode_page,
    encode_page,
)

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
