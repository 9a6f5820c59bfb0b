"""Where symbolic links lead that are to stay inside the mount."""

from __future__ import annotations

import pytest

from ibtfs.view.links import inside


@pytest.mark.parametrize(
    ("target", "source", "depth", "expected"),
    [
        (b"/s/a", b"/s", 0, b"a"),
        (b"/s/a", b"/s", 2, b"../../a"),
        (b"/s", b"/s", 0, b"."),
        (b"/s/", b"/s", 1, b"../"),
        (b"/s/a/../../t", b"/s", 0, b"/s/a/../../t"),
        (b"/s/a/..", b"/s", 1, b"../a/.."),
        (b"/etc/x", b"/", 1, b"../etc/x"),
        (b"/st/a", b"/s", 0, b"/st/a"),
        (b"a", b"/s", 3, b"a"),
        (b"/x", b"", 0, b"/x"),
        (b"/s/\xff\n", b"/s", 0, b"\xff\n"),
    ],
)
def test_where_links_lead(target: bytes, source: bytes, depth: int, expected: bytes) -> None:
    assert inside(target, source, depth) == expected
