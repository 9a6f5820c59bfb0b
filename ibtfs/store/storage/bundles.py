"""Bundles, read: where the files of archives lie that have been put together into one file.

Directories are read once and kept; whether bundles came or went tells the folder that they are in.
Bundles never change, and their names never come again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from ibtfs.errors import (
    FormatDamaged,
    IntegrityError,
    ObjectMissing,
    ObjectUnreadable,
    StorageFailed,
)
from ibtfs.format.bundle import Directory, Ends
from ibtfs.format.tables import TRAILER_SIZE
from ibtfs.store import layout
from ibtfs.store.storage.base import StoredObject
from ibtfs.store.storage.bundle import Bundle, BundleStorage, Opened, Place, name_of

FIRST_BYTES = 1 << 14
"""So much is read at once of a bundle: its label, and most directories whole."""
TRIES = 10
SETTLES_NS = 3_000_000_000
"""Some file systems keep full seconds only, or two."""


@dataclass
class _Found:
    """What bundles there are; *archives* tells the bundles of each archive, and its place there."""

    token: int = 0
    bundles: dict[str, Bundle] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    archives: dict[str, list[tuple[Bundle, int]]] = field(default_factory=dict)


class Bundles:
    """The bundles of a repository whose id *repository* is; threads may share it.

    *is_far*: each look at the storage is waited for, and the end of a bundle comes when it is
    opened.
    """

    def __init__(self, storage: BundleStorage, repository: bytes, *, is_far: bool = False) -> None:
        self._storage, self._repository, self._is_far = storage, repository, is_far
        self._lock = threading.Lock()
        self._found: _Found | None = None
        self._is_outdated = False

    def forget(self) -> None:
        """Look again, also for what could not be read."""
        if self._found is not None:
            self._found.damaged = {}
        self.look_again()

    def look_again(self) -> None:
        """Look whether bundles came or went, though the time of their folder does not tell."""
        self._is_outdated = True
        if self._found is not None:
            self._found.token = 0

    def archives(self) -> Collection[str]:
        """The archives that have files in bundles."""
        return self._current().archives.keys()

    def remembered(self) -> Mapping[str, list[tuple[Bundle, int]]]:
        """The archives that had files in bundles when these were looked at last, and where."""
        found = self._found
        if found is None or self._is_outdated:
            if self._is_far:
                self.look_by(self._storage.list(layout.BUNDLES))
            found = self._current() if self.is_outdated else self._found or _Found()
        return found.archives

    def known_names(self, archive_id: str) -> set[str]:
        """As :meth:`names`, when they were looked at last; nothing is asked for."""
        found = self._found or _Found()
        return {
            name_of(member)
            for bundle, ordinal in found.archives.get(archive_id, ())
            for member, _ in bundle.directory.members(ordinal)
        }

    def all(self) -> list[Bundle]:
        """All bundles that can be read, in order of name."""
        return [bundle for _, bundle in sorted(self._current().bundles.items())]

    def damaged(self) -> Mapping[str, str]:
        """The names of bundles of which it cannot be told what lies in them, and why."""
        return self._current().damaged

    def places(self, archive_id: str, *, remembered: bool = False) -> Iterator[Place]:
        """The files of an archive in all bundles: now, or as they were *remembered*."""
        found = self.remembered() if remembered else self._current().archives
        for bundle, ordinal in found.get(archive_id, ()):
            for member, offset in bundle.directory.members(ordinal):
                yield Place(bundle, member, offset)

    def names(self, archive_id: str) -> set[str]:
        """The names of an archive's files, as its folder would list them."""
        return {name_of(place.member) for place in self.places(archive_id)}

    def made(self, archive_id: str) -> int:
        """When an archive was made, in seconds since 1970; 0 if no bundle tells."""
        found = self._current().archives.get(archive_id, ())
        return max((bundle.directory.made[ordinal] for bundle, ordinal in found), default=0)

    def open(self, name: str) -> BundledObject:
        """A file of an archive.  Raises ObjectMissing, ObjectUnreadable, StorageFailed."""
        return BundledObject(self, name)

    def find(self, name: str) -> tuple[Opened, Place]:
        """Where the file *name* of an archive lies now.  Raises as :meth:`open`."""
        archive_id, base = layout.archive_of(name), name.rpartition("/")[2]
        for turn in range(TRIES):
            among = self.places(archive_id, remembered=self._is_far and not turn)
            places = [one for one in among if name_of(one.member) == base]
            if not places and turn:
                break
            for place in places:
                with contextlib.suppress(ObjectMissing):
                    return place.bundle.opened(), place
            self.look_again()  # it may lie in another one by now
        raise ObjectMissing(f"{name}: no such file in the repository")

    def look_by(self, names: Iterable[str]) -> None:
        """Take it that there are just the bundles that were listed as *names*.

        If that is something new they are listed once more: while bundles are put together a listing
        may miss the new one, and the old ones.
        """
        wanted = set(map(layout.bundle, filter(layout.is_bundle_id, names)))
        known = self._found or _Found()
        for _ in range(TRIES):
            if wanted == known.bundles.keys() | known.damaged.keys():
                break
            last, wanted = wanted, self._names()
            if last == wanted:
                break
        with self._lock:
            before = self._found or _Found()
            try:
                made = self._made(before, wanted)
            except ObjectMissing:
                self._is_outdated = True  # one went into another
                return
            self._found, self._is_outdated = made, False
        for name in before.bundles.keys() - wanted:
            before.bundles[name].let_go()

    @property
    def is_outdated(self) -> bool:
        """Whether they are to be looked at again."""
        return self._found is None or self._is_outdated

    def _current(self) -> _Found:
        found = self._found
        token = self._storage.folder_token(layout.BUNDLES, SETTLES_NS)
        if found is not None and token and token == found.token:
            return found
        with self._lock:
            return self._look(token)

    def _look(self, token: int) -> _Found:
        found, self._is_outdated = self._found or _Found(), False
        for _ in range(TRIES):
            names = self._names()
            if self._found is not None and names == found.bundles.keys() | found.damaged.keys():
                found.token = token
                return found
            # while bundles are put together a listing may miss the new one, and the old ones
            if names != self._names():
                continue
            try:
                made = self._made(found, names)
            except ObjectMissing:
                continue
            made.token = token
            self._found = made
            for name in found.bundles.keys() - names:
                found.bundles[name].let_go()
            return made
        return found

    def _names(self) -> set[str]:
        names = filter(layout.is_bundle_id, self._storage.list(layout.BUNDLES))
        return set(map(layout.bundle, names))

    def _made(self, before: _Found, names: set[str]) -> _Found:
        made = _Found()
        for name in sorted(names):
            try:
                bundle = before.bundles.get(name) or self._read(name)
            except ObjectMissing:
                raise
            except IntegrityError as error:
                made.damaged[name] = str(error)
                continue
            made.bundles[name] = bundle
            for ordinal, archive_id in enumerate(bundle.directory.archives):
                made.archives.setdefault(archive_id, []).append((bundle, ordinal))
        return made

    def _read(self, name: str) -> Bundle:
        """A bundle by the directory at its beginning; if that is damaged, by that at its end.

        Or the other way round, where the end comes first.
        """
        one, other = (self.last, self.first) if self._is_far else (self.first, self.last)
        with self._storage.open(name) as stored:
            try:
                directory = one(stored)
            except IntegrityError as error:
                try:
                    directory = other(stored)
                except IntegrityError:
                    raise error from None
        return Bundle(self._storage, name, directory)

    def first(self, stored: StoredObject) -> Directory:
        """The directory at the beginning of a bundle.  Raises FormatDamaged, ObjectUnreadable."""
        ends = Ends(self._repository, stored.name, f"{stored.name}: directory at the beginning")
        data = stored.read(0, FIRST_BYTES)
        offset, size, _ = ends.trailer(data[:TRAILER_SIZE], stored.size, is_label=True)
        if offset + size > len(data):
            data += stored.read(len(data), offset + size - len(data))
        return ends.directory(data[offset : offset + size])

    def last(self, stored: StoredObject) -> Directory:
        """The directory at the end of a bundle, likewise."""
        ends = Ends(self._repository, stored.name, f"{stored.name}: directory at the end")
        data = stored.read(max(stored.size - TRAILER_SIZE, 0), TRAILER_SIZE)
        offset, size, _ = ends.trailer(data, stored.size, is_label=False)
        return ends.directory(stored.read(offset, size))

    def damages(self) -> dict[str, list[str]]:
        """What is wrong with each bundle, but for the files that lie in it: reads both ends."""
        found: dict[str, list[str]] = {}
        for name in sorted(self._names()):
            try:
                with self._storage.open(name) as stored:
                    wrong = list(self._wrong(stored))
            except ObjectMissing:
                continue  # it went into another one
            except IntegrityError as error:
                wrong = [str(error)]
            if wrong:
                found[name] = wrong
        return found

    def _wrong(self, stored: StoredObject) -> Iterator[str]:
        for read in (self.first, self.last):
            try:
                directory = read(stored)
                told = directory.end + directory.members(0)[0][1]
                if told != stored.size:
                    raise FormatDamaged(f"{stored.name}: {stored.size} bytes, should be {told}")
            except IntegrityError as error:
                yield str(error)


class BundledObject:
    """A file of an archive in a bundle, as StoredObject says.

    When the bundle went into another one, it goes on there.
    """

    def __init__(self, bundles: Bundles, name: str) -> None:
        self._bundles, self.name = bundles, name
        self._place = bundles.find(name)
        place = self._place[1]
        self.size = place.member.size
        self.shown = f"{name} in {place.bundle.name}"

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        wanted = min(size, max(self.size - offset, 0))
        with contextlib.suppress(ObjectMissing):
            return self._read(offset, wanted)
        return self._read(offset, wanted)  # wherever it lies now

    def _read(self, offset: int, size: int) -> bytes:
        opened, place = self._place
        stored = opened.stored
        while stored is None:
            self._place = opened, place = self._bundles.find(self.name)
            stored = opened.stored
        try:
            return stored.read(place.offset + offset, size)
        except (ObjectMissing, ObjectUnreadable, StorageFailed):
            # removed by another machine, or the disk went and came back as another device: who
            # shares the open file is to open it again, too
            place.bundle.let_go()
            self._bundles.look_again()
            raise

    def is_removed(self) -> bool:
        """As StoredObject says: the bundle has no name any more."""
        stored = self._place[0].stored
        return stored is not None and stored.is_removed()

    def close(self) -> None:
        """Let go of the bundle."""
        self._place = (Opened(None), self._place[1])

    def __enter__(self) -> BundledObject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()
