"""Which backup points were copied here from other repositories; also those that are gone by now.

So a point that was removed here on purpose is not copied again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from ibtfs.errors import ObjectExists
from ibtfs.store import layout
from ibtfs.store.repository import Repository


class Came(NamedTuple):
    """The ids of points that were copied here, by where they came from.

    *there* is the repository that was asked about, *elsewhere* all others.  *own* are noted as from
    here: they were removed here, others have them or may have them, and they are not to come back.
    """

    there: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()

    @property
    def sole(self) -> frozenset[str]:
        """Those that came from there, and from nowhere else."""
        return self.there - self.elsewhere


class CopiedPoints:
    """The notes of one repository.  Where it is sealed they do not show from which others."""

    def __init__(self, repository: Repository) -> None:
        self._storage, self._keys, self._id = repository.storage, repository.keys, repository.id

    def _noted(self) -> Iterator[tuple[str, str]]:
        found = map(layout.parse_copied, self._storage.list(layout.COPIED))
        return (one for one in found if one is not None)

    def _digits(self, repository: bytes) -> list[str]:
        """What stands for a repository; earlier versions had its id everywhere."""
        return list(dict.fromkeys((self._keys.copied(repository), repository.hex())))

    def all(self) -> frozenset[str]:
        """The ids of all points of which something is noted."""
        return frozenset(point_id for _, point_id in self._noted())

    def from_others(self) -> frozenset[str]:
        """The ids of all points that were ever copied here, and are not forgotten as such."""
        return self.came(self._id).elsewhere

    def of(self, repository: bytes) -> frozenset[str]:
        """Those that came from the repository with this id."""
        return self.came(repository).there

    def came(self, repository: bytes) -> Came:
        """All of them, and which came from the repository with this id."""
        there, own = self._digits(repository), self._digits(self._id)
        found: tuple[set[str], set[str], set[str]] = set(), set(), set()
        for digits, point_id in self._noted():
            found[0 if digits in there else 2 if digits in own else 1].add(point_id)
        return Came(*map(frozenset, found))

    def note(self, repository: bytes, point_id: str) -> None:
        """Note that a point came from a repository.  Raises StorageFull, StorageFailed."""
        with suppress(ObjectExists):
            self._storage.put_new(layout.copied(self._digits(repository)[0], point_id), b"")

    def note_removed(self, point_id: str) -> None:
        """Remember for good that a point was removed here.  Raises StorageFull, StorageFailed."""
        self.note(self._id, point_id)

    def note_alone(self, repository: bytes, point_id: str) -> None:
        """Note that a point came from a repository, and from no other any more.

        Raises StorageFull, StorageFailed.
        """
        self.note(repository, point_id)
        kept = {*self._digits(repository), *self._digits(self._id)}
        for digits, other in list(self._noted()):
            if other == point_id and digits not in kept:
                self._storage.delete(layout.copied(digits, point_id))

    def drop(self, repository: bytes, point_id: str) -> None:
        """Remember it no more.  Raises StorageFailed."""
        for digits in self._digits(repository):
            self._storage.delete(layout.copied(digits, point_id))
