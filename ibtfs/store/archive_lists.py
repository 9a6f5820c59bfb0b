"""Which archives a repository has, and which files each of them."""

from __future__ import annotations

from collections.abc import Container

from ibtfs.format.index import is_archive_id
from ibtfs.store import layout
from ibtfs.store.archives.generations import every_generation, generations
from ibtfs.store.storage.bundled import BundledStorage


class ArchiveLists:
    """The archives in *storage*, as they are listed."""

    def __init__(self, storage: BundledStorage) -> None:
        self.storage = storage

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
        found = every_generation(self.storage, known, recent=recent)
        return {name: files for name, files in found if layout.INDEX in files}

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
