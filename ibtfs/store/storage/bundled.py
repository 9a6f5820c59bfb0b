"""A repository in a folder, in which files of archives may lie in bundles.

Who opens or lists what an archive has finds it wherever it lies: in the archive's folder first.
Putting and deleting is done to folders alone.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterable

from ibtfs.errors import ObjectMissing
from ibtfs.store import layout
from ibtfs.store.storage.base import (
    TOKEN_SETTLES_NS,
    FolderStorage,
    Lease,
    ObjectToken,
    Space,
    StoredObject,
    Upload,
)
from ibtfs.store.storage.bundles import SETTLES_NS
from ibtfs.store.storage.far import INDEX_BYTES
from ibtfs.store.storage.far_archives import FarArchives
from ibtfs.store.storage.keeping import KeepingUpload

NEVER = float("inf")
LOOK_SECONDS = 60.0
"""Who looks at points that are far away waits for the answer if the last one is older.

A mount has them looked at more often than that.
"""
_REMEMBERED = (layout.BUNDLES, layout.POINTS)
"""Folders of whose objects more is remembered than their names, where they are far away."""


class BundledStorage(FarArchives):
    """The storage at *place* of the repository with the id *repository*, as FolderStorage says.

    *bundles* are what lies together.
    """

    def __init__(self, place: FolderStorage, repository: bytes) -> None:
        super().__init__(place, repository)
        self._folders: tuple[int, frozenset[str]] = (0, frozenset())

    def put(self, name: str) -> Upload:
        """As Storage says."""
        self._is_changed(name)
        upload = self._place.put(name)
        if self._far is None or not layout.is_index(name):
            return upload
        return KeepingUpload(upload, INDEX_BYTES, functools.partial(self._far.was_put, name))

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        self._is_changed(name)
        self._place.put_new(name, data)

    def replace(self, name: str) -> Upload:
        """As Healing says."""
        upload = self._place.replace(name)
        if self._far is None:
            return upload
        return KeepingUpload(upload, -1, functools.partial(self._is_replaced, name))

    def _is_replaced(self, name: str, _: bytes | None) -> None:
        archive_id = layout.archive_of(name)
        if archive_id:
            self.drop_copies(archive_id)
            self.look_again(archive_id)

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

    def open_stored(self, name: str) -> StoredObject:
        """An object of a folder, or a bundle, as it lies there: past all that is kept of it."""
        return self._place.open(name)

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

    def names_in(self, folder: str) -> Collection[str]:
        """As FarArchives says."""
        return self.list(folder)

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
