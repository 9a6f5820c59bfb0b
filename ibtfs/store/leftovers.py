"""Removing what runs that were cut off left behind: files that never became visible."""

from __future__ import annotations

from collections.abc import Sequence

from ibtfs.store.archives.reader import generations
from ibtfs.store.lock import Lock, others_at_work
from ibtfs.store.repository import Repository
from ibtfs.store.storage.durable import PART
from ibtfs.store.storage.local import FOLDERS, LocalStorage
from ibtfs.store.trees.reach import needed_archives


def remove_leftovers(repository: Repository, lock: Lock) -> int:
    """Remove hidden parts, archives without an index, tags without a point; how many objects.

    *lock* is the caller's.  What there is is listed first and locks are looked at afterwards: a
    run that begins later makes only names that are not on the list.  While another run is at work
    nothing is removed.  Files of an archive without an index never were part of the repository.
    """
    storage = repository.storage
    lock.remove_dead()
    hidden = [part for folder in (".", *FOLDERS) for part in storage.parts(folder)]
    tags = {name: storage.all(f"tags/{name}") for name in storage.list("tags")}
    archives = {name: storage.all(f"archives/{name}") for name in storage.list("archives")}
    if others_at_work(storage, lock):
        return 0
    points = set(repository.point_ids())
    needed = needed_archives(repository) if any(map(_has_files, archives.values())) else None
    stray = [name for name in hidden if _is_left(storage, name)]
    for point_id, names in tags.items():
        stray += [name for name in names if name.endswith(PART) or point_id not in points]
    for archive_id, names in archives.items():
        # an index that was lost, or is still being copied here, does not make its data left over
        whole = _has_index(names) or needed is None or archive_id in needed
        whole = whole or "index" in generations(storage, archive_id)
        stray += [name for name in names if name.endswith(PART) or not whole]
    for name in stray:
        storage.delete(name)
    for folder in (*(f"tags/{name}" for name in tags), *(f"archives/{name}" for name in archives)):
        storage.delete_folder(folder)
    return len(stray)


def _has_files(names: Sequence[str]) -> bool:
    """Whether an archive's files hold more than hidden parts, and no index."""
    return not _has_index(names) and any(not name.endswith(PART) for name in names)


def _has_index(names: Sequence[str]) -> bool:
    return any("/index." in name and not name.endswith(PART) for name in names)


def _is_left(storage: LocalStorage, part: str) -> bool:
    """Whether nobody holds a hidden part; only a lock that is being made is held."""
    return not part.startswith("locks/") or not storage.is_held(part)
