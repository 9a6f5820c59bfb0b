"""Sets of marks, 16 bytes each, as lists have them: sorted, one behind the other.

There may be millions of them, most of which nobody looks at: so they stay as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MARK_SIZE = 16


@dataclass(frozen=True)
class Marks:
    """The marks that are *joined*, whole, in order, and each once."""

    joined: bytes = b""

    @classmethod
    def of(cls, marks: Iterable[bytes]) -> Marks:
        """The set of *marks*."""
        return cls(b"".join(sorted(set(marks))))

    def __len__(self) -> int:
        return len(self.joined) // MARK_SIZE

    def __iter__(self) -> Iterator[bytes]:
        return iter(_cut(self.joined))

    def _place(self, mark: bytes) -> int:
        """The first byte of *mark*, or of what would follow it."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.joined[middle * MARK_SIZE : (middle + 1) * MARK_SIZE] < mark:
                low = middle + 1
            else:
                high = middle
        return low * MARK_SIZE

    def __contains__(self, mark: bytes) -> bool:
        place = self._place(mark)
        return self.joined[place : place + MARK_SIZE] == mark

    def __or__(self, other: Marks) -> Marks:
        less, more = sorted((self, other), key=len)
        new = {mark for mark in less if mark not in more}
        if not new:
            return more
        pieces, last = [], 0
        for mark in sorted(new):
            place = more._place(mark)
            pieces += [more.joined[last:place], mark]
            last = place
        return Marks(b"".join([*pieces, more.joined[last:]]))

    def without(self, mark: bytes) -> Marks:
        """All but *mark*."""
        if mark not in self:
            return self
        place = self._place(mark)
        return Marks(self.joined[:place] + self.joined[place + MARK_SIZE :])


def _cut(joined: bytes) -> list[bytes]:
    return [joined[first : first + MARK_SIZE] for first in range(0, len(joined), MARK_SIZE)]
