"""Which backup points were copied here from other repositories; also those that are gone by now.

So a point that was removed here on purpose is not copied again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from ibtfs.errors import ObjectExists
from ibtfs.store import layout
from ibtfs.store.repository import Repository


class CopiedPoints:
    """The notes of one repository.  Where it is sealed they do not show from which others."""

    def __init__(self, repository: Repository) -> None:
        self._storage, self._keys = repository.storage, repository.keys

    def _noted(self) -> Iterator[tuple[str, str]]:
        found = map(layout.parse_copied, self._storage.list(layout.COPIED))
        return (one for one in found if one is not None)

    def _digits(self, repository: bytes) -> list[str]:
        """What stands for a repository; earlier versions had its id everywhere."""
        return list(dict.fromkeys((self._keys.copied(repository), repository.hex())))

    def all(self) -> frozenset[str]:
        """The ids of all points that were ever copied here, and are not forgotten as such."""
        return frozenset(point_id for _, point_id in self._noted())

    def of(self, repository: bytes) -> frozenset[str]:
        """Those that came from the repository with this id."""
        digits = self._digits(repository)
        return frozenset(point_id for other, point_id in self._noted() if other in digits)

    def note(self, repository: bytes, point_id: str) -> None:
        """Note that a point came from a repository.  Raises StorageFull, StorageFailed."""
        with suppress(ObjectExists):
            self._storage.put_new(layout.copied(self._digits(repository)[0], point_id), b"")

    def drop(self, repository: bytes, point_id: str) -> None:
        """Remember it no more.  Raises StorageFailed."""
        for digits in self._digits(repository):
            self._storage.delete(layout.copied(digits, point_id))
