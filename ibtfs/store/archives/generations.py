"""Which files an archive has, and which generation of each counts."""

from __future__ import annotations

from ibtfs.store import layout
from ibtfs.store.storage.base import Storage


def generations(storage: Storage, archive_id: str) -> dict[str, int]:
    """The newest generation of each file of an archive; an archive is whole with its index.

    None of an archive that was removed, though some of its files may be left.
    """
    newest: dict[str, int] = {}
    for name in storage.list(layout.archive(archive_id)):
        if name == layout.REMOVED:
            return {}
        found = layout.parse_archive_file(name)
        if found is not None:
            newest[found.kind] = max(newest.get(found.kind, 0), found.generation)
    return newest
