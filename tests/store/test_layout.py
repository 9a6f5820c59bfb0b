"""Names of objects: only what is spelt as ours are is taken for one of ours."""

from __future__ import annotations

import pytest

from ibtfs.store import layout

NOT_NUMBERS = ["", "0", "01", "+1", "1_0", "\u0663", "\uff11", "1" * 200, "1\n"]


@pytest.mark.parametrize("number", NOT_NUMBERS)
def test_numbers_are_spelt_in_one_way(number: str) -> None:
    """Else one stray name would be the highest generation, under which nothing lies."""
    assert layout.parse_archive_file(f"index.{number}") is None
    assert layout.parse_parity(f"index.1.parity.{number}") is None
    assert layout.parse_parity(f"index.{number}.parity.10") is None
    assert layout.parse_protection_mark(f"redundancy.{number}") == 0
    assert layout.parse_points_parity(f"points.{number}") == 0


@pytest.mark.parametrize("number", [1, 10, 123])
def test_names_are_read_as_they_are_made(number: int) -> None:
    data = layout.ArchiveFile(layout.DATA, number)
    name = layout.archive_file("a.0", *data)
    assert layout.parse_archive_file(name) == data
    assert layout.parse_parity(layout.parity(name, number)) == (data, number)
    mark = layout.protection_mark(number).rpartition("/")[2]
    assert layout.parse_protection_mark(mark) == number
    assert layout.parse_points_parity(layout.points_parity(number).rpartition("/")[2]) == number
