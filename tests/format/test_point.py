"""The manifest of a point: what is refused says which of its values is wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format import compression, frames, point
from ibtfs.format.index import Reference
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
    data = point.encode_point(POINT, NAME, REPOSITORY, compression.Codec())
    return unpack_map(framed(data), NAME)


def framed(data: bytes) -> bytes:
    """The raw bytes of the frame that a manifest is."""
    key = frames.object_key(REPOSITORY, NAME)
    return frames.decode_frame(key, frames.Address(frames.MANIFEST, 0, 1), data, NAME).raw


def decoded(manifest: dict[str, Any], name: str = NAME) -> point.Point:
    """The point of a manifest with such values, sealed as *name*."""
    key, address = frames.object_key(REPOSITORY, name), frames.Address(frames.MANIFEST, 0, 1)
    data = frames.encode_frame(key, address, pack(manifest), compression.Codec())
    return point.decode_point(data, NAME, ID, REPOSITORY)


def test_a_point_comes_back() -> None:
    assert decoded(values()) == POINT
    assert decoded({**values(), "later": 1}) == POINT  # a key of a newer version


def test_every_key_has_values_here() -> None:
    assert {*WRONG, *OF_ANY_VALUE} == set(point._FIELDS)


def test_a_suffix_comes_back_and_is_digits() -> None:
    suffixed = replace(POINT, suffix="3fa9c0")
    data = point.encode_point(suffixed, NAME, REPOSITORY, compression.Codec())
    assert point.decode_point(data, NAME, ID, REPOSITORY) == suffixed
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
    data = point.encode_point(other, NAME, REPOSITORY, compression.Codec())
    with pytest.raises(FormatDamaged, match=f"^{NAME}: is the manifest of '{other.id}'$"):
        point.decode_point(data, NAME, ID, REPOSITORY)
    with pytest.raises(FormatDamaged, match=re.escape(f"{NAME}: the checksum does not match")):
        decoded(values(), f"points/{other.id}")  # moved, not only written as another


PARENTS = (point.Parent(0o755, 0, 0), point.Parent(0o700, 1000, (1 << 32) - 1))


def test_parents_are_kept_if_they_are_known() -> None:
    for parents in (None, (), PARENTS):
        known = replace(POINT, parents=parents)
        data = point.encode_point(known, NAME, REPOSITORY, compression.Codec())
        assert point.decode_point(data, NAME, ID, REPOSITORY) == known
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
