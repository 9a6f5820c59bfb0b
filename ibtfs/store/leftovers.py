"""Removing what runs that were cut off left behind: files that never became visible."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from ibtfs.errors import IbtfsError, StorageFailed, StorageFull
from ibtfs.store import layout
from ibtfs.store.absent_points import may_have_been
from ibtfs.store.lock import Lock, parse_holder
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import TOKEN_DIGITS, UNFINISHED, Storage, is_unfinished, token_of
from ibtfs.store.storage.bundled import BundledStorage
from ibtfs.store.taking import withdraw_notes
from ibtfs.store.trees.reach import needed_archives

TOP = ""
FENCED = re.compile(rf"\.[0-9a-f]{{{2 * TOKEN_DIGITS}}}{re.escape(UNFINISHED)}\Z")
"""How names of uploads end that were begun under a lock: with its token, and random digits."""


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

    Points that are *present*; *points* that are, or were and may be lost; archives that are
    *whole*; archives that are *needed*, None if that cannot be told; names of locks in the making
    that are *held*.
    """

    present: frozenset[str]
    points: frozenset[str]
    whole: frozenset[str]
    needed: frozenset[str] | None
    held: frozenset[str]


def stray(listing: Listing, facts: Facts) -> list[str]:
    """The objects of *listing* that belong to nothing: uploads, tags without a point, notes of
    points as removed that are there, for who was to remove them was cut off, and files of archives
    without an index, which never were part of the repository; and empty folders.

    An index that was lost, or is still being copied here, does not make its data left over.  What
    is left of an archive that was removed is swept by prune, in an order of its own.
    """
    found = [
        _path(folder, name)
        for folder, names in listing.tops.items()
        for name in filter(is_unfinished, names)
        if folder != layout.LOCKS or name not in facts.held
    ]
    found += [
        layout.forgotten(name)
        for name in listing.tops.get(layout.FORGOTTEN, ())
        if name in facts.present
    ]
    for point_id, names in listing.tags.items():
        stays = point_id in facts.points
        found += _left(layout.tags(point_id), names, stays=stays)
    for archive_id, names in listing.archives.items():
        stays = (
            archive_id in facts.whole
            or layout.REMOVED in names
            or facts.needed is None
            or archive_id in facts.needed
        )
        found += _left(layout.archive(archive_id), names, stays=stays)
    return found


def _left(folder: str, names: Sequence[str], *, stays: bool) -> list[str]:
    """What of a folder goes: all of it, or only uploads; itself if it is empty."""
    gone = [_path(folder, name) for name in names if not stays or is_unfinished(name)]
    return gone if names else [folder]


def _path(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def remove_leftovers(
    repository: Repository, lock: Lock, note: Callable[[str], None] = lambda _: None
) -> int:
    """Remove :func:`abandoned` uploads, and then what is :func:`stray`; how many objects that were.

    *lock* is the caller's, who has not looked at the repository yet.  What there is is listed first
    and locks are looked at afterwards: a run that begins later makes only names that are not on the
    list.  (Notes of points as removed are the exception, so they are looked at again.)  While
    another run is at work only abandoned uploads are removed.  What cannot be removed stays, and is
    told by a *note*.
    """
    storage, left = repository.storage, _Leaver(repository.storage)
    listing = _listed(storage)
    locks = lock.remove_dead(left.failed)
    for name in abandoned(listing, locks):
        left.remove(name)
    if not lock.others_at_work(locks):
        for name in stray(listing, _facts(repository, listing)):
            point_id = _noted(name)
            if point_id:
                left.take_back(repository, point_id)
            else:
                left.remove(name)
        with suppress(IbtfsError):  # the next one does it
            withdraw_notes(repository)
    if left.failures:
        more = f", and {len(left.failures) - 1} more" if len(left.failures) > 1 else ""
        note(f"What an earlier run left behind cannot be removed: {left.failures[0]}{more}")
    return len(left.removed)


class _Leaver:
    """Removes objects; some file systems keep what somebody has open, or what is immutable."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.removed: set[str] = set()
        self.failures: list[str] = []

    def remove(self, name: str) -> None:
        """Remove the object *name*, once."""
        if name in self.removed:
            return
        try:
            self._storage.delete(name)
        except (StorageFailed, StorageFull) as error:
            self.failed(error)
        else:
            self.removed.add(name)

    def take_back(self, repository: Repository, point_id: str) -> None:
        """Take back that a point, which is there, is removed on purpose."""
        try:
            repository.points.withdraw_note(point_id)
        except (StorageFailed, StorageFull) as error:
            self.failed(error)
        else:
            self.removed.add(layout.forgotten(point_id))

    def failed(self, error: StorageFailed | StorageFull) -> None:
        """Take note that something could not be removed."""
        if str(error) not in self.failures:
            self.failures.append(str(error))


def _noted(name: str) -> str:
    """The point that *name* says is removed; empty if it says none."""
    folder, _, point_id = name.rpartition("/")
    return point_id if folder == layout.FORGOTTEN and not is_unfinished(name) else ""


def abandoned(listing: Listing, locks: Sequence[str]) -> list[str]:
    """The uploads on *listing* that were begun under a lock that is not among *locks* any more.

    Whoever began them has ended, or lost his lock and does not know it yet: as long as they are
    there he may still finish them.
    """
    tokens = {holder.token for holder in map(parse_holder, locks) if holder is not None}
    return [name for name in _uploads(listing) if _is_fenced(name) and token_of(name) not in tokens]


def _is_fenced(name: str) -> bool:
    """Whether an upload was begun under a lock: locks in the making, for one, are not."""
    return FENCED.search(name) is not None


def _uploads(listing: Listing) -> Iterator[str]:
    """The objects on *listing* that are not whole."""
    for folder, names in listing.tops.items():
        yield from (_path(folder, name) for name in filter(is_unfinished, names))
    for group, path in ((listing.tags, layout.tags), (listing.archives, layout.archive)):
        for one, names in group.items():
            yield from (_path(path(one), name) for name in filter(is_unfinished, names))


def _listed(storage: BundledStorage) -> Listing:
    if storage.is_far:
        return _listed_far(storage.everything())

    def names(folder: str) -> list[str]:
        return storage.list(folder, unfinished=True)

    return Listing(
        {folder: names(folder) for folder in (TOP, *layout.FOLDERS)},
        {name: names(layout.tags(name)) for name in storage.list(layout.TAGS)},
        {name: names(layout.archive(name)) for name in storage.list_folder(layout.ARCHIVES)},
    )


def _listed_far(found: Mapping[str, Sequence[str]]) -> Listing:
    below = {layout.TAGS: dict[str, Sequence[str]](), layout.ARCHIVES: dict[str, Sequence[str]]()}
    for folder, names in found.items():
        top, _, name = folder.rpartition("/")
        if top in below:
            below[top][name] = names
    tops = {folder: found.get(folder, ()) for folder in (TOP, *layout.FOLDERS)}
    return Listing(tops, below[layout.TAGS], below[layout.ARCHIVES])


def _facts(repository: Repository, listing: Listing) -> Facts:
    incomplete = [
        name
        for name, names in listing.archives.items()
        if not _has_index(names) and layout.REMOVED not in names
    ]
    unsure = [
        name for name in incomplete if any(not is_unfinished(n) for n in listing.archives[name])
    ]
    uploads = filter(is_unfinished, listing.tops[layout.LOCKS])
    # one that was incomplete when it was listed may be whole by now
    whole = {
        name for name in listing.archives if name not in incomplete or repository.is_whole(name)
    }
    present = repository.points.ids()
    return Facts(
        present=frozenset(present),
        points=_points(repository, set(listing.tags), whole, present),
        whole=frozenset(whole),
        needed=needed_archives(repository) if unsure else frozenset(),
        held=frozenset(n for n in uploads if repository.storage.is_held(layout.lock(n))),
    )


def _points(
    repository: Repository, tagged: set[str], whole: set[str], present: Sequence[str]
) -> frozenset[str]:
    """The points that are there; and those of *tagged* ids that may have been: to be put back from
    a copy without their tags would cost what those say."""
    unknown = tagged.difference(present)
    unknown = unknown.difference(repository.points.forgotten()) if unknown else unknown
    if not unknown:
        return frozenset(present)
    return frozenset(present) | may_have_been(repository.points.all(), unknown, whole)


def _has_index(names: Sequence[str]) -> bool:
    """Whether an archive with files of these *names* has its index."""
    found = map(layout.parse_archive_file, names)
    return any(file is not None and file.kind == layout.INDEX for file in found)
