"""What lies in folders and bundles as it is stored: past all that is kept of it here.

What goes because it lies elsewhere, too, is compared by this: a copy would only be like itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.keys import Keys
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.storage.base import StoredObject
from ibtfs.store.storage.bundle import Place, name_of
from ibtfs.store.storage.bundled import BundledStorage

PIECE = 1 << 20


class Part:
    """A file of an archive in the open *bundle*, from *offset*, as StoredObject says."""

    def __init__(self, bundle: StoredObject, name: str, place: Place) -> None:
        self._bundle, self._offset = bundle, place.offset
        self.name, self.size = name, place.member.size
        self.shown = f"{name} in {bundle.shown}"

    def read(self, offset: int, size: int) -> bytes:
        """As StoredObject says."""
        size = min(size, max(self.size - offset, 0))
        return self._bundle.read(self._offset + offset, size)

    def is_removed(self) -> bool:
        """As StoredObject says."""
        return self._bundle.is_removed()

    def close(self) -> None:
        """As StoredObject says; the bundle stays open."""

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        pass


class Stored:
    """What is stored in *storage*; bundles that were opened are closed with it."""

    def __init__(self, storage: BundledStorage) -> None:
        self._storage = storage
        self._opened: dict[str, StoredObject] = {}
        self._stack = ExitStack()

    def parts(self, name: str) -> Iterator[tuple[str, Part]]:
        """The file *name* of an archive, in each bundle that has it, with that one's name."""
        base = name.rpartition("/")[2]
        for place in self._storage.bundles.places(layout.archive_of(name)):
            if name_of(place.member) != base:
                continue
            bundle = place.bundle.name
            if bundle not in self._opened:
                opened = self._stack.enter_context(self._storage.open_stored(bundle))
                self._opened[bundle] = opened
            yield bundle, Part(self._opened[bundle], name, place)

    def is_twice(self, name: str) -> bool:
        """Whether a file of a folder has the bytes that all bundles with it have."""
        try:
            with self._storage.open_stored(name) as one:
                alike = [_are_alike(one, other) for _, other in self.parts(name)]
        except IntegrityError:
            return False
        return bool(alike) and all(alike)

    def require_index(self, keys: Keys, archive_id: str, generation: int, bundle: str) -> None:
        """Raise FormatDamaged, ObjectUnreadable if an index in a bundle is worse than elsewhere."""
        name = layout.archive_file(archive_id, layout.INDEX, generation)
        others: list[StoredObject] = []
        mine: Part | None = None
        for found, part in self.parts(name):
            if found == bundle:
                mine = part
            else:
                others.append(part)
        if mine is None:
            raise FormatDamaged(f"{name}: is not in {bundle}, though it was just written there")
        try:
            file = layout.archive_object(archive_id, layout.INDEX)
            FrameFileReader(keys, file, mine).verify()
        except FormatDamaged:
            if self._is_in_folder(name):
                others.append(self._stack.enter_context(self._storage.open_stored(name)))
            if not any(_are_alike(mine, other) for other in others):
                raise  # else it is as damaged as it was

    def _is_in_folder(self, name: str) -> bool:
        folder, _, base = name.rpartition("/")
        return base in self._storage.list_folder(folder)

    def __enter__(self) -> Stored:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._stack.close()


def _are_alike(one: StoredObject, other: StoredObject) -> bool:
    return one.size == other.size and all(
        one.read(place, PIECE) == other.read(place, PIECE) for place in range(0, one.size, PIECE)
    )
