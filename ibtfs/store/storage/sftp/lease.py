"""Leases on another machine: objects that their owner keeps young."""

from __future__ import annotations

from typing import Protocol

from ibtfs.errors import StorageFailed
from ibtfs.store.storage.sftp.wire import Attributes


class LeaseStorage(Protocol):
    """What a lease needs of its storage; SftpStorage says what each does."""

    def look(self, name: str) -> Attributes | None:
        """What an object is."""
        ...

    def touch(self, name: str) -> None:
        """Make an object young."""
        ...

    def release(self, lease: SftpLease) -> None:
        """A lease is given back."""
        ...

    def delete(self, name: str, *, patient: bool = True) -> None:
        """Remove an object."""
        ...


class SftpLease:
    """An object whose owner makes it young again by the server's clock; he may be anywhere."""

    def __init__(self, storage: LeaseStorage, name: str, token: str) -> None:
        self._storage, self._name, self.token = storage, name, token

    def is_in_place(self) -> bool:
        """As Lease says: its name is never used again.  Raises StorageFailed."""
        return self._storage.look(self._name) is not None

    def refresh(self) -> None:
        """As Lease says."""
        self._storage.touch(self._name)

    def release(self) -> None:
        """As Lease says."""
        self._storage.release(self)
        try:
            self._storage.delete(self._name, patient=False)
        except StorageFailed:
            pass  # the connection is gone: it will be found too old
