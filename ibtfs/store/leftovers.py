"""Removing what runs that were cut off left behind: files that never became visible."""

from __future__ import annotations

from ibtfs.store.archive import generations
from ibtfs.store.lock import FOREIGN_SECONDS, Lock, others_at_work
from ibtfs.store.repository import Repository
from ibtfs.store.storage import FOLDERS, PART


def remove_leftovers(repository: Repository, lock: Lock) -> int:
    """Remove hidden parts, and archives without an index; how many objects went.

    *lock* is the caller's.  What there is is listed first and locks are looked at afterwards: a
    run that begins later makes only names that are not on the list.  While another run is at work
    nothing is removed.  Files of an archive without an index never were part of the repository.
    """
    storage = repository.storage
    stray = [
        part
        for folder in FOLDERS
        for part in storage.parts(folder)
        # a lock that is just being made has no name yet
        if folder != "locks" or storage.age(part) > FOREIGN_SECONDS
    ]
    archives = {name: _stray(repository, name) for name in storage.list("archives")}
    points = set(repository.point_ids())
    for point_id in storage.list("tags"):
        if point_id not in points:
            stray += [f"tags/{point_id}/{tag}" for tag in storage.list(f"tags/{point_id}")]
    if others_at_work(storage, lock):
        return 0
    for name, names in archives.items():
        whole = bool(names) and "index" in generations(storage, name)
        stray += [item for item in names if item.endswith(PART) or not whole]
    for name in stray:
        storage.delete(name)
    for point_id in set(storage.list("tags")) - points:
        storage.delete_folder(f"tags/{point_id}")
    for name, names in archives.items():
        if names:
            storage.delete_folder(f"archives/{name}")
    return len(stray)


def _stray(repository: Repository, archive_id: str) -> list[str]:
    """What of an archive's folder is left behind."""
    storage, folder = repository.storage, f"archives/{archive_id}"
    stray = list(storage.parts(folder))
    if "index" not in generations(storage, archive_id):
        stray += [f"{folder}/{name}" for name in storage.list(folder)]
    return stray
