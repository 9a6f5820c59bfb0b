"""From what names a repository to the storage that it lies in."""

from __future__ import annotations

import errno
import os

from ibtfs.errors import IbtfsError, LibraryMissing, ObjectUnreadable, StorageFailed, UsageError
from ibtfs.store.storage.address import (
    DavAddress,
    S3Address,
    address_of,
    is_remote,
    is_served,
)
from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.objects.asking import Asking
from ibtfs.store.storage.objects.s3 import S3Client
from ibtfs.store.storage.objects.storage import ObjectStorage
from ibtfs.store.storage.sftp.channel import Channel, ssh_command
from ibtfs.store.storage.sftp.client import SftpClient
from ibtfs.store.storage.sftp.storage import SftpStorage
from ibtfs.store.storage.ssh.channel import StoreChannel, served_command
from ibtfs.store.storage.ssh.client import StoreClient
from ibtfs.store.storage.ssh.storage import StoreStorage

Place = bytes | FolderStorage
"""Where a repository lies: an absolute path, the address of another machine, or its storage."""


def storage_at(place: Place) -> FolderStorage:
    """The storage at *place*.

    Nothing is looked at yet.  Raises UsageError if it is the address of nothing that there is, and
    LibraryMissing.
    """
    if not isinstance(place, bytes):
        return place
    if not is_remote(place):
        return LocalStorage(place)
    address = address_of(place)
    if isinstance(address, S3Address):
        shown = os.fsdecode(place)
        return ObjectStorage(place, Asking(S3Client(address, shown), shown))
    if isinstance(address, DavAddress):
        return _dav_storage(address)
    if is_served(place):
        served, shown = served_command(address), os.fsdecode(place)
        client = StoreClient(lambda secret: StoreChannel(served, secret, address.path), shown)
        return StoreStorage(place, address, client)
    command = ssh_command(address)
    return SftpStorage(place, address, SftpClient(lambda: Channel(command), os.fsdecode(place)))


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


def _dav_storage(address: DavAddress) -> FolderStorage:
    from ibtfs.store.storage.objects.dav import DavClient  # with a library of its own

    return ObjectStorage(os.fsencode(address.shown), Asking(DavClient(address), address.shown))
