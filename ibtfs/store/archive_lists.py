"""Which archives a repository has, and which files each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Container

from ibtfs.errors import ObjectExists
from ibtfs.format.index import is_archive_id
from ibtfs.store import layout
from ibtfs.store.archives.generations import every_generation, generations
from ibtfs.store.own_runs import OwnRuns, as_made
from ibtfs.store.storage.bundled import BundledStorage


class ArchiveLists:
    """The archives in *storage*, as they are listed; *own* are all that a machine knows of."""

    def __init__(self, storage: BundledStorage, own: OwnRuns | None) -> None:
        self.storage, self.own = storage, own
        self._removed = set[str]()

    def archive_ids(self) -> list[str]:
        """The archives that are whole, oldest first by name."""
        return list(self.index_generations())

    def has_archives(self) -> bool:
        """Whether any archive is there, whole or not; reads one folder."""
        storage = self.storage
        names = (
            storage.far_archives(recent=True) if storage.is_far else storage.list(layout.ARCHIVES)
        )
        return any(map(is_archive_id, names))

    def is_whole(self, archive_id: str) -> bool:
        """Whether an archive has its index now."""
        return layout.INDEX in generations(self.storage, archive_id)

    def index_generations(self, known: Container[str] = ()) -> dict[str, int]:
        """The archives that are whole, oldest first by name, each with its index's generation.

        Those that are *known* are left out, and their folders are not looked into.
        """
        return {name: files[layout.INDEX] for name, files in self.archive_files(known).items()}

    def archive_files(
        self, known: Container[str] = (), *, recent: bool = False
    ) -> dict[str, dict[str, int]]:
        """As :meth:`index_generations`, with the generations of all files of each archive.

        Of archives far away, with *recent*, what is known from some seconds ago.
        """

        def is_wanted(name: str) -> bool:
            return name not in known and (self.own is None or self.own.has(name))

        found = every_generation(self.storage, is_wanted, recent=recent)
        whole = {name: files for name, files in found if layout.INDEX in files}
        return whole if self.own is None else as_made(whole)

    def files_of(self, archive_id: str) -> dict[str, int]:
        """The newest generation of each file that an archive has."""
        return generations(self.storage, archive_id)

    def incomplete_archives(self) -> list[str]:
        """The archives that have files and no index: what runs that were cut off left behind."""
        names = self.storage.list_folder(layout.ARCHIVES)  # in bundles all are whole
        found = ((name, generations(self.storage, name)) for name in names)
        return [name for name, files in found if files and layout.INDEX not in files]

    def unreadable_bundles(self) -> dict[str, str]:
        """The names of bundles of which it cannot be told what lies in them, and why."""
        return dict(self.storage.bundles.damaged())

    def damaged_bundles(self) -> dict[str, list[str]]:
        """What is wrong with each bundle, but for the files that lie in it: reads both ends."""
        return self.storage.bundles.damages()

    def remove(self, archive_id: str) -> None:
        """Have an archive exist no more; what is left of it is swept later.  Raises LockLost."""
        with contextlib.suppress(ObjectExists):
            self.storage.put_new(layout.removed(archive_id), b"")
        self._removed.add(archive_id)

    def was_removed(self, archive_id: str) -> bool:
        """Whether an archive was removed from here, or by somebody who left what says so."""
        left = self.storage.list_folder(layout.archive(archive_id))
        return archive_id in self._removed or layout.REMOVED in left
