"""Objects as one row of blocks, each filled up with zeros to whole ones."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from types import TracebackType

from ibtfs.errors import IntegrityError, StorageFailed
from ibtfs.format.parity import blocks_of
from ibtfs.store.storage.base import Storage, StoredObject


class Volume:
    """Reads objects of *files*, (name, size) each, as blocks of *block* bytes; one thread.

    A context manager.  What is missing, cut short or not given by the disk reads as zeros: digests
    tell.
    """

    def __init__(self, storage: Storage, files: Sequence[tuple[str, int]], block: int) -> None:
        self._storage, self.files, self.block = storage, files, block
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
        return b"".join(pieces).ljust(count * self.block, b"\0")

    def _part(self, row: int, first: int, count: int) -> bytes:
        """*count* blocks of one file."""
        start = first * self.block
        size = min(count * self.block, self.files[row][1] - start)
        try:
            data = self._object(row).read(start, size)
        except (IntegrityError, StorageFailed):
            if count == 1:
                data = b""
            else:  # a bad sector costs no more than its own block
                singly = (self._part(row, first + number, 1) for number in range(count))
                return b"".join(singly)
        return data.ljust(count * self.block, b"\0")

    def _object(self, row: int) -> StoredObject:
        if self._opened is None or self._opened[0] != row:
            self.close()
            self._opened = row, self._storage.open(self.files[row][0])
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


class Patched:
    """The object in *row* of a *volume*, with other *blocks* in it; as StoredObject says."""

    def __init__(self, volume: Volume, row: int, blocks: Mapping[int, bytes]) -> None:
        self._volume, self._row, self._blocks = volume, row, blocks
        self.name, self.size = volume.files[row]
        self.shown = self.name

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        block, first = self._volume.block, self._volume.firsts[self._row]
        end = min(offset + size, self.size)
        begin, stop = offset // block, blocks_of(end, block)
        pieces = [
            self._blocks.get(first + number) or self._volume.read(first + number, 1)
            for number in range(begin, stop)
        ]
        return b"".join(pieces)[offset - begin * block : max(end, offset) - begin * block]

    def is_removed(self) -> bool:
        """As StoredObject says."""
        return False

    def close(self) -> None:
        """As StoredObject says: who has the volume closes it."""

    def __enter__(self) -> Patched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()
