"""What opens a sealed repository, as the room that opens repositories sees it.

Nothing here imports the cryptography: a repository that is not sealed is opened without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ibtfs.errors import WrongKey
from ibtfs.format.config import Config
from ibtfs.format.keys import Keys
from ibtfs.store.storage.base import FolderStorage
from ibtfs.store.storage.renamed import Names


class UnlockedKeys(NamedTuple):
    """The *keys* of a repository, and how its *names* are stored, if that differs from them.

    *refusal* is why nothing may be written by them; empty if it may be.  *number* is that of their
    state, which only grows; *damaged* is what of it cannot be read, by object.
    *slot* is the digest of the slot that was opened.
    """

    keys: Keys
    names: Names | None = None
    refusal: str = ""
    number: int = 0
    damaged: Mapping[str, str] = {}
    slot: bytes = b""


Unlock = Callable[[FolderStorage, Config, bytes], "UnlockedKeys | None"]
"""Gives the keys of the repository at a place, by its configuration, and that as it is stored.

None if it is not sealed and need not be.  Raises WrongKey, IntegrityError, StorageFailed.
"""
Sealer = Callable[[FolderStorage, bytes, bytes], UnlockedKeys]
"""Makes the keys of the new repository at a place, by its id, and its configuration as stored."""


def locked(_: FolderStorage, config: Config, __: bytes) -> None:
    """Opens what is not sealed, and nothing else.  Raises WrongKey."""
    if config.is_sealed:
        raise WrongKey(
            "The repository is sealed: a passphrase or a key file is needed (`ibtfs help sealing`)"
        )
