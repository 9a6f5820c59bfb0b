"""Objects as one row of blocks, each filled up with zeros to whole ones."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

from ibtfs.errors import IntegrityError, StorageFailed
from ibtfs.format.parity import blocks_of
from ibtfs.store.storage.base import Storage, StoredObject


class Volume:
    """Reads objects of *files*, (name, size) each, as blocks of *block* bytes; one thread.

    A context manager.  What is missing, cut short or not given by the disk reads as zeros: digests
    tell.
    """

    def __init__(self, storage: Storage, files: Sequence[tuple[str, int]], block: int) -> None:
        self._storage, self._files, self._block = storage, files, block
        counts = [blocks_of(size, block) for _, size in files]
        self.firsts = [0, *itertools.accumulate(counts)]
        """The first block of each file, and behind the last one how many there are."""
        self._opened: tuple[int, StoredObject] | None = None

    def read(self, first: int, count: int) -> bytes:
        """The bytes of *count* blocks from number *first* on."""
        pieces, wanted = [], count
        while wanted and first < self.firsts[-1]:
            row = bisect.bisect_right(self.firsts, first) - 1
            here = min(wanted, self.firsts[row + 1] - first)
            pieces.append(self._part(row, first - self.firsts[row], here))
            first, wanted = first + here, wanted - here
        return b"".join(pieces).ljust(count * self._block, b"\0")

    def _part(self, row: int, first: int, count: int) -> bytes:
        """*count* blocks of one file."""
        start = first * self._block
        size = min(count * self._block, self._files[row][1] - start)
        try:
            data = self._object(row).read(start, size)
        except (IntegrityError, StorageFailed):
            if count == 1:
                data = b""
            else:  # a bad sector costs no more than its own block
                singly = (self._part(row, first + number, 1) for number in range(count))
                return b"".join(singly)
        return data.ljust(count * self._block, b"\0")

    def _object(self, row: int) -> StoredObject:
        if self._opened is None or self._opened[0] != row:
            self.close()
            self._opened = row, self._storage.open(self._files[row][0])
        return self._opened[1]

    def close(self) -> None:
        """Release what is open."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def __enter__(self) -> Volume:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
