"""Symbolic links that stay in their point.  Pure."""

from __future__ import annotations


def inside(target: bytes, source: bytes, depth: int, way: bytes = b"") -> bytes:
    """Where a link leads that lies *depth* folders below the root of its point.

    *way* leads on from there to the point, if that is elsewhere: empty, or with ``/`` at its end.

    An absolute *target* inside of *source*, the path that was backed up, becomes a relative one
    that leads to the same place in the point, by whatever name the point is entered; any other is
    left as it is.
    """
    if not (target.startswith(b"/") and source.startswith(b"/")):
        return target
    names, top = _names(target), _names(source)
    below = names[len(top) :]
    if names[: len(top)] != top or _leaves(below):
        return target
    led = b"/".join([b".."] * depth + _names(way) + below) or b"."
    return led + b"/" if target.endswith(b"/") else led


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in (b"", b".")]


def _leaves(names: list[bytes]) -> bool:
    depth = 0
    for name in names:
        depth += -1 if name == b".." else 1
        if depth < 0:
            return True
    return False
