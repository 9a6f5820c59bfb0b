"""From what names a repository to the storage that it lies in."""

from __future__ import annotations

import os
import shlex

from ibtfs.store.storage.address import is_remote, sftp_address
from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.sftp.channel import Channel, ssh_command
from ibtfs.store.storage.sftp.client import SftpClient
from ibtfs.store.storage.sftp.storage import SftpStorage

SSH = "IBTFS_SSH"
"""The variable that says how ssh is called, with options before the machine's name."""


def storage_at(place: bytes) -> FolderStorage:
    """The storage at *place*: an absolute path, or the address of another machine.

    Nothing is looked at yet.  Raises UsageError if it is the address of nothing that there is.
    """
    if not is_remote(place):
        return LocalStorage(place)
    address = sftp_address(place)
    command = ssh_command(shlex.split(os.environ.get(SSH, "")) or ["ssh"], address)
    return SftpStorage(place, address, SftpClient(lambda: Channel(command)))
