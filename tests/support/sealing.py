"""Sealed repositories for tests: their keys are found out quickly."""

from __future__ import annotations

import os
from pathlib import Path

from ibtfs.sealing.slots import Stretching
from ibtfs.store.keyring import Secret
from ibtfs.store.repository import Repository
from ibtfs.store.sealing import SecretSealer, SecretUnlock

SECRET = Secret("passphrase", b"correct horse")
QUICK = Stretching(1, 1, 8 << 10)


def sealer(secret: Secret = SECRET) -> SecretSealer:
    """What seals a repository."""
    return SecretSealer(secret, "", QUICK)


def unlock(*secrets: Secret) -> SecretUnlock:
    """What opens it, by *secrets*; by SECRET unless others are given."""
    return SecretUnlock(secrets or (SECRET,), is_expected=True)


def either() -> SecretUnlock:
    """What opens any repository of the tests, sealed or not."""
    return SecretUnlock([SECRET], is_expected=False)


def create_sealed(path: Path, secret: Secret = SECRET) -> Repository:
    """A new sealed repository at *path*."""
    return Repository.create(os.fsencode(path), os.urandom(16), sealer=sealer(secret))


def open_sealed(path: Path, *secrets: Secret) -> Repository:
    """The sealed repository at *path*."""
    return Repository.open(os.fsencode(path), unlock=unlock(*secrets))
