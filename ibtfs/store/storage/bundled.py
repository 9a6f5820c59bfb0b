"""A repository in a folder, in which files of archives may lie in bundles.

Who opens or lists what an archive has finds it wherever it lies: in the archive's folder first.
Putting and deleting is done to folders alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from ibtfs.errors import ObjectMissing
from ibtfs.store import layout
from ibtfs.store.index_cache import IndexCache
from ibtfs.store.storage.base import (
    TOKEN_SETTLES_NS,
    FolderStorage,
    Lease,
    ObjectToken,
    Space,
    StoredObject,
    Upload,
    is_unfinished,
)
from ibtfs.store.storage.bundle import name_of
from ibtfs.store.storage.bundles import SETTLES_NS, Bundles
from ibtfs.store.storage.far import BELOW, FarPlace
from ibtfs.store.storage.prefetching import INDEX_BYTES, Prefetching, Wanted
from ibtfs.store.storage.remembered import RECENT_SECONDS

NEVER = float("inf")
LOOK_SECONDS = 30.0
"""Who looks at points that are far away waits for the answer if the last one is older."""
_REMEMBERED = (layout.BUNDLES, layout.POINTS)
"""Folders of whose objects more is remembered than their names, where they are far away."""


class BundledStorage:
    """The storage at *place* of the repository with the id *repository*, as FolderStorage says.

    *bundles* are what lies together.
    """

    def __init__(self, place: FolderStorage, repository: bytes) -> None:
        self._place = place
        self.root = place.root
        self._far = Prefetching(place) if isinstance(place, FarPlace) else None
        self.bundles = Bundles(self._far or place, repository, is_far=self._far is not None)
        self._folders: tuple[int, frozenset[str]] = (0, frozenset())

    def put(self, name: str) -> Upload:
        """As Storage says."""
        self._is_changed(name)
        return self._place.put(name)

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        self._is_changed(name)
        self._place.put_new(name, data)

    def replace(self, name: str) -> Upload:
        """As Healing says."""
        self.doubt(layout.archive_of(name))
        return self._place.replace(name)

    def delete(self, name: str) -> None:
        """As Storage says."""
        self.look_again(layout.archive_of(name) or layout.archive_in(name))
        self._place.delete(name)

    def _is_changed(self, name: str) -> None:
        self._folders = (0, frozenset())
        self.look_again(layout.archive_of(name))

    def open(self, name: str) -> StoredObject:
        """As Storage says."""
        archive_id = layout.archive_of(name)
        if self._far is not None:
            return self._open_far(self._far, name, archive_id)
        if archive_id and self._is_only_in_bundles(archive_id):
            with contextlib.suppress(ObjectMissing):
                return self.bundles.open(name)
        try:
            return self._place.open(name)
        except ObjectMissing:
            if not archive_id:
                raise
        return self.bundles.open(name)

    def list_folder(self, folder: str) -> list[str]:
        """What lies in *folder* itself, while :meth:`list` tells what is in bundles, too."""
        return self._listed(folder, unfinished=False)

    def _listed(self, folder: str, *, unfinished: bool) -> list[str]:
        far = self._far
        if far is not None and (folder in _REMEMBERED or layout.archive_in(folder)):
            return far.list(folder, unfinished=unfinished)
        return self._place.list(folder, unfinished=unfinished)

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""
        archive_id = layout.archive_in(folder)
        if archive_id and not unfinished and self._is_only_in_bundles(archive_id):
            names = []
        else:
            names = self._listed(folder, unfinished=unfinished)
        # what was put together is in the bundle before it leaves the folder: so the folder is first
        if folder == layout.ARCHIVES:
            return sorted({*names, *self.bundles.archives()})
        if not archive_id:
            return names
        bundled = self.bundles.names(archive_id)
        if not (names or bundled):
            self.bundles.look_again()
            bundled = self.bundles.names(archive_id)
        return sorted({*names, *bundled})

    def _is_only_in_bundles(self, archive_id: str) -> bool:
        """Whether an archive in a bundle has no folder, as one listing tells of all."""
        if self._far is not None or archive_id not in self.bundles.archives():
            return False
        token = self.folder_token(layout.ARCHIVES, SETTLES_NS)
        known, names = self._folders
        if token and token != known:
            names = frozenset(self._place.list(layout.ARCHIVES))
            self._folders = (token, names)
        return bool(token) and archive_id not in names

    def forget(self) -> None:
        """Forget what was listed: somebody who has just got a lock sees what others did before."""
        self._folders = (0, frozenset())
        self.bundles.forget()
        if self._far is not None:
            self._far.forget_all()

    # Far away: what was listed before tells where to look, and who misses something looks again

    @property
    def is_far(self) -> bool:
        """Whether each request is waited for."""
        return self._far is not None

    def keep_in(self, cache: IndexCache) -> None:
        """Keep indexes of a repository that is far away in the local cache."""
        if self._far is not None:
            self._far.cache = cache

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
            return self.list(layout.archive(archive_id))
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

    def _bundled_names(self, archive_id: str) -> set[str]:
        places = self.bundles.places(archive_id, remembered=True)
        return {name_of(place.member) for place in places}

    def look_again(self, archive_id: str) -> None:
        """Have an archive be listed anew when it is asked for next."""
        if self._far is not None:
            self._far.forget(archive_id)

    def list_again(self, archive_ids: Iterable[str]) -> None:
        """Have what is remembered of archives be what lies there now."""
        if self._far is not None and (folders := list(map(layout.archive, archive_ids))):
            # what was put together is in the bundle before it leaves the folder
            found = self._far.survey([*folders, layout.BUNDLES])
            self.bundles.look_by(found[layout.BUNDLES])

    def everything(self) -> Mapping[str, Sequence[str]]:
        """All names far away, those of uploads too, in each folder; what is in bundles as well."""
        assert self._far is not None
        nested = [f"{folder}{BELOW}" for folder in layout.NESTED]
        found = self._far.survey(["", *layout.FOLDERS, *nested])
        self.bundles.look_by(found[layout.BUNDLES])
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
            names = set(filter(None, map(layout.archive_in, found)))
        return sorted({*names, *self.bundles.remembered()})

    def recent(self, folder: str) -> Collection[str]:
        """The names in *folder*, at the top; far away, as they were some seconds ago at most."""
        if self._far is None:
            return self.list(folder)
        names = self._far.recent(folder, RECENT_SECONDS)
        return [name for name in names if not is_unfinished(name)]

    def doubt(self, archive_id: str) -> bool:
        """Have an archive that seems damaged be read anew; whether anything of it was kept."""
        far = self._far
        return far is not None and far.doubt(archive_id, self._indexes(far, archive_id))

    def _indexes(self, far: Prefetching, archive_id: str) -> Iterable[Wanted]:
        """The newest index of an archive, as it was listed last."""
        names = {*(far.known(archive_id) or ()), *self._bundled_names(archive_id)}
        found = filter(None, map(layout.parse_archive_file, names))
        last = max((file.generation for file in found if file.kind == layout.INDEX), default=0)
        name = layout.archive_file(archive_id, layout.INDEX, last)
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

    def listed(self, name: str) -> ObjectToken | None:
        """What tells an object far away from others, as it was when its folder was listed last."""
        return self._far.listed(name) if self._far is not None else None

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch small objects far away that are opened next, each once."""
        if self._far is not None:
            self._far.fetch(names)

    # Leases

    def lease(self, name: str, token: str) -> Lease:
        """As Leases says."""
        return self._place.lease(name, token)

    def drop_unfinished(self, token: str) -> None:
        """As Leases says."""
        self._place.drop_unfinished(token)

    def is_held(self, name: str) -> bool | None:
        """As Leases says."""
        return self._place.is_held(name)

    def age(self, name: str, now: str) -> float:
        """As Leases says."""
        found = self._place.age(name, now)
        made = self.made(name) if found == NEVER else 0
        return max(self.made(now) - made, 0.0) if made else found

    # The volume

    def made(self, name: str) -> int:
        """As Volume says; of an archive in a bundle, whenever its index was put first."""
        archive_id = layout.archive_of(name)
        return self._place.made(name) or (self.bundles.made(archive_id) if archive_id else 0)

    def space(self) -> Space:
        """As Volume says."""
        return self._place.space()

    def refusal(self) -> str:
        """As Volume says."""
        return self._place.refusal()

    def sync(self, folders: Iterable[str]) -> None:
        """As Volume says."""
        self._place.sync(folders)

    def folder_token(self, folder: str, settles_ns: int = TOKEN_SETTLES_NS) -> int:
        """As Volume says; of points that are far away, as they were seen some time ago."""
        if self._far is not None and folder == layout.POINTS:
            return self._far.seen_token(folder, LOOK_SECONDS)
        return self._place.folder_token(folder, settles_ns)

    def has_folder(self, folder: str) -> bool:
        """As Volume says."""
        return self._place.has_folder(folder)

    def changed_ns(self, folder: str) -> int:
        """As Volume says; of points that are far away, as they were seen some time ago."""
        if self._far is not None and folder == layout.POINTS:
            return self._far.seen_ns(folder, LOOK_SECONDS)
        return self._place.changed_ns(folder)

    def token(self, name: str) -> ObjectToken:
        """As Volume says; far away, as its folder was listed last."""
        return self._far.token(name) if self._far is not None else self._place.token(name)

    def make_folders(self) -> None:
        """As FolderStorage says."""
        self._place.make_folders()
