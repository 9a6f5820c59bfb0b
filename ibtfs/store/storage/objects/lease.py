"""Leases among objects: one that says who holds it, and one that is put anew to keep it young.

The first is put once.  Whoever breaks the lease removes it, and nothing that is still on its way
can bring it back: what is refreshed is the other one, the beat, which says nothing by itself.
"""

from __future__ import annotations

import contextlib
from typing import Protocol

from ibtfs.errors import IbtfsError
from ibtfs.store.storage.background import at_once
from ibtfs.store.storage.base import TOKEN_DIGITS, UNFINISHED
from ibtfs.store.storage.objects.client import Found

_BEAT = "0" * TOKEN_DIGITS + UNFINISHED


def beat_of(name: str, token: str) -> str:
    """The beat of the lease *name*: listed as what was begun under its token, and swept as such."""
    return f"{name}.{token}{_BEAT}"


def ends_as_beat(name: str) -> bool:
    """Whether *name* is that of a beat."""
    return name.endswith(_BEAT)


def is_beat(name: str, of: str) -> bool:
    """Whether *name* is a beat of the lease called *of*; both as they are listed."""
    return name.startswith(f"{of}.") and ends_as_beat(name)


class LeaseStorage(Protocol):
    """What a lease needs of its storage; ObjectStorage says what each does."""

    def look(self, name: str) -> Found | None:
        """What an object is."""
        ...

    def put_beat(self, name: str) -> None:
        """Put an empty object, whether it is there or not."""
        ...

    def release(self, lease: ObjectLease) -> None:
        """A lease is given back."""
        ...

    def drop(self, name: str) -> None:
        """Remove an object, without waiting for the server."""
        ...

    def rest(self) -> None:
        """Wait until nothing is done beside."""
        ...


class ObjectLease:
    """An object that its owner, who may be anywhere, keeps young by the server's clock."""

    def __init__(self, storage: LeaseStorage, name: str, token: str) -> None:
        self._storage, self.name, self.token = storage, name, token
        self.beat = beat_of(name, token)

    def is_in_place(self) -> bool:
        """As Lease says: its name is never used again.  Raises StorageFailed."""
        return self._storage.look(self.name) is not None

    def refresh(self) -> None:
        """As Lease says."""
        try:
            self._storage.put_beat(self.beat)
        except IbtfsError as error:
            raise OSError(str(error)) from error

    def release(self) -> None:
        """As Lease says."""
        self._storage.release(self)
        at_once(self._storage.rest, lambda: self._drop(self.name), lambda: self._drop(self.beat))

    def _drop(self, name: str) -> None:
        with contextlib.suppress(IbtfsError):  # not reached, or refused: it is found too old
            self._storage.drop(name)
