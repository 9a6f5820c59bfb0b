"""What a source is called by who backs it up: a machine that only writes takes nobody's name."""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from ibtfs.format.point import Point

NAME_BYTES = 200
"""Of the name of a source that is made longer."""


def chosen_name(group: Sequence[Point]) -> str:
    """The name that the points of a source have, as far as who made them may choose."""
    trusted = next((point for point in group if not point.writer), None)
    if trusted is not None:
        return trusted.display
    name, end = group[0].display, f"@{group[0].source.host}"
    if name.endswith(end):
        return name
    if len(f"{name}{end}".encode("utf-8", "surrogateescape")) > NAME_BYTES:
        name = blake3(name.encode("utf-8", "surrogateescape")).hexdigest(8)
    return f"{name}{end}"
