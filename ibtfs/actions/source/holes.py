"""Where a sparse file has data and where it has holes."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple


class Piece(NamedTuple):
    """*length* bytes of a file from *start*: a hole, or data."""

    start: int
    length: int
    hole: bool

    def cut(self, start: int, end: int) -> Piece:
        """What of it lies between *start* and *end*."""
        first, last = max(self.start, start), min(self.start + self.length, end)
        return Piece(first, last - first, self.hole)


def has_holes(descriptor: int, found: os.stat_result) -> bool:
    """Whether an open file has holes; fewer blocks than its size needs may be compression too."""
    if found.st_blocks * 512 >= found.st_size:
        return False
    try:
        return _seek(descriptor, 0, os.SEEK_HOLE, found.st_size) < found.st_size
    except OSError:
        return False


def pieces(descriptor: int, start: int, end: int) -> list[Piece]:
    """The data and holes of a file between *start* and *end*.  Raises OSError."""
    found = []
    while start < end:
        data = _seek(descriptor, start, os.SEEK_DATA, end)
        if data > start:
            found.append(Piece(start, data - start, hole=True))
        if data < end:
            hole = _seek(descriptor, data, os.SEEK_HOLE, end)
            found.append(Piece(data, hole - data, hole=False))
            start = hole
        else:
            start = data
    return found


def hole_end(descriptor: int, start: int, end: int) -> int:
    """Where the data after *start* begins, at most *end*; *start* if it is not in a hole.

    Raises OSError.
    """
    return _seek(descriptor, start, os.SEEK_DATA, end)


def _seek(descriptor: int, start: int, what: int, end: int) -> int:
    """The next data or hole at or after *start*, at most *end*."""
    try:
        return min(os.lseek(descriptor, start, what), end)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole is left
            return end
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # the file system cannot tell
            return start if what == os.SEEK_DATA else end
        raise
