"""Machines that only write, for tests: let in, and opened as they open a repository."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ibtfs.actions.backup.run import BackupOptions, BackupResult, backup
from ibtfs.actions.keys.run import KeyChanges
from ibtfs.sealing.writers import WriterKeys, decode_writer, encode_writer
from ibtfs.store.repository import Repository
from ibtfs.store.sealing import WriterUnlock
from tests.support.repositories import Recorder
from tests.support.sealing import unlock


def changes_of(place: Path | bytes) -> KeyChanges:
    """Changes to the keys of the sealed repository at *place*."""
    opened = unlock()
    repository = Repository.open(os.fsencode(place), unlock=opened)
    assert opened.found is not None
    return KeyChanges(repository, opened.found)


class Machine:
    """A machine called *name* that may write to the repository at *place*, and keeps what it knows
    in *folder*; its *file* is what it was given."""

    def __init__(self, place: Path | bytes, folder: Path, name: str, host: str = "") -> None:
        self.place, self.folder, self.host = place, folder, host or name
        self.folder.mkdir(exist_ok=True)
        self.row, self.file = changes_of(place).add_writer(name, self.host)
        self.secrets = decode_writer(self.file, "file")
        self.notes: list[str] = []

    def turn_deaf(self) -> None:
        """Have it go on when it is revoked: somebody took it over, or its file is an old one."""
        self.file = encode_writer(replace(self.secrets, revoked=b""))

    def opened(self) -> Repository:
        unlocking = WriterUnlock([self.file], os.fsencode(self.folder))
        return Repository.open(os.fsencode(self.place), unlock=unlocking)

    def keys(self) -> WriterKeys:
        """Its keys, as somebody has them who has taken it over."""
        found = self.opened().keys
        assert isinstance(found, WriterKeys)
        return found

    def back_up(self, source: Path, **options: object) -> BackupResult:
        chosen = BackupOptions(**{"host": self.host, **options})  # type: ignore[arg-type]
        recorder = Recorder()
        result = backup(self.opened(), os.fsencode(source), chosen, recorder)
        self.notes = recorder.notes
        assert not result.tally.problems
        return result
