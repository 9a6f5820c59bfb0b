"""The tags of backup points, and which of these were seen."""

from __future__ import annotations

from ibtfs.errors import UsageError
from ibtfs.format.point import is_display_name
from ibtfs.store import layout
from ibtfs.store.storage.base import is_unfinished
from ibtfs.store.storage.bundled import BundledStorage


class PointTags:
    """The tags in one *storage*; threads may share it.

    *seen* are the ids of all points that were there whenever somebody looked.
    """

    def __init__(self, storage: BundledStorage) -> None:
        self._storage = storage
        self.seen = set[str]()

    def _with_seen(self, ids: list[str]) -> list[str]:
        """*ids*, which are there."""
        self.seen.update(ids)
        return ids

    def tags(self, point_id: str) -> list[str]:
        """The tags of a point."""
        return self._storage.list(layout.tags(point_id))

    def tagged(self, tag: str) -> frozenset[str]:
        """The ids that have *tag*; of some there may be no point."""
        ids = self._storage.list(layout.TAGS)
        return frozenset(point_id for point_id in ids if tag in self.tags(point_id))

    def remove_tag(self, point_id: str, tag: str) -> None:
        """Take a tag from a point; that it has none is fine.  Raises StorageFailed."""
        self._storage.delete(layout.tag(point_id, tag))

    def add_tag(self, point_id: str, tag: str) -> None:
        """Tag a point, which may not be there yet.  Raises ObjectExists, UsageError."""
        if not is_display_name(tag) or tag.startswith(".") or is_unfinished(tag):
            raise UsageError(
                f"{tag!r} is no tag: it is a file name, without '.' at its beginning, or .part at "
                "its end"
            )
        self._storage.put_new(layout.tag(point_id, tag), b"")
