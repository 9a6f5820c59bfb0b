"""The list of all points of a sealed repository: what is missing on it was not taken away by force.

A storage can serve an older state of what it holds, or lack something.  So whoever frees space
writes down which points there are, and which were removed, under a number that only grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ibtfs.errors import FormatDamaged
from ibtfs.format.compression import Codec
from ibtfs.format.frames import LIST
from ibtfs.format.keys import Keys
from ibtfs.format.objects import decode_object, encode_object
from ibtfs.format.packing import pack, unpack_map
from ibtfs.format.point import POINT_ID

MARK_SIZE = 16
LISTED_LIMIT = 1 << 20
"""Points, and removed ones, at most."""


@dataclass(frozen=True)
class PointList:
    """One list.  *points* are the ids of those that are there.

    *gone* are the marks (:func:`mark_of`) of points that were removed, ever; *earlier* those of all
    lists before this one, the digests of their objects, oldest first.
    """

    number: int
    points: frozenset[str]
    gone: frozenset[bytes]
    earlier: tuple[bytes, ...] = ()


def mark_of(keys: Keys, text: bytes) -> bytes:
    """The mark of an id, or of the object of a list."""
    return keys.digests.plain(text)[:MARK_SIZE]


def encode_list(found: PointList, name: str, keys: Keys, codec: Codec) -> bytes:
    """The object of a list; *name* is its name.  Raises LimitExceeded."""
    values = {
        "number": found.number,
        "points": tuple(sorted(found.points)),
        "gone": b"".join(sorted(found.gone)),
        "earlier": b"".join(found.earlier),
    }
    return encode_object(keys, name, LIST, pack(values), codec)


def decode_list(data: bytes, name: str, number: int, keys: Keys) -> PointList:
    """The list of this *number*, stored as the object *name*.

    Raises FormatDamaged, UnsupportedFormat.
    """
    values = unpack_map(decode_object(keys, name, LIST, data, name), name)
    points: Any = values.get("points")
    gone, earlier = values.get("gone"), values.get("earlier")
    right = (
        type(points) is tuple
        and len(points) <= LISTED_LIMIT
        and all(type(one) is str and POINT_ID.match(one) for one in points)
        and all(type(marks) is bytes and not len(marks) % MARK_SIZE for marks in (gone, earlier))
    )
    if not right or values.get("number") != number:
        raise FormatDamaged(f"{name}: is not the list that its name says")
    return PointList(number, frozenset(points), frozenset(_marks(gone)), tuple(_marks(earlier)))


def _marks(joined: Any) -> list[bytes]:
    return [joined[first : first + MARK_SIZE] for first in range(0, len(joined), MARK_SIZE)]
