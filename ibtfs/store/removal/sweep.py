"""The sweep: what no record needs any more goes from the disk.

It goes by the current index of each archive alone.  So it may be cut off at any moment, and done
again by anybody, also beside backups: what it removes cannot be come to any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ibtfs.errors import IntegrityError, ObjectExists, StorageFailed, StorageFull
from ibtfs.format.compression import Codec
from ibtfs.format.frames import SLABS
from ibtfs.store import layout
from ibtfs.store.archives.generations import generations
from ibtfs.store.archives.rewriter import FileRewriter
from ibtfs.store.removal.needed import Needed, kept_in, needed_by
from ibtfs.store.removal.payloads_cut import payloads_freed
from ibtfs.store.removal.records_cut import records_freed
from ibtfs.store.removal.sizes import Freed
from ibtfs.store.repository import Repository


class Swept(NamedTuple):
    """What a sweep did to one archive: bytes *freed* and *written*; why some could not be."""

    freed: int = 0
    written: int = 0
    failed: str = ""
    is_full: bool = False


class Sweeper:
    """Sweeps archives of a repository whose lock its caller holds; used by one thread.

    With *all_of_it* a file is written anew for any byte that is not needed.
    """

    def __init__(self, repository: Repository, *, all_of_it: bool = False) -> None:
        self._repository, self._all = repository, all_of_it
        self._storage = repository.storage

    def removed(self) -> list[str]:
        """The archives that do not exist any more, and of which something is left."""
        return [
            name
            for name in self._storage.list_folder(layout.ARCHIVES)
            if layout.REMOVED in self._storage.list_folder(layout.archive(name))
        ]

    def clear(self, archive_id: str) -> Swept:
        """Remove what is left of an archive that does not exist any more."""
        folder = layout.archive(archive_id)
        names = self._storage.list_folder(folder)
        if archive_id in self._storage.bundles.archives():
            # without what says that it is gone it would exist again, as it is in its bundle
            names = [name for name in names if name != layout.REMOVED]
        # what says that it is gone goes last
        names.sort(key=lambda name: (name == layout.REMOVED, not name.startswith(layout.INDEX)))
        freed = 0
        for name in names:
            size = self._size(f"{folder}/{name}")
            error = self._delete(f"{folder}/{name}")
            if error:
                return Swept(freed, failed=error)
            if layout.parse_parity(name) is None:  # nor is it told beforehand
                freed += size
        return Swept(freed)

    def sweep(self, archive_id: str, most: int | None = None) -> Swept:
        """Write the files of an archive anew that hold more than its records need.

        Earlier generations go.  A file of which about more than *most* bytes would be left stays as
        it is.  Raises LockLost.
        """
        swept = self.drop_earlier(archive_id)
        try:
            for kind, left in self._wasteful(archive_id):
                if most is not None and swept.written + left > most:
                    continue
                written = self._rewrite(archive_id, kind)
                dropped = self.drop_earlier(archive_id)
                freed = swept.freed + dropped.freed
                swept = Swept(freed, swept.written + written, swept.failed or dropped.failed)
        except StorageFull as error:
            return swept._replace(failed=str(error), is_full=True)
        except (IntegrityError, ObjectExists, StorageFailed) as error:
            return swept._replace(failed=str(error))
        return swept

    def wasteful(self, archive_id: str) -> list[str]:
        """The kinds of files of an archive that hold more than they should still.

        Raises IntegrityError.
        """
        return [kind for kind, _ in self._wasteful(archive_id)]

    def _needed(self, archive_id: str) -> Needed:
        reader = self._repository.archive(archive_id)
        return needed_by(kept_in(self._repository, reader))

    def _wasteful(self, archive_id: str) -> Iterator[tuple[str, int]]:
        """The kinds of files to be written anew, and about how many bytes are left of each."""
        reader = self._repository.archive(archive_id)
        kinds = [kind for kind in reader.kinds if kind != layout.INDEX]
        if not kinds or reader.file(layout.INDEX).generation == 1:
            return  # no record of it is gone
        needed, codec = self._needed(archive_id), Codec(self._repository.config.level)
        for kind in kinds:
            file = reader.file(kind)
            if kind == layout.DATA:
                payloads = needed.payloads
                less, lost = payloads_freed(file, payloads, codec, exact=self._all)
            else:
                less, lost = records_freed(file, {SLABS: needed.slabs}, codec)
            freed = file.freed_by(less)
            if Freed(file.size, freed, lost > 0).is_worth_it(all_of_it=self._all):
                yield kind, file.size - freed

    def _rewrite(self, archive_id: str, kind: str) -> int:
        """Write the next generation of a file; bytes written."""
        reader = self._repository.archive(archive_id)
        needed, old = self._needed(archive_id), reader.file(kind)
        codec = Codec(self._repository.config.level)
        name = layout.archive_object(archive_id, kind)
        with FileRewriter(
            self._storage, self._repository.keys, name, old, codec, renew=True
        ) as file:
            if kind == layout.DATA:
                file.keep_payloads(needed.payloads)
            else:
                flags = bytearray(max(needed.slabs, default=-1) + 1)
                for number in needed.slabs:
                    flags[number] = 1
                file.keep_records(SLABS, flags)
            written = file.finish()
        reader.refresh()  # the earlier one may lie in a bundle, and not go yet
        return written

    def drop_earlier(self, archive_id: str) -> Swept:
        """Remove the generations of an archive's files that do not count any more."""
        folder = layout.archive(archive_id)
        found = [layout.parse_archive_file(name) for name in self._storage.list_folder(folder)]
        files = sorted(file for file in found if file is not None)
        newest = generations(self._storage, archive_id) if files else {}
        self._drop_parity(archive_id, newest)
        swept = Swept()
        for kind, generation in files:
            if generation < newest.get(kind, 0):
                name = layout.archive_file(archive_id, kind, generation)
                size = self._size(name)
                error = self._delete(name)
                freed = swept.freed + (0 if error else size)
                swept = swept._replace(freed=freed, failed=swept.failed or error)
        if swept.freed:
            self._repository.archive(archive_id).refresh()  # an open file would keep its room
        return swept

    def _drop_parity(self, archive_id: str, newest: dict[str, int]) -> None:
        """Remove the sidecars of generations that do not count any more."""
        folder = layout.archive(archive_id)
        for name in self._storage.list(folder):
            found = layout.parse_parity(name)
            if found is not None and found.file.generation < newest.get(found.file.kind, 0):
                self._delete(f"{folder}/{name}")

    def _size(self, name: str) -> int:
        try:
            with self._storage.open(name) as stored:
                return stored.size
        except IntegrityError:
            return 0

    def _delete(self, name: str) -> str:
        """Remove an object; why it could not be, or nothing.

        Some file systems do not remove what somebody has open; the next sweep comes by again.
        """
        try:
            self._storage.delete(name)
        except StorageFailed as error:
            return str(error)
        return ""
