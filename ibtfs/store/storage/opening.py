"""From what names a repository to the storage that it lies in."""

from __future__ import annotations

import os

from ibtfs.store.storage.address import is_remote, is_served, ssh_address
from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.storage.local import LocalStorage
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

    Nothing is looked at yet.  Raises UsageError if it is the address of nothing that there is.
    """
    if not isinstance(place, bytes):
        return place
    if not is_remote(place):
        return LocalStorage(place)
    address = ssh_address(place)
    if is_served(place):
        served, shown = served_command(address), os.fsdecode(place)
        client = StoreClient(lambda secret: StoreChannel(served, secret, address.path), shown)
        return StoreStorage(place, address, client)
    command = ssh_command(address)
    return SftpStorage(place, address, SftpClient(lambda: Channel(command)))
