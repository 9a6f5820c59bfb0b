"""Archives far away, in folders and in bundles: what was listed of them tells where to look.

Who misses something looks again.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ibtfs.errors import ObjectMissing
from ibtfs.store import layout
from ibtfs.store.index_cache import NEVER, IndexCache
from ibtfs.store.storage.base import FolderStorage, ObjectToken, StoredObject, is_unfinished
from ibtfs.store.storage.bundle import name_of
from ibtfs.store.storage.bundles import Bundles
from ibtfs.store.storage.far import BELOW, INDEX_BYTES, RECENT_SECONDS, Wanted, is_far_place

MANY = 64
"""To look at so many archives all are looked at."""

if TYPE_CHECKING:
    from ibtfs.store.storage.prefetching import Prefetching


class FarArchives(abc.ABC):
    """What a storage at *place* can do beyond the verbs, if it is far away; nothing if it is not.

    *bundles* are what lies together.
    """

    def __init__(self, place: FolderStorage, repository: bytes) -> None:
        self._place = place
        self.root = place.root
        self._far: Prefetching | None = None
        if is_far_place(place):
            from ibtfs.store.storage.prefetching import Prefetching  # a folder does without

            self._far = Prefetching(place)
        self.bundles = Bundles(self._far or place, repository, is_far=self._far is not None)
        if self._far is not None:
            self._far.counts = functools.partial(self._counts, self._far)

    @abc.abstractmethod
    def names_in(self, folder: str) -> Collection[str]:
        """The names in *folder* now, those in bundles too."""

    @property
    def is_far(self) -> bool:
        """Whether each request is waited for."""
        return self._far is not None

    def keep_in(self, cache: IndexCache) -> None:
        """Keep indexes of a repository that is far away in the local cache."""
        if self._far is not None:
            self._far.cache = cache

    def use_old_copies(self) -> None:
        """Use what the local cache has, however long ago it came; nothing is built on it."""
        if self._far is not None:
            self._far.copy_seconds = NEVER

    def _open_far(self, far: Prefetching, name: str, archive_id: str) -> StoredObject:
        if not archive_id:
            return far.open(name)
        names = far.known(archive_id)
        if names is None or name.rpartition("/")[2] in names:
            try:
                return far.open(name)
            except ObjectMissing:
                return self.bundles.open(name)
        wanted = self._bundled(name)
        try:
            if wanted is not None and layout.is_index(name):
                return far.lasting(wanted)
            return self.bundles.open(name)
        except ObjectMissing:
            return far.open(name)

    def _bundled(self, name: str) -> Wanted | None:
        """What *name* is in a bundle, if it was in one when these were looked at last."""
        archive_id, base = layout.archive_of(name), name.rpartition("/")[2]
        for place in self.bundles.places(archive_id, remembered=True):
            if name_of(place.member) == base:
                size, bundle = place.member.size, place.bundle.name
                number = int(bundle.rpartition("/")[2], 16)
                return Wanted(
                    name, (size, place.offset, number, -1), lambda: self._end_in_bundle(name),
                    lambda: self.bundles.open(name), f"{name} in {bundle}",
                )  # fmt: skip
        return None

    def _end_in_bundle(self, name: str) -> tuple[StoredObject, bytes]:
        stored = self.bundles.open(name)
        first = max(stored.size - INDEX_BYTES, 0)
        return stored, stored.read(first, stored.size - first)

    def known_names(self, archive_id: str) -> Collection[str]:
        """The names of an archive's files, as they were listed last; now, if they were not."""
        if self._far is None:
            return self.names_in(layout.archive(archive_id))
        if self._far.known(archive_id) is None:
            self._survey(self._far, [archive_id])
        names = self._far.known(archive_id) or ()
        bundled = self._bundled_names(archive_id)
        if not (names or bundled):
            self.bundles.look_again()
            bundled = self._bundled_names(archive_id)
        return {*names, *bundled}

    def _survey(self, far: Prefetching, archive_ids: Sequence[str]) -> None:
        """Look at archives; at all of them if they are few, and at bundles, if need be."""
        folders = [f"{layout.ARCHIVES}{BELOW}"]
        if far.known_archives() is not None or not far.are_few:
            folders = list(map(layout.archive, archive_ids))
        # what was put together is in the bundle before it leaves the folder
        bundles = [layout.BUNDLES] if self.bundles.is_outdated else []
        found = far.survey([*folders, *bundles])
        if bundles:
            self.bundles.look_by(found[layout.BUNDLES])
            self._drop_copies(far)

    def _counts(self, far: Prefetching, name: str) -> bool | None:
        """Whether an index, or bundle, is what counts, as it was listed last; None: who knows."""
        if layout.is_bundle(name):
            return far.is_listed(name)
        found = layout.parse_archive_file(name)
        names = far.known(layout.archive_of(name))
        if found is None or names is None:
            return None
        newest = _newest_index({*names, *self.bundles.known_names(layout.archive_of(name))})
        if found.generation > newest and self.bundles.is_outdated and layout.REMOVED not in names:
            return None
        return found.generation == newest

    def _drop_copies(self, far: Prefetching) -> None:
        """Keep no copies over the end of the process of what was replaced, or removed."""
        if far.cache is not None:
            far.cache.keep_only(lambda name: self._counts(far, name) is not False)

    def _bundled_names(self, archive_id: str) -> set[str]:
        places = self.bundles.places(archive_id, remembered=True)
        return {name_of(place.member) for place in places}

    def look_again(self, archive_id: str) -> None:
        """Have an archive be listed anew when it is asked for next."""
        if self._far is not None:
            self._far.forget(archive_id)

    def list_again(self, archive_ids: Iterable[str], *, or_all: bool = False) -> None:
        """Have what is remembered of archives be what lies there now; *or_all*, if they are few."""
        if self._far is None:
            return
        folders = list(map(layout.archive, archive_ids))
        if len(folders) >= MANY or (or_all and self._far.are_few):
            folders = [f"{layout.ARCHIVES}{BELOW}"]  # by it copies go of what was replaced
        if folders:
            # what was put together is in the bundle before it leaves the folder
            found = self._far.survey([*folders, layout.BUNDLES])
            self.bundles.look_by(found[layout.BUNDLES])
            self._drop_copies(self._far)

    def everything(self) -> Mapping[str, Sequence[str]]:
        """All names far away, those of uploads too, in each folder; what is in bundles as well."""
        assert self._far is not None
        nested = [f"{folder}{BELOW}" for folder in layout.NESTED]
        found = self._far.survey(["", *layout.FOLDERS, *nested])
        self.bundles.look_by(found[layout.BUNDLES])
        self._drop_copies(self._far)
        return {
            folder: sorted({*names, *self._bundled_names(layout.archive_in(folder))})
            for folder, names in found.items()
            if not folder.endswith(BELOW)
        }

    def far_archives(self, *, recent: bool = False) -> Sequence[str]:
        """All archives that are far away, now, or *recent*ly; what lies in each is remembered."""
        assert self._far is not None
        names = self._far.known_archives() if recent else None
        if names is None:
            found = self._far.survey([f"{layout.ARCHIVES}{BELOW}", layout.BUNDLES])
            self.bundles.look_by(found[layout.BUNDLES])
            self._drop_copies(self._far)
            names = set(filter(None, map(layout.archive_in, found)))
        return sorted({*names, *self.bundles.remembered()})

    def recent(self, folder: str) -> Collection[str]:
        """The names in *folder*, at the top; far away, as they were some seconds ago at most."""
        if self._far is None:
            return self.names_in(folder)
        names = self._far.recent(folder, RECENT_SECONDS)
        return [name for name in names if not is_unfinished(name)]

    def drops(self, archive_id: str) -> int:
        """How often what was kept of an archive was dropped."""
        return self._far.drops(layout.removed(archive_id)) if self._far is not None else 0

    def doubt(self, archive_id: str, before: int) -> bool:
        """Have an archive be read anew that seems damaged; whether another try is worth it.

        It was read *before* so many :meth:`drops`.
        """
        far = self._far
        return far is not None and far.doubt(archive_id, self._indexes(far, archive_id), before)

    def drop_copies(self, archive_id: str) -> None:
        """Keep nothing of an archive: something else lies there now."""
        if self._far is not None:
            self._far.drop_copies(archive_id, self._indexes(self._far, archive_id))

    def distrust(self, archive_ids: Collection[str]) -> None:
        """Use no index of these archives that was kept, but what lies there: it is damaged."""
        if self._far is not None:
            self._far.distrust(archive_ids)

    def _indexes(self, far: Prefetching, archive_id: str) -> Iterable[Wanted]:
        """The newest index of an archive, as it was listed last."""
        names = {*(far.known(archive_id) or ()), *self._bundled_names(archive_id)}
        name = layout.archive_file(archive_id, layout.INDEX, _newest_index(names))
        wanted = far.wanted(name) or self._bundled(name)
        return [wanted] if wanted is not None else []

    def expect(self, archive_ids: Iterable[str]) -> None:
        """Fetch the indexes of archives that will be asked for, beside, newest first."""
        far = self._far
        if far is None:
            return
        wanted = sorted(archive_ids, reverse=True)
        unknown = [name for name in wanted if far.known(name) is None]
        if unknown:
            self._survey(far, unknown)
        far.expect(index for name in wanted for index in self._indexes(far, name))

    def look_at(self, folders: Sequence[str]) -> None:
        """Look at folders far away, at the top, so that nobody has to wait for it."""
        if self._far is not None:
            self._far.survey(folders)

    def look_ahead(self) -> None:
        """Begin to look at all archives far away, if they are few, for somebody will need them."""
        far = self._far
        if far is not None and far.are_few and far.known_archives() is None:
            far.beside(lambda: self._survey(far, ()))

    def rest(self) -> None:
        """Wait until nothing is under way, so that the process can be forked."""
        if self._far is not None:
            self._far.rest()

    def listed(self, name: str) -> ObjectToken | None:
        """What tells an object far away from others, as it was when its folder was listed last."""
        return self._far.listed(name) if self._far is not None else None

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch small objects far away that are opened next, each once."""
        if self._far is not None:
            self._far.fetch(names)


def _newest_index(names: Collection[str]) -> int:
    """The newest generation of the index of an archive that has files of these *names*, or 0."""
    if layout.REMOVED in names:
        return 0
    found = filter(None, map(layout.parse_archive_file, names))
    return max((file.generation for file in found if file.kind == layout.INDEX), default=0)
