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


@pytest.mark.parametrize(
    ("name", "expected"),
    [("archives/a.0/index.1", "a.0"), ("archives/a.0", ""), ("archives/a.0/", ""),
     ("archives/a.0/b/c", ""), ("points/a.0/index.1", ""), ("archives", ""), ("", ""),
     ("archives//x", "")],
)  # fmt: skip
def test_objects_lie_in_folders_of_archives(name: str, expected: str) -> None:
    assert layout.archive_of(name) == expected


def test_names_of_all_objects() -> None:
    assert layout.archive_file("a.0", "data", 2) == "archives/a.0/data.2"
    assert layout.removed("a.0") == "archives/a.0/removed"
    assert layout.bundle("0f") == "bundles/0f"
    assert layout.parity("archives/a.0/data.2", 10) == "archives/a.0/data.2.parity.10"
    assert layout.protection_mark(5) == "protection/redundancy.5"
    assert layout.points_parity(3) == "protection/points.3"
    assert (layout.point("p"), layout.tags("p"), layout.tag("p", "t")) == (
        "points/p", "tags/p", "tags/p/t"
    )  # fmt: skip
    assert (layout.lock("l"), layout.forgotten("p"), layout.damage_note("n")) == (
        "locks/l", "forgotten/p", "damaged/n"
    )  # fmt: skip
    assert (layout.run_of("a.b.0"), layout.run_of("a.12")) == ("a.b", "a")
    assert (layout.point_of("p"), layout.point_of("p.0f.part")) == ("p", "p")


def test_other_names_are_none_of_ours() -> None:
    for name in ("index", "index.1.2", "other.1", "index.1.parity.5", ".1", "1", "indexx.1"):
        assert layout.parse_archive_file(name) is None
    for name in ("index.1", "index.1.parity", "index.1.other.5", "x.1.parity.5", "parity.5"):
        assert layout.parse_parity(name) is None
    assert layout.parse_archive_file("index.1000000") == ("index", layout.GENERATIONS_LIMIT)
    assert layout.parse_archive_file("index.1000001") is None
    assert layout.parse_archive_file("index.1" + 18 * "0") is None
    assert layout.parse_protection_mark("redundancy.999") == 999
    for name in ("redundancy.1000", "5", "points.5", "redundancy"):
        assert layout.parse_protection_mark(name) == 0
    assert layout.parse_points_parity("points.999999999") == 999_999_999
    for name in ("points.1000000000", "5", "redundancy.5", "points"):
        assert layout.parse_points_parity(name) == 0
    for name, good in (("0123456789abcdef", True), ("0123456789abcde", False), ("", False),
                       ("0123456789abcdef0", False), ("0123456789ABCDEF", False)):  # fmt: skip
        assert layout.is_bundle_id(name) is good
