"""Words of the command line: sizes, names."""

from __future__ import annotations

import click
import pytest

from ibtfs.cli.words import FileName, LocalPath, Name, Size, Speed, Tag, Text


@pytest.mark.parametrize(
    ("words", "size"),
    [("1", 1), ("100M", 100 << 20), ("1.5G", 3 << 29), ("2k", 2048), ("2KiB", 2048), ("7 B", 7),
     ("1T", 1 << 40), (" 3mb ", 3 << 20)],
)  # fmt: skip
def test_sizes(words: str, size: int) -> None:
    assert Size().convert(words, None, None) == size


@pytest.mark.parametrize("words", ["", "M", "-1", "0", "0.1", "1e3", "1X", "1,5G", "99999999P"])
def test_no_sizes(words: str) -> None:
    with pytest.raises(click.UsageError):
        Size().convert(words, None, None)


@pytest.mark.parametrize(
    ("words", "speed"), [("500", 500 << 10), (" 2M ", 2 << 20), ("100B", 100), ("0", 0), (7, 7)]
)
def test_speeds(words: str | int, speed: int) -> None:
    assert Speed().convert(words, None, None) == speed


@pytest.mark.parametrize("words", ["", "fast", "-1", "0M", "2M/s"])
def test_no_speeds(words: str) -> None:
    with pytest.raises(click.UsageError):
        Speed().convert(words, None, None)


@pytest.mark.parametrize("name", ["a", "nightly", "für", "a b", "…" * 33])
def test_names(name: str) -> None:
    assert Tag().convert(name, None, None) == Name().convert(name, None, None) == name


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a\n", "\udcff", "…" * 34])
def test_no_names(name: str) -> None:
    with pytest.raises(click.UsageError):
        Name().convert(name, None, None)


def test_other_words() -> None:
    assert Text().convert("👩\u200d🚀 ok", None, None)
    assert FileName().convert(".x\udcff", None, None) == b".x\xff"
    assert LocalPath().convert("/a/../b/", None, None) == b"/b"
    with pytest.raises(click.UsageError):
        FileName().convert("x" * 256, None, None)
