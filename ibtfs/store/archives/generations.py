"""Which files an archive has, and which generation of each counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ibtfs.store import layout
from ibtfs.store.storage.base import Storage
from ibtfs.store.storage.bundled import BundledStorage


def generations(storage: Storage, archive_id: str) -> dict[str, int]:
    """The newest generation of each file of an archive; an archive is whole with its index.

    None of an archive that was removed, though some of its files may be left.
    """
    return _newest(storage.list(layout.archive(archive_id)))


def present(storage: Storage, archive_id: str) -> dict[str, list[int]]:
    """All generations of each file of an archive that are there, the newest first."""
    return present_in(storage.list(layout.archive(archive_id)))


def all_generations(
    storage: BundledStorage, archive_ids: Iterable[str]
) -> Iterator[tuple[str, dict[str, int]]]:
    """The :func:`generations` of many archives; of those without a folder no file is looked for."""
    folders = set(storage.list_folder(layout.ARCHIVES))
    for archive_id in archive_ids:
        if archive_id in folders:
            yield archive_id, generations(storage, archive_id)
        else:
            yield archive_id, _newest(storage.bundles.names(archive_id))


def _newest(names: Iterable[str]) -> dict[str, int]:
    return {kind: numbers[0] for kind, numbers in present_in(names).items()}


def present_in(names: Iterable[str]) -> dict[str, list[int]]:
    """The same, by the *names* in the folder of an archive."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        if name == layout.REMOVED:
            return {}
        found = layout.parse_archive_file(name)
        if found is not None:
            numbers.setdefault(found.kind, []).append(found.generation)
    return {kind: sorted(found, reverse=True) for kind, found in numbers.items()}
