"""Manifests as they were read before, in one file of the local cache.

A start with a thousand points then reads one file, not a thousand.  A manifest never changes, so
a copy holds as long as its file is the same one: size, times and inode are compared.  What a disk
spoils in place does not show in these: ``list`` and ``check`` read every manifest itself.
"""

from __future__ import annotations

import os

from ibtfs.errors import FormatDamaged
from ibtfs.format.packing import pack, unpack_tuple
from ibtfs.format.point import (
    FIELDS_VERSION,
    Point,
    PointRow,
    is_display_name,
    point_of_row,
    row_of_point,
)
from ibtfs.store.cache_file import discard, read_body, write_body

LEAST = 32
"""Fewer points are read as fast from their own files."""
UNKNOWN_BORNE = 16
"""So many new ones are read from their own files before the copy is written anew."""

FileToken = tuple[int, int, int, int]
"""Size, times of modification and status change in nanoseconds, and inode of a manifest."""
_Copies = dict[str, tuple[FileToken, PointRow]]


def discard_copies(folder: bytes, repository: bytes) -> None:
    """Remove the copy of the manifests of a repository, whatever is left of it.

    Raises OSError.
    """
    discard(_path(folder, repository))


def _path(folder: bytes, repository: bytes) -> str:
    return f"{os.fsdecode(folder)}/{repository.hex()}.points"


class ManifestCopies:
    """The copy of the manifests of one repository; used by one thread at a time.

    *folder* is the cache folder, *repository* the repository's id.  Copies of *few* are worth it,
    too, where they are far away.
    """

    def __init__(self, folder: bytes, repository: bytes, *, few: bool = False) -> None:
        self._path = _path(folder, repository)
        self._least, self._borne = (1, 1) if few else (LEAST, UNKNOWN_BORNE)
        self._rows: _Copies | None = None
        self._used: _Copies = {}
        self._new = 0

    def get(self, point_id: str, token: FileToken) -> Point | None:
        """The point, if its manifest had that *token* when it was read."""
        known = self._known(point_id, token)
        if known is None:
            return None
        try:
            point = point_of_row(known[1])
            is_it = point.id == point_id and is_display_name(point.display)
        except (TypeError, ValueError, KeyError, AttributeError):
            return None  # of another version
        if not is_it:
            return None
        self._used[point_id] = known
        return point

    def has(self, point_id: str, token: FileToken | None) -> bool:
        """Whether there is a copy of the manifest with that *token*."""
        return self._known(point_id, token) is not None

    def _known(self, point_id: str, token: FileToken | None) -> tuple[FileToken, PointRow] | None:
        if self._rows is None:
            self._rows = self._load()
        known = self._used.get(point_id) or self._rows.get(point_id)
        return known if known is not None and known[0] == token else None

    def add(self, token: FileToken, point: Point) -> None:
        """Take *point*, whose manifest had that *token* before it was read, into the next copy."""
        self._used[point.id] = token, row_of_point(point)
        self._new += 1

    def keep(self) -> None:
        """Write what was asked for and added, if that is worth it; if it can be written."""
        if len(self._used) < self._least or self._new < self._borne:
            return
        self._new = 0
        body = pack((FIELDS_VERSION, [(name, *known) for name, known in self._used.items()]))
        write_body(self._path, body)

    def _load(self) -> _Copies:
        body = read_body(self._path)
        if body is None:
            return {}
        try:
            version, rows = unpack_tuple(body, self._path, 2, containers=len(body))
            if version != FIELDS_VERSION:
                return {}
            return {name: (token, row) for name, token, row in rows}
        except (FormatDamaged, TypeError, ValueError):
            return {}
