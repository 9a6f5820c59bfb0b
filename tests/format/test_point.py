"""The manifest of a point: what is refused says which of its values is wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3

from ibtfs.errors import FormatDamaged
from ibtfs.format import compression, frames, objects, point
from ibtfs.format.index import Reference
from ibtfs.format.keys import PlainKeys
from ibtfs.format.packing import pack, unpack_map

REPOSITORY = b"r" * 16
ID = "20261120T101112Z_host_0a"
NAME = f"points/{ID}"
POINT = point.Point(
    id=ID, sequence=1, epoch=0, time_ns=1, utc_offset=3600, source=point.Source("host", b"/x"),
    display="x", root=(b"", 0o40755, 0, 0, 4096, 1, 1, 1, 2), state=Reference(f"{ID}.0", 3),
    digest=bytes(32), root_extras={"x": {b"user.a": b"b"}}, devices=(b"", b"mnt"),
    users={0: "root"}, groups={0: "root"}, statistics={"files": 3}, parent=ID, comment="first",
)  # fmt: skip
WRONG: dict[str, list[Any]] = {
    "sequence": [0, -1, point.NUMBER_LIMIT + 1],
    "epoch": [-1, point.NUMBER_LIMIT + 1],
    "time": [point.TIME_LIMIT + 1, -point.TIME_LIMIT - 1],
    "utc_offset": [point.DAY + 1, -point.DAY - 1],
    "display": ["", ".", "..", "a/b", "a\nb", "n" * 256],
    "root": [(), (b"", 0o100644, 0, 0, 4096, 1, 1, 1, 2), (b"", 0o40755, -1, 0, 0, 1, 1, 1, 2)],
    "extras": [{"b": -1}, {7: 1}],
    "state": [(), (f"{ID}.0",), (ID, 3), (f"{ID}.0", -1), (f"{ID}.0", "3")],
    "digest": [b"", bytes(31)],
    "devices": [("mnt",), (b"", 1)],
    "users": [{"root": 0}, {0: b"root"}],
    "groups": [{"root": 0}, {0: b"root"}],
    "statistics": [{1: 1}, {"files": "3"}],
    "parent": ["short", "../points/other"],
}
"""Values of the right type that a manifest may not have."""
OF_ANY_VALUE = {"id", "host", "path", "name", "single", "full", "comment"}


def values() -> dict[str, Any]:
    """The values of a good manifest, as they are packed."""
    data = point.encode_point(POINT, NAME, PlainKeys(REPOSITORY), compression.Codec())
    return unpack_map(framed(data), NAME)


def framed(data: bytes) -> bytes:
    """The raw bytes of the frame that a manifest has."""
    return objects.decode_object(PlainKeys(REPOSITORY), NAME, frames.MANIFEST, data, NAME)


def decoded(manifest: dict[str, Any], name: str = NAME) -> point.Point:
    """The point of a manifest with such values, sealed as *name*."""
    keys, raw = PlainKeys(REPOSITORY), pack(manifest)
    data = objects.encode_object(keys, name, frames.MANIFEST, raw, compression.Codec())
    return point.decode_point(data, NAME, ID, keys)


def test_a_point_comes_back() -> None:
    assert decoded(values()) == POINT
    assert decoded({**values(), "later": 1}) == POINT  # a key of a newer version


def test_every_key_has_values_here() -> None:
    assert {*WRONG, *OF_ANY_VALUE} == set(point._FIELDS)


def test_a_suffix_comes_back_and_is_digits() -> None:
    suffixed = replace(POINT, suffix="3fa9c0")
    data = point.encode_point(suffixed, NAME, PlainKeys(REPOSITORY), compression.Codec())
    assert point.decode_point(data, NAME, ID, PlainKeys(REPOSITORY)) == suffixed
    assert point.point_of_row(point.row_of_point(suffixed)) == suffixed
    for wrong in ("3fa9c", "3FA9C0", "../../x", "a" * 41, b"3fa9c0", 0, None):
        with pytest.raises(FormatDamaged, match=f"^{NAME}: 'suffix' is not what it may be$"):
            decoded({**values(), "suffix": wrong})


@pytest.mark.parametrize("key", point._FIELDS)
def test_a_key_that_is_missing_or_of_a_wrong_type_is_named(key: str) -> None:
    manifest = values()
    for wrong in ({**manifest, key: None}, {k: v for k, v in manifest.items() if k != key}):
        with pytest.raises(FormatDamaged, match=f"^{NAME}: '{key}' is missing or of a wrong type$"):
            decoded(wrong)


@pytest.mark.parametrize(
    ("key", "wrong"), [(key, wrong) for key, several in WRONG.items() for wrong in several]
)
def test_a_key_of_a_wrong_value_is_named(key: str, wrong: Any) -> None:
    with pytest.raises(FormatDamaged, match=f"^{NAME}: '{key}'"):
        decoded({**values(), key: wrong})


def test_the_manifest_of_another_point_is_refused() -> None:
    other = replace(POINT, id="20261121T101112Z_host_0b")
    data = point.encode_point(other, NAME, PlainKeys(REPOSITORY), compression.Codec())
    with pytest.raises(FormatDamaged, match=f"^{NAME}: is the manifest of '{other.id}'$"):
        point.decode_point(data, NAME, ID, PlainKeys(REPOSITORY))
    with pytest.raises(FormatDamaged, match=re.escape(f"{NAME}: the checksum does not match")):
        decoded(values(), f"points/{other.id}")  # moved, not only written as another


PARENTS = (point.Parent(0o755, 0, 0), point.Parent(0o700, 1000, (1 << 32) - 1))


def test_parents_are_kept_if_they_are_known() -> None:
    for parents in (None, (), PARENTS):
        known = replace(POINT, parents=parents)
        data = point.encode_point(known, NAME, PlainKeys(REPOSITORY), compression.Codec())
        assert point.decode_point(data, NAME, ID, PlainKeys(REPOSITORY)) == known
        assert point.point_of_row(point.row_of_point(known)) == known
    assert decoded({**values(), "parents": ((0o755, 0, 0, "later"),)}).parents == PARENTS[:1]


@pytest.mark.parametrize(
    "wrong",
    [
        7, {}, (7,), ((),), ((0o755, 0),), ((0o755, 0, "0"),), ((0o1755, 0, 0),), ((-1, 0, 0),),
        ((0, -1, 0),), ((0, 0, 1 << 32),), ((True, 0, 0),), ((0, 0, 0),) * 4097,
    ],
)  # fmt: skip
def test_parents_that_no_folder_could_be_are_refused(wrong: Any) -> None:
    with pytest.raises(FormatDamaged, match="'parents' is not what it may be"):
        decoded({**values(), "parents": wrong})


GOOD: dict[str, list[Any]] = {
    "sequence": [1, 1 << 40], "epoch": [0, 1 << 40], "time": [1 << 63, -(1 << 63), 0],
    "utc_offset": [86_400, -86_400], "display": ["n" * 255, "...", "\x7f", "a\\b", "é" * 127],
    "root": [(b"", 0o40000, 0, 0, 0, 1, 1, 1, 1)], "state": [(f"{ID}.0", 0)],
    "devices": [(), (b"",)], "users": [{}, {-1: ""}], "groups": [{0: "é"}],
    "statistics": [{}, {"x": -1}], "parent": ["", "20261120"], "suffix": ["", "012345", "f" * 40],
    "replaces": [(), ("another-0",)], "extras": [{}, {"b": 0}],
    "origin": [(REPOSITORY, "another-0"), (b"s" * 16, ID), (bytes(16), "0" * 8)],
    "parents": [((0, 0, 0),) * 4096, ((0o777, (1 << 32) - 1, (1 << 32) - 1),)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "good"), [(key, good) for key, several in GOOD.items() for good in several]
)
def test_values_just_within_the_limits_are_taken(key: str, good: Any) -> None:
    found = decoded({**values(), "time": 1, "parent": "", key: good})
    names = {"time": "time_ns", "extras": "root_extras"}
    assert getattr(found, names.get(key, key)) == good


@pytest.mark.parametrize(
    "wrong", [7, "another-0", ["another-0", 1], [ID], ["short"], ["a/b/c/d/e"]]
)
def test_points_in_whose_place_none_can_stand_are_refused(wrong: Any) -> None:
    with pytest.raises(FormatDamaged, match=f"^{NAME}: 'replaces' is not what it may be$"):
        decoded({**values(), "replaces": wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        None, (), 7, ID, (b"s" * 16,), (b"s" * 16, ID, 1), (ID, b"s" * 16), ("s" * 16, ID),
        (b"s" * 15, ID), (b"s" * 17, ID), (b"s" * 16, ID.encode()), (b"s" * 16, "short"),
        (b"s" * 16, "a/b/c/d/e"), (b"s" * 16, f"{ID}\n"), (b"s" * 16, "n" * 121),
        (REPOSITORY, ID), {b"s" * 16: ID},
    ],
)  # fmt: skip
def test_what_no_point_can_be_a_copy_of_is_refused(wrong: Any) -> None:
    with pytest.raises(FormatDamaged, match=f"^{NAME}: 'origin' is not what it may be$"):
        decoded({**values(), "origin": wrong})


def test_copies_have_one_origin_and_no_other_point() -> None:
    origin = point.Origin(REPOSITORY, ID)
    assert POINT.origin_in(REPOSITORY) == origin
    copy = replace(POINT, id="another-0", origin=origin)
    assert copy.origin_in(b"s" * 16) == origin
    assert POINT.origin_in(b"s" * 16) != origin


def test_all_that_a_point_says_comes_back() -> None:
    full = replace(
        POINT, source=point.Source("host", b"/x", "named"), single=True, full=True,
        replaces=("another-0", "another-1"), suffix="0123456789", parents=PARENTS, time_ns=-5,
        utc_offset=-3600, writer="0a0b0c0d", origin=point.Origin(b"s" * 16, "another-0"),
    )  # fmt: skip
    data = point.encode_point(full, NAME, PlainKeys(REPOSITORY), compression.Codec())
    assert point.decode_point(data, NAME, ID, PlainKeys(REPOSITORY)) == full
    assert point.point_of_row(point.row_of_point(full)) == full


def test_a_later_point_of_a_second_has_a_suffix_without_being_told() -> None:
    made = 1_795_169_472  # the second of ID
    assert point.made_seconds(ID) == made
    for ns, suffix in (
        (made * 10**9, "0a"), (made * 10**9 + 10**9 - 1, "0a"), (made * 10**9 - 1, ""),
        ((made + 1) * 10**9, ""),
    ):  # fmt: skip
        found = decoded({**values(), "time": ns}).suffix
        assert found == (point.id_digits(ID)[:6] if suffix else "")
        assert len(found) in (0, 6)
    assert decoded({**values(), "time": made * 10**9, "suffix": "abcdef"}).suffix == "abcdef"
    assert decoded({**values(), "time": made * 10**9, "parent": "nodate-00"}).suffix == ""


def test_digits_of_an_id_are_its_own() -> None:
    assert point.id_digits("20261120T101112Z_host_0123456789") == "0123456789"
    for other in ("20261120T101112Z_host_012345678", "20261120T101112Z_host_" + "0" * 41,
                  "20261120T101112Z_host_012345678X", "nodigits"):  # fmt: skip
        assert point.id_digits(other) == blake3(other.encode()).hexdigest()[:40]
    assert point.id_digits("x_" + "0" * 40) == "0" * 40


def test_seconds_that_an_id_tells() -> None:
    assert point.made_seconds("19700101T000001Z_x") == 1
    assert point.made_seconds("19700102T000000Z") == 86_400
    for other in ("", "x", "20261301T000000Z_x", "20261120T101112_x"):
        assert point.made_seconds(other) is None


def test_what_a_source_is_known_by() -> None:
    assert point.Source("host", b"/x").identity == ("host", b"/x")
    assert point.Source("host", b"/x", "name").identity == ("host", "name")
    assert POINT.order == (1, ID)
    for path, single, root in (
        (b"/a/b", False, b"/a/b"), (b"/a/b", True, b"/a"), (b"/a", True, b"/"), (b"/", False, b"/"),
    ):  # fmt: skip
        one = replace(POINT, source=point.Source("host", path), single=single)
        assert one.root_path == root
