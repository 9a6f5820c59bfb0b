"""Bundles: the files of many small archives in one file, verbatim, and a directory of them.

A bundle is a label, the directory, the files one behind the other, the directory once more, and a
trailer.  A label is like a trailer, and tells of the directory that follows it; so either end of a
bundle is enough to find all that lies in it.
"""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ibtfs.errors import FormatDamaged
from ibtfs.format.compression import Codec
from ibtfs.format.frames import (
    BUNDLE,
    FRAME_LIMIT,
    HEAD_SIZE,
    Address,
    decode_frame,
    encode_frame,
    object_key,
)
from ibtfs.format.index import is_archive_id
from ibtfs.format.packing import expect_ints, pack, unpack_map
from ibtfs.format.tables import TRAILER_SIZE, Trailer, encode_trailer, read_trailer

ARCHIVES_LIMIT = 16_384
KINDS = 3
"""A member is the data, sigs or index of its archive: 0, 1, 2."""
SIZE_LIMIT = 1 << 40
TIME_LIMIT = 1 << 40
_ADDRESS = Address(BUNDLE, 0, 1)


class Member(NamedTuple):
    """A file in a bundle: its *archive* is a place in the directory's list of these."""

    archive: int
    kind: int
    generation: int
    size: int


class Directory:
    """What lies in a bundle, *base* being where the first file begins.

    *archives* are ids, in order; *made* is when the index of each was put first, in seconds since
    1970 by the storage's clock, 0 where that is not known.
    """

    def __init__(
        self, archives: Sequence[str], made: Sequence[int], members: Iterable[Member], base: int
    ) -> None:
        self.archives, self.made = tuple(archives), array("q", made)
        columns = list(zip(*members)) or [(), (), (), ()]
        self._ordinals, self._kinds = array("H", columns[0]), array("B", columns[1])
        self._generations, self._sizes = array("q", columns[2]), array("q", columns[3])
        self._offsets = array("q", itertools.accumulate(self._sizes, initial=base))

    @property
    def end(self) -> int:
        """Where the last file ends."""
        end: int = self._offsets[-1]
        return end

    def members(self, archive: int) -> list[tuple[Member, int]]:
        """The files of an archive, and where each begins."""
        first = bisect.bisect_left(self._ordinals, archive)
        last = bisect.bisect_right(self._ordinals, archive, first)
        return [(self._member(row), self._offsets[row]) for row in range(first, last)]

    def all(self) -> list[Member]:
        """All files, in order."""
        return list(map(self._member, range(len(self._ordinals))))

    def _member(self, row: int) -> Member:
        return Member(
            self._ordinals[row], self._kinds[row], self._generations[row], self._sizes[row]
        )


def encode_ends(
    repository: bytes, name: str, directory: Directory, codec: Codec
) -> tuple[bytes, bytes]:
    """What comes before and behind the files of the bundle *name*.  Raises LimitExceeded."""
    key = object_key(repository, name)
    columns = [list(column) for column in zip(*directory.all())]
    values = {"archives": directory.archives, "made": list(directory.made), "files": columns}
    frame = encode_frame(key, _ADDRESS, pack(values), codec)
    size = len(frame)
    label = encode_trailer(key, repository, Trailer(TRAILER_SIZE, size))
    offset = TRAILER_SIZE + size + directory.end - directory.members(0)[0][1]
    trailer = encode_trailer(key, repository, Trailer(offset, size))
    return label + frame, frame + trailer


class Ends:
    """Finds the directory of the bundle *name*; *where* is how messages call this end of it."""

    def __init__(self, repository: bytes, name: str, where: str) -> None:
        self._repository, self._where = repository, where
        self._key = object_key(repository, name)

    def trailer(self, data: bytes, file_size: int, *, is_label: bool) -> Trailer:
        """Where the directory lies, by the label or the trailer *data*.  Raises FormatDamaged."""
        found = read_trailer(self._key, self._repository, data, file_size, self._where)
        offset, size, envelope = found
        expected = TRAILER_SIZE if is_label else file_size - TRAILER_SIZE - size
        if envelope or offset != expected or not HEAD_SIZE <= size <= FRAME_LIMIT + HEAD_SIZE:
            raise FormatDamaged(f"{self._where}: no directory where it should be")
        return found

    def directory(self, data: bytes) -> Directory:
        """The directory of which *data* is the frame.  Raises FormatDamaged."""
        raw = decode_frame(self._key, _ADDRESS, data, self._where).raw
        return _decode(raw, TRAILER_SIZE + len(data), self._where)


def _decode(raw: bytes, base: int, where: str) -> Directory:
    values = unpack_map(raw, where)
    archives, made = values.get("archives"), expect_ints(values.get("made"), where)
    columns = values.get("files")
    if type(archives) is not tuple or not all(map(is_archive_id, archives)):
        raise FormatDamaged(f"{where}: no list of archives")
    if not 0 < len(archives) <= ARCHIVES_LIMIT or len(made) != len(archives):
        raise FormatDamaged(f"{where}: more archives than the format can hold, or none")
    if any(one >= other for one, other in itertools.pairwise(archives)):
        raise FormatDamaged(f"{where}: archives that are not in order")
    if type(columns) is not tuple or len(columns) != 4:
        raise FormatDamaged(f"{where}: files that are not in four columns")
    rows = [expect_ints(column, where) for column in columns]
    if len(set(map(len, rows))) != 1 or not _are_in_order(rows[0], rows[1], len(archives)):
        raise FormatDamaged(f"{where}: files that are not in order")
    if not (_within(made, 0, TIME_LIMIT) and _within(rows[2], 1, SIZE_LIMIT)):
        raise FormatDamaged(f"{where}: a number beyond the limits of the format")
    if not _within(rows[3], TRAILER_SIZE, SIZE_LIMIT):
        raise FormatDamaged(f"{where}: a file of no size")
    return Directory(archives, made, map(Member._make, zip(*rows)), base)


def _are_in_order(ordinals: Sequence[int], kinds: Sequence[int], archives: int) -> bool:
    """Whether every archive has a file, and none of a kind twice."""
    if not _within(kinds, 0, KINDS - 1) or set(ordinals) != set(range(archives)):
        return False
    keys = [ordinal * KINDS + kind for ordinal, kind in zip(ordinals, kinds)]
    return all(one < other for one, other in itertools.pairwise(keys))


def _within(numbers: Sequence[int], least: int, most: int) -> bool:
    return not numbers or (min(numbers) >= least and max(numbers) <= most)
