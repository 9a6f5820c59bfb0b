"""Between which two points one that cannot be read may lie."""

from __future__ import annotations

import pytest

from ibtfs.format.index import Reference
from ibtfs.format.point import Point, Source
from ibtfs.store.unread_points import damaged_between

FIRST, SECOND, THIRD = (f"2026112{day}T101112Z_host_0a" for day in (0, 2, 4))


def point(point_id: str, parent: str = "") -> Point:
    return Point(
        id=point_id, sequence=1, epoch=0, time_ns=1, utc_offset=0,
        source=Source("host", b"/x"), display="x", digest=bytes(32),
        root=(b"", 0o40755, 0, 0, 4096, 1, 1, 1, 2), state=Reference(f"{point_id}.0", 3),
        parent=parent,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("older", "newer", "damaged", "expected"),
    [
        # the newer says which one its run compared with
        (point(FIRST), point(THIRD, FIRST), [SECOND], ""),
        (point(FIRST), point(THIRD, SECOND), [THIRD[:-1] + "b", SECOND], SECOND),
        (None, point(THIRD, SECOND), [FIRST, SECOND], SECOND),
        (None, point(FIRST), [SECOND, FIRST[:-1] + "b"], ""),
        # that one is gone: times tell
        (point(FIRST), point(THIRD, "gone"), [SECOND], SECOND),
        (point(FIRST), point(SECOND, "gone"), [THIRD], ""),
        (point(SECOND), point(THIRD, "gone"), [FIRST], ""),
        (point(FIRST), point(FIRST[:-1] + "b", "gone"), [FIRST[:-1] + "c"], FIRST[:-1] + "c"),
        (None, point(SECOND, "gone"), [FIRST], FIRST),
        (None, point(SECOND, "gone"), [THIRD], ""),
        # and where they do not, it may be anywhere
        (point(FIRST), point(THIRD, "gone"), ["no time"], "no time"),
        (point(FIRST), point(THIRD, "gone"), [], ""),
    ],
)
def test_one_that_may_lie_between(
    older: Point | None, newer: Point, damaged: list[str], expected: str
) -> None:
    assert damaged_between(older, newer, damaged) == expected
