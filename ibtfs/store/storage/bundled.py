"""A repository in a folder, in which files of archives may lie in bundles.

Who opens or lists what an archive has finds it wherever it lies: in the archive's folder first.
Putting and deleting is done to folders alone.
"""

from __future__ import annotations

from ibtfs.errors import ObjectMissing
from ibtfs.store import layout
from ibtfs.store.storage.base import StoredObject
from ibtfs.store.storage.bundles import Bundles
from ibtfs.store.storage.local import LocalStorage

NEVER = float("inf")


class BundledStorage(LocalStorage):
    """The storage of the repository with the id *repository*; *bundles* are what lies together."""

    def __init__(self, root: bytes, repository: bytes, *, shared: bool = False) -> None:
        super().__init__(root, shared=shared)
        self.bundles = Bundles(LocalStorage(root, shared=shared), repository)

    def open(self, name: str) -> StoredObject:
        """As Storage says."""
        try:
            return super().open(name)
        except ObjectMissing:
            if not layout.archive_of(name):
                raise
        return self.bundles.open(name)

    def list_folder(self, folder: str) -> list[str]:
        """What lies in *folder* itself, as :meth:`list` tells it otherwise."""
        return super().list(folder)

    def list(self, folder: str, *, unfinished: bool = False) -> list[str]:
        """As Storage says."""
        # what was put together is in the bundle before it leaves the folder, so the folder is first
        names = super().list(folder, unfinished=unfinished)
        if folder == layout.ARCHIVES:
            return sorted({*names, *self.bundles.archives()})
        archive_id = layout.archive_of(f"{folder}/{layout.INDEX}")
        bundled = self.bundles.names(archive_id) if archive_id else ()
        return sorted({*names, *bundled}) if bundled else names

    def age(self, name: str, now: str) -> float:
        """As Leases says."""
        found = super().age(name, now)
        made = self.made(name) if found == NEVER else 0
        return max(self.made(now) - made, 0.0) if made else found

    def made(self, name: str) -> int:
        """As Volume says; of an archive in a bundle, whenever its index was put first."""
        archive_id = layout.archive_of(name)
        return super().made(name) or (self.bundles.made(archive_id) if archive_id else 0)
