"""What a storage that is far away can do at once, where each request is waited for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeGuard

from ibtfs.store.storage.base import FolderStorage, ObjectToken, StoredObject

INDEX_BYTES = 8 << 20
"""An index is fetched whole up to this."""
RECENT_SECONDS = 5.0
"""Who wants what was seen recently takes what was seen no longer ago than this."""
Data = bytes | memoryview
BELOW = "/*"
"""Behind the name of a folder: all folders that lie in it."""
Names = Mapping[str, ObjectToken | None]
"""The names in a folder, those of uploads too: what tells objects from others, None for folders."""


class Wanted(NamedTuple):
    """An object that never changes: what lies as *name* has *token* (and so this size).

    *fetch* opens it, and gives all of it, or its end; *reopen* opens it.  Messages call it *shown*.
    """

    name: str
    token: ObjectToken
    fetch: Callable[[], tuple[StoredObject, Data]]
    reopen: Callable[[], StoredObject]
    shown: str = ""


class FarPlace(FolderStorage, Protocol):
    """A folder of which :func:`is_far_place` is true; threads may share it.

    They are to ask for many things at once.
    """

    def open_end(self, name: str, most: int, size: int = -1) -> tuple[StoredObject, bytes]:
        """As Storage's open, with the last *most* bytes: with all of a shorter object.

        *size* is what it was listed with, if it was: that spares a look.
        Raises ObjectMissing, ObjectUnreadable, StorageFailed.
        """
        ...

    def survey(self, folders: Sequence[str]) -> dict[str, Names]:
        """What lies in each of *folders*; of one that ends in BELOW, in each folder that is in it.

        Those that are not there are empty, or left out.  What lies in ``archives`` is looked at
        before what lies in ``bundles``.  Raises StorageFailed.
        """
        ...


def is_far_place(place: FolderStorage) -> TypeGuard[FarPlace]:
    """Whether each request to *place* is waited for, so that it can do more at once."""
    return place.is_far
