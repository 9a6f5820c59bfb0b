"""A storage in which some names are stored in another way: those that say something themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ibtfs.errors import ObjectExists
from ibtfs.store.storage.base import (
    FolderStorage,
    ObjectToken,
    StoredObject,
    Upload,
    is_unfinished,
)
from ibtfs.store.storage.far import Names as FoundNames
from ibtfs.store.storage.passing import PassingStorage


class Told(Protocol):
    """What is said of a point by a name."""

    @property
    def base(self) -> str:
        """The last part of the name."""
        ...

    @property
    def turn(self) -> int:
        """How often it had been taken away before."""
        ...

    @property
    def is_used_up(self) -> bool:
        """Whether it was taken away since, and means nothing."""
        ...


class Names(Protocol):
    """How names are stored."""

    def stored(self, name: str) -> str:
        """*name* as it is stored when it is new.  Raises UsageError if that cannot be."""
        ...

    def all_stored(self, name: str) -> list[str]:
        """All that may be stored for *name*, the newest way first."""
        ...

    def told(self, folder: str, stored: str) -> Told | None:
        """What somebody with a key said of a point, stored so in *folder*; None if nobody did."""
        ...

    def meant(self, folder: str, stored: str) -> str:
        """The name that an object stored in *folder* has; empty: it says nothing."""
        ...


class RenamedStorage(PassingStorage):
    """The storage *place*, seen by names that are stored as *names* says; as FolderStorage says.

    Names of uploads are what they are.
    """

    def __init__(self, place: FolderStorage, names: Names) -> None:
        super().__init__(place)
        self._names = names

    def _found(self, name: str) -> str:
        """How *name* is stored; if there are several ways, the one that is there."""
        ways = [name] if is_unfinished(name) else self._names.all_stored(name)
        if len(ways) > 1:
            there = set(self._place.list(name.rpartition("/")[0]))
            ways = [way for way in ways if way.rpartition("/")[2] in there] or ways
        return ways[0]

    def put(self, name: str) -> Upload:
        """As Storage says."""
        return self._place.put(self._names.stored(name))

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        stored, *others = self._names.all_stored(name)
        if others:
            there = self._place.list(name.rpartition("/")[0])
            if any(other.rpartition("/")[2] in there for other in others):
                raise ObjectExists(f"{name}: is there already")
        self._place.put_new(stored, data)

    def replace(self, name: str) -> Upload:
        """As Healing says."""
        return self._place.replace(self._found(name))

    def delete(self, name: str) -> None:
        """As Storage says."""
        if is_unfinished(name):
            self._place.delete(name)
            return
        for stored in self._names.all_stored(name):
            self._place.delete(stored)

    def open(self, name: str) -> StoredObject:
        """As Storage says."""
        return self._place.open(self._found(name))

    def open_end(self, name: str, most: int, size: int = -1) -> tuple[StoredObject, bytes]:
        """As FarPlace says."""
        return super().open_end(self._found(name), most, size)

    def survey(self, folders: Sequence[str]) -> dict[str, FoundNames]:
        """As FarPlace says."""
        return {
            folder: {
                name: token
                for stored, token in found.items()
                if (name := self._meant(folder, stored))
            }
            for folder, found in super().survey(folders).items()
        }

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""
        found = self._place.list(folder, unfinished=unfinished)
        return sorted(set(filter(None, (self._meant(folder, stored) for stored in found))))

    def _meant(self, folder: str, stored: str) -> str:
        return stored if is_unfinished(stored) else self._names.meant(folder, stored)

    def age(self, name: str, now: str) -> float:
        """As Leases says."""
        return self._place.age(self._found(name), now)

    def made(self, name: str) -> int:
        """As Volume says."""
        return self._place.made(self._found(name))

    def token(self, name: str) -> ObjectToken:
        """As Volume says.  Raises ObjectMissing."""
        return self._place.token(self._found(name))

    def shared_as(self, shared: bool) -> RenamedStorage:
        """As FolderStorage says."""
        return RenamedStorage(self._place.shared_as(shared), self._names)
