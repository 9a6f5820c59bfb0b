"""Manifests as they were read before, in one file of the local cache.

A start with a thousand points then reads one file, not a thousand.  A manifest never changes, so
a copy holds as long as its file is the same one: size, time of change and inode are compared.
The file may be deleted at any time, and is not read by ``check``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress

from blake3 import blake3

from ibtfs.errors import FormatDamaged
from ibtfs.format.packing import pack, unpack_tuple
from ibtfs.format.point import FIELDS_VERSION, Point, PointRow, point_of_row, row_of_point

LEAST = 32
"""Fewer points are read as fast from their own files."""
UNKNOWN_BORNE = 16
"""So many new ones are read from their own files before the copy is written anew."""
DIGEST_SIZE = 32

Stamp = tuple[int, int, int]
"""Size, modification time in nanoseconds, and inode of a manifest."""


class KnownPoints:
    """The copy of the manifests of one repository; used by one thread.

    *folder* is the cache folder, *repository* the repository's id.
    """

    def __init__(self, folder: bytes, repository: bytes) -> None:
        self._path = f"{os.fsdecode(folder)}/{repository.hex()}.points"
        self._rows: dict[str, tuple[Stamp, PointRow]] | None = None

    def get(self, point_id: str, stamp: Stamp) -> Point | None:
        """The point, if its manifest had that *stamp* when it was read."""
        known = self._known().get(point_id)
        return point_of_row(known[1]) if known and known[0] == stamp else None

    def lacks(self, points: Collection[str]) -> bool:
        """Whether it is worth writing a copy of *points*, ids, anew."""
        unknown = len(set(points).difference(self._known()))
        return len(points) >= LEAST and unknown >= UNKNOWN_BORNE

    def keep(self, points: Mapping[str, tuple[Stamp, Point]]) -> None:
        """Write a copy of *points*; where it cannot be written, there is none."""
        rows = [(name, stamp, row_of_point(point)) for name, (stamp, point) in points.items()]
        body = pack((FIELDS_VERSION, rows))
        part = f"{self._path}.{os.urandom(6).hex()}"
        with suppress(OSError):
            try:
                descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(descriptor, "wb") as file:
                    file.write(blake3(body).digest() + body)
                os.replace(part, self._path)
            except OSError:
                os.unlink(part)

    def _known(self) -> dict[str, tuple[Stamp, PointRow]]:
        if self._rows is None:
            self._rows = self._load()
        return self._rows

    def _load(self) -> dict[str, tuple[Stamp, PointRow]]:
        try:
            with open(self._path, "rb") as file:
                data = file.read()
            body = memoryview(data)[DIGEST_SIZE:]
            if blake3(body).digest() != data[:DIGEST_SIZE]:
                return {}
            version, rows = unpack_tuple(body, self._path, 2)
            if version != FIELDS_VERSION:
                return {}
            return {name: (stamp, row) for name, stamp, row in rows}
        except (OSError, FormatDamaged, ValueError):
            return {}
