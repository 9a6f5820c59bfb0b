"""Sealed repositories for tests: their keys are found out quickly."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ibtfs.actions.keys.run import KeyChanges
from ibtfs.sealing import slots as sealing_slots
from ibtfs.sealing.primitives import Suite
from ibtfs.sealing.ring import Label, Master, Secrets, encode_ring, public_digest
from ibtfs.sealing.slots import Stretching
from ibtfs.store.keyring import Secret
from ibtfs.store.pins import Pins, Watch
from ibtfs.store.repository import Repository
from ibtfs.store.sealing import SecretSealer, SecretUnlock, slot_for

SECRET = Secret("passphrase", b"correct horse")
QUICK = Stretching(1, 1, 8 << 10)

_SLOTS: Any = sealing_slots
_SLOTS.stretch = cache(_SLOTS.stretch)
"""What comes of a passphrase is found out once in a process: tests open a repository many times."""


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


def forge(folder: Path, repository: bytes, number: int, how_many: int, how: Stretching) -> None:
    """Rings of somebody who has no key, with slots of passphrases that take much work.

    Three, which have the same slots: more rings than have those that are meant.
    """
    found = slot_for(SECRET, bytes(32), repository, QUICK)
    slots = [
        found._replace(id=struct.pack("<q", one), stretching=how, salt=os.urandom(32))
        for one in range(how_many)
    ]
    labels = {slot.id: Label(slot.kind, "", public_digest(slot)) for slot in slots}
    secrets = Secrets({bytes(8): Master(bytes(32), 0)}, bytes(8), bytes(32), bytes(32), labels,
                      bytes(32))  # fmt: skip
    data = encode_ring(
        secrets, slots, repository=repository, number=number, suite=Suite.AES_256_GCM
    )
    for _ in range(3):
        (folder / f"{number}.{os.urandom(8).hex()}").write_bytes(data)


def changes_of(path: Path, *secrets: Secret) -> tuple[Repository, KeyChanges]:
    opened = unlock(*secrets)
    repository = Repository.open(os.fsencode(path), unlock=opened)
    assert opened.found is not None
    return repository, KeyChanges(repository, opened.found)


class Client:
    """A machine that remembers what it saw of the repository at *path*."""

    def __init__(self, path: Path, folder: Path) -> None:
        folder.mkdir()
        self._path, self._folder = path, folder

    def opened(self) -> tuple[Repository, Watch]:
        """The repository, as a command opens it."""
        found = open_sealed(self._path)
        return found, Watch(Pins(os.fsencode(self._folder)), found, found.unlocked.number)

    def look(self) -> list[str]:
        """What it is alarmed at; all is remembered if it is not."""
        _, watch = self.opened()
        alarms = watch.alarms()
        if not alarms:
            watch.remember()
        return alarms

    def accept(self) -> None:
        self.opened()[1].accept()

    def do(self, work: Callable[[Repository], object]) -> None:
        """Do some *work*, as a command does, which nothing alarms."""
        found, watch = self.opened()
        assert watch.alarms() == []
        watch.remember()
        work(found)
        watch.remember()


def saved(path: Path) -> Path:
    return Path(shutil.copytree(path, path.with_name("saved"), symlinks=True))


def put_back(path: Path, *tops: str) -> None:
    """An older state of some folders of the repository, as `saved` has kept it."""
    for top in tops:
        shutil.rmtree(path / top, ignore_errors=True)
        if (path.with_name("saved") / top).exists():
            shutil.copytree(path.with_name("saved") / top, path / top)
