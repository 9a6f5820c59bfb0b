"""Which files an archive has, and which generation of each counts."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator

from ibtfs.format.index import is_archive_id
from ibtfs.store import layout
from ibtfs.store.storage.base import Storage
from ibtfs.store.storage.bundled import BundledStorage


def generations(storage: Storage, archive_id: str) -> dict[str, int]:
    """The newest generation of each file of an archive; an archive is whole with its index.

    None of an archive that was removed, though some of its files may be left.
    """
    return _newest(storage.list(layout.archive(archive_id)))


def known_generations(storage: Storage, archive_id: str) -> dict[str, int]:
    """As :func:`generations`; far away, as the archive was listed last."""
    if isinstance(storage, BundledStorage):
        return _newest(storage.known_names(archive_id))
    return generations(storage, archive_id)


def recent_names(storage: Storage, folder: str) -> Collection[str]:
    """The names in *folder*, at the top; far away, as they were some seconds ago at most."""
    return storage.recent(folder) if isinstance(storage, BundledStorage) else storage.list(folder)


def is_far(storage: Storage) -> bool:
    """Whether each request is waited for."""
    return isinstance(storage, BundledStorage) and storage.is_far


def look_again(storage: Storage, archive_id: str) -> None:
    """Have an archive be listed anew, wherever it lies, when it is asked for next."""
    if isinstance(storage, BundledStorage):
        storage.look_again(archive_id)


def drops(storage: Storage, archive_id: str) -> int:
    """How often what was kept here of an archive was dropped."""
    return storage.drops(archive_id) if isinstance(storage, BundledStorage) else 0


def doubt(storage: Storage, archive_id: str, before: int) -> bool:
    """Whether another try is worth it to read an archive that seems damaged.

    It is so if its index was kept here, which it is not any more.  It was read *before* so many
    :func:`drops`.
    """
    return isinstance(storage, BundledStorage) and storage.doubt(archive_id, before)


def list_again(storage: Storage, archive_ids: Iterable[str]) -> None:
    """Have what is known of archives far away be what lies there now; of all, if they are few."""
    if isinstance(storage, BundledStorage):
        storage.list_again(archive_ids, or_all=True)


def distrust(storage: Storage, archive_ids: Collection[str]) -> None:
    """Use no index of these archives that is kept here, though it be as it was stored."""
    if isinstance(storage, BundledStorage):
        storage.distrust(archive_ids)


def expect(storage: Storage, archive_ids: Iterable[str]) -> None:
    """Say that the indexes of archives will be asked for."""
    if isinstance(storage, BundledStorage):
        storage.expect(filter(None, archive_ids))


def newest_of(
    storage: BundledStorage, archive_ids: Iterable[str]
) -> Iterator[tuple[str, dict[str, int]]]:
    """The :func:`generations` of some archives, as they are now; far away by one request."""
    wanted = list(archive_ids)
    storage.list_again(wanted)
    for archive_id in wanted:
        yield archive_id, known_generations(storage, archive_id)


def every_generation(
    storage: BundledStorage, known: Container[str], *, recent: bool = False
) -> Iterator[tuple[str, dict[str, int]]]:
    """The :func:`generations` of all archives but those that are *known*.

    With *recent* as they were some seconds ago, where they are far away.
    """
    if storage.is_far:
        for archive_id in filter(is_archive_id, storage.far_archives(recent=recent)):
            if archive_id not in known:
                yield archive_id, known_generations(storage, archive_id)
        return
    names = filter(is_archive_id, storage.list(layout.ARCHIVES))
    yield from all_generations(storage, [name for name in names if name not in known])


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
    newest: dict[str, int] = {}
    for name in names:
        if name == layout.REMOVED:
            return {}
        found = layout.parse_archive_file(name)
        if found is not None:
            newest[found.kind] = max(newest.get(found.kind, 0), found.generation)
    return newest
