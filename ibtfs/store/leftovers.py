"""Removing what runs that were cut off left behind: files that never became visible."""

from __future__ import annotations

from ibtfs.store.archive import generations
from ibtfs.store.lock import live_shared
from ibtfs.store.repository import Repository


def remove_leftovers(repository: Repository, host: str) -> int:
    """Remove hidden parts, and archives without an index; how many objects went.

    Does nothing while another run is at work: what looks left behind may be its own.  The files
    of an archive without an index were never part of the repository.
    """
    storage = repository.storage
    if len(live_shared(storage, host)) > 1:
        return 0
    removed = 0
    for folder in ("points", "locks", "damaged"):
        for part in list(storage.parts(folder)):
            storage.delete(part)
            removed += 1
    for archive_id in storage.list("archives"):
        folder = f"archives/{archive_id}"
        stray = list(storage.parts(folder))
        if "index" not in generations(storage, archive_id):
            stray += [f"{folder}/{name}" for name in storage.list(folder)]
        for name in stray:
            storage.delete(name)
            removed += 1
        storage.delete_folder(folder)
    return removed
