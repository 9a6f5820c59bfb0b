"""What commands print: names, numbers for people, tables, JSON."""

from __future__ import annotations

import pytest

from ibtfs.cli.output import (
    counted,
    human_age,
    human_seconds,
    human_size,
    json_bytes,
    json_time,
    printable,
    shown,
    table,
)
from ibtfs.format.moment import is_moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain äöü 日本", "plain äöü 日本"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b]0;title\x07", "\\e]0;title\\x07"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\x9b31m", "\\x9b31m"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert printable(text).isprintable()


def test_shown() -> None:
    assert shown(b"a\xffb\n") == "a\\xffb\\n"


def test_json_bytes() -> None:
    assert json_bytes("ä\n".encode()) == {"path": "ä\n"}
    assert json_bytes(b"\xff", "target") == {"target": "\ufffd", "target_base64": "/w=="}


def test_json_time() -> None:
    assert json_time(1_000_000_000_123_456_789) == "2001-09-09T01:46:40.123456+00:00"
    assert json_time(-1) == "1969-12-31T23:59:59.999999+00:00"
    assert json_time(10**21) == f"@{10**12}"


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1023 << 10, "1.0 MiB"),
     (5 << 30, "5.0 GiB"), (3 << 60, "3,072.0 PiB")],
)  # fmt: skip
def test_human_size(size: int, expected: str) -> None:
    assert human_size(size) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (125.4, "2:05 min"), (3725, "1:02:05 h")],
)
def test_human_seconds(seconds: float, expected: str) -> None:
    assert human_seconds(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "future"), (3, "3s"), (150, "2min"), (7200, "2h"), (3 * 86400, "3d"),
     (15 * 86400, "2w"), (70 * 86400, "2mo"), (800 * 86400, "2y")],
)  # fmt: skip
def test_human_age(seconds: float, expected: str) -> None:
    assert human_age(seconds) == expected
    assert seconds < 0 or is_moment(expected)


def test_counted() -> None:
    assert [counted(n, "file") for n in (0, 1, 1200)] == ["0 files", "1 file", "1,200 files"]


def test_table() -> None:
    assert table(("A", "N"), [("x", "10"), ("long", "5")], frozenset({1})) == (
        "A      N\nx     10\nlong   5"
    )
