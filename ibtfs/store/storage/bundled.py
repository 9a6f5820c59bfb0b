"""A repository in a folder, in which files of archives may lie in bundles.

Who opens or lists what an archive has finds it wherever it lies: in the archive's folder first.
Putting and deleting is done to folders alone.
"""

from __future__ import annotations

import contextlib

from ibtfs.errors import ObjectMissing
from ibtfs.store import layout
from ibtfs.store.storage.base import StoredObject
from ibtfs.store.storage.bundles import SETTLES_NS, Bundles
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.upload import LocalUpload

NEVER = float("inf")


class BundledStorage(LocalStorage):
    """The storage of the repository with the id *repository*; *bundles* are what lies together."""

    def __init__(self, root: bytes, repository: bytes, *, shared: bool = False) -> None:
        super().__init__(root, shared=shared)
        self.bundles = Bundles(LocalStorage(root, shared=shared), repository)
        self._folders: tuple[int, frozenset[str]] = (0, frozenset())

    def put(self, name: str) -> LocalUpload:
        """As Storage says."""
        self._folders = (0, frozenset())
        return super().put(name)

    def put_new(self, name: str, data: bytes) -> None:
        """As Storage says."""
        self._folders = (0, frozenset())
        super().put_new(name, data)

    def open(self, name: str) -> StoredObject:
        """As Storage says."""
        archive_id = layout.archive_of(name)
        if archive_id and self._is_only_in_bundles(archive_id):
            with contextlib.suppress(ObjectMissing):
                return self.bundles.open(name)
        try:
            return super().open(name)
        except ObjectMissing:
            if not archive_id:
                raise
        return self.bundles.open(name)

    def list_folder(self, folder: str) -> list[str]:
        """What lies in *folder* itself, while :meth:`list` tells what is in bundles, too."""
        return super().list(folder)

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""
        archive_id = layout.archive_of(f"{folder}/{layout.INDEX}")
        if archive_id and not unfinished and self._is_only_in_bundles(archive_id):
            names = []
        else:
            names = super().list(folder, unfinished=unfinished)
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
        """Whether an archive in a bundle has no folder, as one listing tells of all.

        It spares looking for each of them, which takes long where the storage is far away.
        """
        if archive_id not in self.bundles.archives():
            return False
        token = self.folder_token(layout.ARCHIVES, SETTLES_NS)
        known, names = self._folders
        if token and token != known:
            names = frozenset(super().list(layout.ARCHIVES))
            self._folders = (token, names)
        return bool(token) and archive_id not in names

    def forget(self) -> None:
        """Forget what was listed: somebody who has just got a lock sees what others did before."""
        self._folders = (0, frozenset())
        self.bundles.forget()

    def age(self, name: str, now: str) -> float:
        """As Leases says."""
        found = super().age(name, now)
        made = self.made(name) if found == NEVER else 0
        return max(self.made(now) - made, 0.0) if made else found

    def made(self, name: str) -> int:
        """As Volume says; of an archive in a bundle, whenever its index was put first."""
        archive_id = layout.archive_of(name)
        return super().made(name) or (self.bundles.made(archive_id) if archive_id else 0)
