"""Removing what runs that were cut off left behind: files that never became visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ibtfs.store import layout
from ibtfs.store.absent_points import may_have_been
from ibtfs.store.lock import Lock
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import is_unfinished
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.trees.reach import needed_archives

TOP = ""


class Listing(NamedTuple):
    """What lies in a repository: the names in each folder, those of unfinished uploads among them.

    *tops* are the folders at the top, ``""`` being the repository itself; *tags* has the folder of
    each point, *archives* that of each archive.
    """

    tops: Mapping[str, Sequence[str]]
    tags: Mapping[str, Sequence[str]]
    archives: Mapping[str, Sequence[str]]


class Facts(NamedTuple):
    """What tells whether something on a listing is left over; found out after it was made.

    *points* that are there, or were and may be lost; archives that are *whole*; archives that are
    *needed*, None if that cannot be told; names of locks in the making that are *held*.
    """

    points: frozenset[str]
    whole: frozenset[str]
    needed: frozenset[str] | None
    held: frozenset[str]


def stray(listing: Listing, facts: Facts) -> list[str]:
    """The objects of *listing* that belong to nothing: uploads, tags without a point, and files of
    archives without an index, which never were part of the repository; and empty folders.

    An index that was lost, or is still being copied here, does not make its data left over.
    """
    found = [
        _path(folder, name)
        for folder, names in listing.tops.items()
        for name in filter(is_unfinished, names)
        if folder != layout.LOCKS or name not in facts.held
    ]
    for point_id, names in listing.tags.items():
        stays = point_id in facts.points
        found += _left(layout.tags(point_id), names, stays=stays)
    for archive_id, names in listing.archives.items():
        stays = archive_id in facts.whole or facts.needed is None or archive_id in facts.needed
        found += _left(layout.archive(archive_id), names, stays=stays)
    return found


def _left(folder: str, names: Sequence[str], *, stays: bool) -> list[str]:
    """What of a folder goes: all of it, or only uploads; itself if it is empty."""
    gone = [_path(folder, name) for name in names if not stays or is_unfinished(name)]
    return gone if names else [folder]


def _path(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def remove_leftovers(repository: Repository, lock: Lock) -> int:
    """Remove what is :func:`stray`; how many objects that were.

    *lock* is the caller's.  What there is is listed first and locks are looked at afterwards: a
    run that begins later makes only names that are not on the list.  While another run is at work
    nothing is removed.
    """
    storage = repository.storage
    lock.remove_dead()
    listing = _listed(storage)
    if lock.others_at_work():
        return 0
    found = stray(listing, _facts(repository, listing))
    for name in found:
        storage.delete(name)
    return len(found)


def _listed(storage: LocalStorage) -> Listing:
    def names(folder: str) -> list[str]:
        return storage.list(folder, unfinished=True)

    return Listing(
        {folder: names(folder) for folder in (TOP, *layout.FOLDERS)},
        {name: names(layout.tags(name)) for name in storage.list(layout.TAGS)},
        {name: names(layout.archive(name)) for name in storage.list(layout.ARCHIVES)},
    )


def _facts(repository: Repository, listing: Listing) -> Facts:
    incomplete = [name for name, names in listing.archives.items() if not _has_index(names)]
    unsure = [
        name for name in incomplete if any(not is_unfinished(n) for n in listing.archives[name])
    ]
    uploads = filter(is_unfinished, listing.tops[layout.LOCKS])
    # one that was incomplete when it was listed may be whole by now
    whole = {
        name for name in listing.archives if name not in incomplete or repository.is_whole(name)
    }
    return Facts(
        points=_points(repository, set(listing.tags), whole),
        whole=frozenset(whole),
        needed=needed_archives(repository) if unsure else frozenset(),
        held=frozenset(n for n in uploads if repository.storage.is_held(layout.lock(n))),
    )


def _points(repository: Repository, tagged: set[str], whole: set[str]) -> frozenset[str]:
    """The points that are there; and those of *tagged* ids that may have been: to be put back from
    a copy without their tags would cost what those say."""
    present = repository.points.ids()
    unknown = tagged.difference(present, repository.points.forgotten())
    if not unknown:
        return frozenset(present)
    return frozenset(present) | may_have_been(repository.points.all(), unknown, whole)


def _has_index(names: Sequence[str]) -> bool:
    """Whether an archive with files of these *names* has its index."""
    found = map(layout.parse_archive_file, names)
    return any(file is not None and file.kind == layout.INDEX for file in found)
