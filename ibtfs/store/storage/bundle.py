"""A bundle as it is used: its directory, and the one open file that all objects in it share."""

from __future__ import annotations

import threading
import weakref
from typing import NamedTuple, Protocol

from ibtfs.format.bundle import Directory, Member
from ibtfs.store import layout
from ibtfs.store.storage.base import StoredObject


class BundleStorage(Protocol):
    """What reading bundles needs of the storage that they lie in."""

    def open(self, name: str) -> StoredObject:
        """As Storage says."""
        ...

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""
        ...

    def folder_token(self, folder: str, settles_ns: int) -> int:
        """As Volume says; *settles_ns* is how long a change has to be ago."""
        ...


class Opened:
    """An open bundle, which all objects in it share; None when the bundle went."""

    __slots__ = ("__weakref__", "stored")

    def __init__(self, stored: StoredObject | None) -> None:
        self.stored = stored


class Bundle:
    """A bundle and its *directory*; one open file, as long as any object in it is in use."""

    def __init__(self, storage: BundleStorage, name: str, directory: Directory) -> None:
        self.name, self.directory = name, directory
        self._storage, self._lock = storage, threading.Lock()
        self._opened: weakref.ref[Opened] | None = None

    def opened(self) -> Opened:
        """The open bundle.  Raises ObjectMissing if it went."""
        with self._lock:
            opened = self._opened() if self._opened else None
            if opened is None or opened.stored is None:
                opened = Opened(self._storage.open(self.name))
                self._opened = weakref.ref(opened)
            return opened

    def let_go(self) -> None:
        """Close the file: the bundle is gone, and its room is to be free."""
        with self._lock:
            opened = self._opened() if self._opened else None
            if opened is not None:
                opened.stored = None  # the last reader closes it


class Place(NamedTuple):
    """Where a file of an archive lies."""

    bundle: Bundle
    member: Member
    offset: int


def name_of(member: Member) -> str:
    """The name of a file as its archive's folder would list it."""
    return f"{layout.KINDS[member.kind]}.{member.generation}"
