"""From what names a repository to the storage that it lies in."""

from __future__ import annotations

import errno
import os

from ibtfs.errors import (
    IbtfsError,
    LibraryMissing,
    ObjectMissing,
    ObjectUnreadable,
    StorageFailed,
    UsageError,
)
from ibtfs.format.config import CONFIG_LIMIT
from ibtfs.store.layout import CONFIG
from ibtfs.store.storage.address import S3Address, address_of, is_remote
from ibtfs.store.storage.base import FolderStorage, whole
from ibtfs.store.storage.bundled import BundledStorage
from ibtfs.store.storage.limited import UNLIMITED, Limits, limited
from ibtfs.store.storage.local import LocalStorage

Place = bytes | FolderStorage
"""Where a repository lies: an absolute path, the address of another machine, or its storage."""


def storage_at(place: Place, limits: Limits = UNLIMITED) -> FolderStorage:
    """The storage at *place*; it is read and written within *limits*, if that was not opened yet.

    Nothing is looked at yet.  Raises UsageError if it is the address of nothing that there is, and
    LibraryMissing.
    """
    if not isinstance(place, bytes):
        return place
    if not is_remote(place):
        return limited(LocalStorage(place), limits)
    from ibtfs.store.storage.remote import remote_storage  # with much that a folder does without

    return remote_storage(place, limits)


def config_text(place: FolderStorage) -> bytes:
    """What the configuration of the repository at *place* says.

    Raises NotARepository if there is nothing, ObjectMissing, ObjectUnreadable, StorageFailed.
    """
    if not place.is_far:
        place.require_there()
        return whole(place, CONFIG, CONFIG_LIMIT)
    try:
        return whole(BundledStorage(place, b""), CONFIG, CONFIG_LIMIT)
    except ObjectMissing:
        place.require_there()  # asked only where there is something to tell
        raise


def raise_if_untold(place: bytes, error: IbtfsError) -> None:
    """Raise what *error* says, if it leaves open whether there is a repository at *place*."""
    refused = error.__cause__
    if isinstance(refused, OSError) and refused.errno == errno.EIO:
        raise ObjectUnreadable(f"{os.fsdecode(place)}/{error}") from error
    if is_remote(place) and isinstance(error, (StorageFailed, LibraryMissing, UsageError)):
        raise error


def is_bound_to_process(place: bytes) -> bool:
    """Whether what speaks to *place* cannot go on in a process that is forked."""
    return is_remote(place) and isinstance(address_of(place), S3Address)
