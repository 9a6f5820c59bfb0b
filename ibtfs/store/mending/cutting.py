"""Bytes behind the end of an archive's file: found, and cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ibtfs.errors import IntegrityError
from ibtfs.store import layout
from ibtfs.store.repository import Repository

PIECE = 1 << 20


class Longer(NamedTuple):
    """A file of an archive: its object *name*, what is its own, and how many bytes are *behind*."""

    archive: str
    name: str
    size: int
    behind: int


def longer_files(repository: Repository) -> Iterator[Longer]:
    """The files of archives that have bytes behind their ends."""
    for archive_id in repository.archive_ids():
        reader = repository.archive(archive_id)
        for kind in layout.KINDS:
            try:
                file = reader.file(kind)
            except IntegrityError:
                continue  # there is none, or it is told by check
            if file.behind:
                yield Longer(archive_id, file.name, file.size - file.behind, file.behind)


def cut(repository: Repository, longer: Longer, beat: Callable[[], None]) -> None:
    """Take away what lies behind the end of a file.

    For who is alone in the repository.  Raises IntegrityError, LockLost, StorageFull,
    StorageFailed.
    """
    storage = repository.storage
    with storage.open(longer.name) as stored, storage.replace(longer.name) as upload:
        for start in range(0, longer.size, PIECE):
            beat()
            upload.write(stored.read(start, min(PIECE, longer.size - start)))
        upload.finish()
    repository.archive(longer.archive).refresh()
