"""The storages of other machines, by their addresses; imported only where one is asked for."""

from __future__ import annotations

import os

from ibtfs.store.storage.address import DavAddress, S3Address, SshAddress, address_of, is_served
from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.storage.limited import UNLIMITED, Limits, limited
from ibtfs.store.storage.objects.asking import Asking
from ibtfs.store.storage.objects.s3 import S3Client
from ibtfs.store.storage.objects.storage import ObjectStorage
from ibtfs.store.storage.sftp.channel import Channel, ssh_command
from ibtfs.store.storage.sftp.client import SftpClient
from ibtfs.store.storage.sftp.storage import SftpStorage
from ibtfs.store.storage.ssh.channel import StoreChannel, served_command
from ibtfs.store.storage.ssh.client import StoreClient
from ibtfs.store.storage.ssh.storage import StoreStorage


def remote_storage(place: bytes, limits: Limits = UNLIMITED) -> FolderStorage:
    """The storage at an address, within *limits*; nothing is looked at.

    Raises UsageError, LibraryMissing.
    """
    address = address_of(place)
    if isinstance(address, DavAddress):
        from ibtfs.store.storage.objects.dav import DavClient  # with a library of its own

        asking = Asking(DavClient(address, up=limits.up), address.shown)
        # what is written is kept first, and limited when it is sent
        return limited(
            ObjectStorage(os.fsencode(address.shown), asking), limits._replace(up=UNLIMITED.up)
        )
    return limited(_storage(place, address), limits)


def _storage(place: bytes, address: SshAddress | S3Address) -> FolderStorage:
    shown = os.fsdecode(place)
    if isinstance(address, S3Address):
        return ObjectStorage(place, Asking(S3Client(address, shown), shown))
    if is_served(place):
        served = served_command(address)
        client = StoreClient(lambda secret: StoreChannel(served, secret, address.path), shown)
        return StoreStorage(place, address, client)
    command = ssh_command(address)
    return SftpStorage(place, address, SftpClient(lambda: Channel(command), shown))
