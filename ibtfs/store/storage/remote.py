"""The storages of other machines, by their addresses; imported only where one is asked for."""

from __future__ import annotations

import os

from ibtfs.store.storage.address import DavAddress, S3Address, address_of, is_served
from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.storage.objects.asking import Asking
from ibtfs.store.storage.objects.s3 import S3Client
from ibtfs.store.storage.objects.storage import ObjectStorage
from ibtfs.store.storage.sftp.channel import Channel, ssh_command
from ibtfs.store.storage.sftp.client import SftpClient
from ibtfs.store.storage.sftp.storage import SftpStorage
from ibtfs.store.storage.ssh.channel import StoreChannel, served_command
from ibtfs.store.storage.ssh.client import StoreClient
from ibtfs.store.storage.ssh.storage import StoreStorage


def remote_storage(place: bytes) -> FolderStorage:
    """The storage at an address; nothing is looked at.  Raises UsageError, LibraryMissing."""
    address, shown = address_of(place), os.fsdecode(place)
    if isinstance(address, S3Address):
        return ObjectStorage(place, Asking(S3Client(address, shown), shown))
    if isinstance(address, DavAddress):
        from ibtfs.store.storage.objects.dav import DavClient  # with a library of its own

        return ObjectStorage(os.fsencode(address.shown), Asking(DavClient(address), address.shown))
    if is_served(place):
        served = served_command(address)
        client = StoreClient(lambda secret: StoreChannel(served, secret, address.path), shown)
        return StoreStorage(place, address, client)
    command = ssh_command(address)
    return SftpStorage(place, address, SftpClient(lambda: Channel(command), shown))
