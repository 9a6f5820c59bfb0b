"""Repositories opened by a script: where they lie, and what opens them if they are sealed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ibtfs.errors import UsageError
from ibtfs.store.repository import Repository
from ibtfs.store.storage.address import is_remote
from ibtfs.store.storage.opening import storage_at
from ibtfs.store.unlocking import Sealer, Unlock, locked
from ibtfs.toolkit.dirs import AnyPath

if TYPE_CHECKING:
    from ibtfs.store.keyring import Secret

Passphrase = str | Callable[[], str]
"""A passphrase, or what is called for it when it is needed; a recovery sheet's text will do."""


def open_repository(
    repository: AnyPath | Repository,
    *,
    key_file: AnyPath | None = None,
    passphrase: Passphrase | None = None,
) -> Repository:
    """The repository at a place; every function here takes it instead of that.

    A sealed one is opened by *key_file*, a file's name, or by *passphrase*: text, or a function
    that returns it, which is called if the key file does not fit.  That takes a second for a
    passphrase, so a script that does more than one thing opens it once.  If either is given, what
    is not sealed is refused.

    Raises NotARepository, WrongKey, UsageError, IbtfsError.
    """
    if not isinstance(repository, Repository):
        return Repository.open(place_of(repository), unlock=_unlock(key_file, passphrase))
    if key_file is not None or passphrase is not None:
        raise UsageError("The repository is open already: a key is for one that is named")
    return repository


def open_or_create(
    repository: AnyPath | Repository,
    *,
    create: bool,
    key_file: AnyPath | None = None,
    passphrase: Passphrase | None = None,
) -> Repository:
    """As open_repository; with *create* it is made if there is none, sealed if a key is given.

    The key file is there already.
    """
    if isinstance(repository, Repository):
        return open_repository(repository, key_file=key_file, passphrase=passphrase)
    place = storage_at(place_of(repository))
    if place.has_repository() or not create:
        return Repository.open(place, unlock=_unlock(key_file, passphrase))
    return Repository.create(place, os.urandom(16), sealer=_sealer(key_file, passphrase))


def place_of(repository: AnyPath) -> bytes:
    """Where a repository lies: an absolute path, or an address."""
    place = os.fsencode(repository)
    return place if is_remote(place) else os.path.abspath(place)


def _unlock(key_file: AnyPath | None, passphrase: Passphrase | None) -> Unlock:
    if key_file is None and passphrase is None:
        return locked
    from ibtfs.store.sealing import SecretUnlock  # with the cryptography

    return SecretUnlock(_secrets(key_file, passphrase), is_expected=True)


def _sealer(key_file: AnyPath | None, passphrase: Passphrase | None) -> Sealer | None:
    secret = next(_secrets(key_file, passphrase), None)
    if secret is None:
        return None
    from ibtfs.actions.keys.given import checked
    from ibtfs.store.sealing import SecretSealer  # with the cryptography

    return SecretSealer(checked(secret), "")


def _secrets(key_file: AnyPath | None, passphrase: Passphrase | None) -> Iterator[Secret]:
    """What was given, each when it is asked for."""
    from ibtfs.actions.keys.given import key_file_secret, said_secret  # with the cryptography

    if key_file is not None:
        yield key_file_secret(os.fsencode(key_file))
    if passphrase is not None:
        text = passphrase if isinstance(passphrase, str) else passphrase()
        yield said_secret(text.encode())
