"""The backup points of a repository: listed, read, committed, removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from ibtfs.errors import (
    FormatDamaged,
    IbtfsError,
    IntegrityError,
    ObjectExists,
    ObjectMissing,
    PointNotFound,
    PointRefused,
    StorageFailed,
    StorageFull,
)
from ibtfs.format.compression import Codec
from ibtfs.format.config import Config
from ibtfs.format.index import is_archive_id
from ibtfs.format.keys import Keys
from ibtfs.format.point import POINT_ID, Point, decode_point, encode_point
from ibtfs.store import layout
from ibtfs.store.listed import Lists
from ibtfs.store.manifest_copies import ManifestCopies
from ibtfs.store.naming import shown_sources, told_apart
from ibtfs.store.point_tags import PointTags
from ibtfs.store.storage.base import is_unfinished, whole
from ibtfs.store.storage.bundled import BundledStorage

MANIFEST_LIMIT = 8 << 20


class PointList(NamedTuple):
    """The points of a repository, in order within each source, and manifests that are damaged.

    Points that others stand in the place of are in neither.
    """

    points: list[Point]
    damaged: dict[str, IbtfsError]


class Points(PointTags):
    """The points of one repository; threads may share it.

    In *cache_folder*, if there is one, is a copy of the manifests that were read before.
    *committed* are the ids of those that came from here, *removed* those that went, *taken_back*
    those that were noted as forgotten, and stay: what says so is to be taken away, by who writes
    that down first.
    """

    def __init__(
        self, storage: BundledStorage, config: Config, keys: Keys, cache_folder: bytes,
        lists: Lists | None = None,
    ) -> None:  # fmt: skip
        super().__init__(storage)
        self._config, self._keys, self._lists = config, keys, lists
        self._read: dict[str, Point] = {}
        self.committed, self.removed, self.taken_back = list[str](), list[str](), list[str]()
        self._copies: ManifestCopies | None = None
        if cache_folder:
            few = storage.is_far
            self._copies = ManifestCopies(cache_folder, config.id, keys.trust, few=few)

    def ids(self, *, recent: bool = False) -> list[str]:
        """The ids of all points; reads one folder and no manifest.

        With *recent*, of points far away, as it was read some seconds ago.  Raises ObjectMissing if
        that folder is not there, although there are archives.
        """
        names = self._storage.recent(layout.POINTS) if recent else self._storage.list(layout.POINTS)
        found = self._with_seen(sorted(filter(POINT_ID.match, names)))
        if not found:
            self._require_folder()
        return found

    def _require_folder(self) -> None:
        """A run makes the folder before its first archive, and nothing ever removes it."""
        if not self._storage.has_folder(layout.POINTS) and any(
            map(is_archive_id, self._storage.list(layout.ARCHIVES))
        ):
            raise ObjectMissing(
                f"{layout.POINTS}/: is missing although there are archives: put the folder back "
                "from a copy of the repository, or make an empty one to begin anew"
            )

    def get(self, point_id: str) -> Point:
        """The point called *point_id*.  Raises PointNotFound, FormatDamaged."""
        point = self._read.get(point_id)
        if point is None:
            try:
                point = self._read[point_id] = self._load(point_id)
            except ObjectMissing as error:
                raise PointNotFound(f"No backup point {point_id!r}") from error
        return point

    def _load(self, point_id: str) -> Point:
        name = layout.point(point_id)
        if self._copies is None:
            return self._decoded(name, point_id)
        # looked at before it is read: what changes afterwards has another token
        token = self._storage.token(name)
        point = self._copies.get(point_id, token)
        if point is None:
            point = self._decoded(name, point_id)
            self._copies.add(token, point)
        return point

    def fetch(self, point_ids: Iterable[str]) -> None:
        """Have manifests that are far away come at once, but those that there are copies of."""
        if not self._storage.is_far:
            return
        wanted = [name for name in point_ids if name not in self._read]
        if self._copies is not None:
            tokens = {name: self._storage.listed(layout.point(name)) for name in wanted}
            wanted = [name for name in wanted if not self._copies.has(name, tokens[name])]
        self._storage.fetch(map(layout.point, wanted))

    def _decoded(self, name: str, point_id: str) -> Point:
        data = whole(self._storage, name, MANIFEST_LIMIT)
        name = layout.point(point_id)
        author = self._keys.author_of(name)
        try:
            if author is not None and self._lists is not None:
                self._lists.require_kept(point_id)  # it may put back what was removed
            return decode_point(data, name, point_id, self._keys)
        except FormatDamaged as error:
            if author is None:
                raise
            raise PointRefused(error, author.host) from error

    def forget_read(self) -> None:
        """Forget the manifests that were read."""
        self._read.clear()

    def tidy(self, note: Callable[[str], None]) -> None:
        """Forget what this machine kept of what is gone, if it keeps anything; a *note* of losses.

        Raises StorageFailed.
        """

    def remember(self) -> None:
        """Keep a copy of the manifests that were read, where there is a folder for it."""
        if self._copies is not None:
            self._copies.keep()

    def all(self, *, recent: bool = False) -> PointList:
        """All points, by sequence within their sources; manifests that cannot be read apart.

        *recent* as of :meth:`ids`.  Raises as that, and StorageFailed if none can be read.
        """
        points: list[Point] = []
        damaged: dict[str, IbtfsError] = {}
        present = self.ids(recent=recent)
        self.fetch(present)
        for point_id in present:
            try:
                points.append(self.get(point_id))
            except (IntegrityError, StorageFailed) as error:
                damaged[point_id] = error
            except PointNotFound:
                continue  # removed since the folder was listed
        if self._storage.is_far:
            self._storage.fetch(())  # who asks later whether a point is there asks the storage
        if not points:
            for refused in damaged.values():
                if isinstance(refused, StorageFailed):
                    raise refused
        for gone in set(self._read).difference(present):
            self._read.pop(gone, None)
        hidden = replaced_ids(points)
        points = [point for point in points if point.id not in hidden]
        damaged = {name: error for name, error in damaged.items() if name not in hidden}
        points.sort(key=lambda point: point.order)
        shown = shown_sources(points)
        points = [
            point if shown[point.id] == point.display else replace(point, display=shown[point.id])
            for point in points
        ]
        return PointList(points, damaged)

    def has(self, point_id: str) -> bool:
        """Whether the manifest is still there; so it is where that cannot be told."""
        return self._is_there(layout.point(point_id))

    def _is_there(self, name: str) -> bool:
        try:
            self._storage.open(name).close()
        except ObjectMissing:
            return False
        except IbtfsError:
            return True
        return True

    def token(self) -> int:
        """A number that changes when a point comes or goes; 0: it may be about to change."""
        return self._storage.folder_token(layout.POINTS)

    def changed_ns(self) -> int:
        """When a point last came or went, in ns since 1970; 0 if that cannot be told."""
        return self._storage.changed_ns(layout.POINTS)

    def manifest_size(self, point: Point) -> int:
        """How many bytes the manifest of *point* has."""
        return len(self._encoded(point))

    def commit(self, point: Point) -> Point:
        """Make *point* visible: THE COMMIT POINT of a backup; the point as it is then called.

        Its manifest lies there, without its name yet, before it is looked which names are taken: of
        two runs that commit at once at least one sees the other.
        """
        name = layout.point(point.id)
        upload = self._storage.put(name)
        with upload:
            upload.write(self._encoded(point))
            named = told_apart(point, *self._others(point.id))
            if named == point:
                upload.finish()
        if named != point:
            upload.abort()
            self._storage.put_new(name, self._encoded(named))
        self._read[point.id] = named  # what was committed need not be read back
        self.committed.append(point.id)
        return named

    def _others(self, point_id: str) -> tuple[list[Point], list[str]]:
        """All points but *point_id*, those that are about to be committed too; damaged ids."""
        points: list[Point] = []
        damaged: list[str] = []
        for name in self._storage.list(layout.POINTS, unfinished=True):
            other = layout.point_of(name)
            if other == point_id or POINT_ID.match(other) is None:
                continue
            try:
                points.append(
                    self._decoded(f"{layout.POINTS}/{name}", other)
                    if is_unfinished(name)
                    else self.get(other)
                )
            except (IntegrityError, StorageFailed, PointNotFound):
                if not is_unfinished(name):  # else it is being written, and will see this one
                    damaged.append(other)
        return points, damaged

    def _encoded(self, point: Point) -> bytes:
        name, codec = layout.point(point.id), Codec(self._config.level)
        return encode_point(point, name, self._keys, codec)

    def put(self, point: Point) -> None:
        """Make *point*, which stands in the place of others, visible; they are hidden then."""
        self._storage.put_new(layout.point(point.id), self._encoded(point))
        self._read[point.id] = point
        self.committed.append(point.id)

    def hidden(self) -> list[str]:
        """The ids of points that others stand in the place of, and that are still there."""
        replaced = replaced_ids(self.all().points)
        return [point_id for point_id in self.ids() if point_id in replaced]

    def settle(self) -> None:
        """Make durable what runs that were killed just before removed, and noted as forgotten.

        Raises StorageFailed.
        """
        for folder in (layout.FORGOTTEN, layout.POINTS):
            with suppress(ObjectMissing):
                self._storage.sync([folder])

    def expect_none(self, point_id: str) -> None:
        """Say that there is to be no point of this id: archives of that run may go at once."""
        with suppress(ObjectExists):
            self._storage.put_new(layout.forgotten(point_id), b"")

    def forgotten(self) -> list[str]:
        """The ids of points that were removed on purpose, and of whose archives some are left.

        Also of those that somebody is about to remove.
        """
        return [name for name in self._storage.list(layout.FORGOTTEN) if POINT_ID.match(name)]

    def withdraw_note(self, point_id: str) -> None:
        """Take back that a point that is there is removed on purpose; it is among *taken_back*.

        Where nothing is sealed the note goes.  Whoever removes the point at this moment may have
        seen it: if that is gone by now, it is noted again.  Raises StorageFailed.
        """
        self.taken_back.append(point_id)
        if self._lists is None:
            self.drop_forgotten(point_id)
            if not self.has(point_id):
                self.note_forgotten(point_id)

    def drop_forgotten(self, point_id: str) -> None:
        """Remember no more that a point was removed on purpose."""
        self._storage.delete(layout.forgotten(point_id))

    def remove(self, point_id: str) -> None:
        """Remove a point: noted as forgotten, its manifest goes, durably, and then its tags.

        Before it go points in whose place it stands.  Cut off in between, this leaves tags that
        mean nothing, and never a point without the tag that was to keep it.  What is missing is
        fine.  Raises StorageFailed.
        """
        with suppress(IntegrityError, PointNotFound):
            for other in self.get(point_id).replaces:
                if self.has(other):
                    self.remove(other)  # else it would be shown again
        name = layout.point(point_id)
        self.note_forgotten(point_id)
        try:
            self._storage.delete(name)
            if self.has(point_id):
                raise StorageFailed(f"{name}: is no file, was not removed; look what lies there")
        except StorageFailed:
            if self.has(point_id):
                self.withdraw_note(point_id)  # it stays, so what it needs is needed
            raise
        # the manifest made room; or somebody who was to remove it, too, and did not, took the note
        if self._lists is not None:
            self._lists.look()  # and may have said so
        self.note_forgotten(point_id)
        self._read.pop(point_id, None)
        self.removed.append(point_id)
        for tag in self.tags(point_id):
            self._storage.delete(layout.tag(point_id, tag))

    def note_forgotten(self, point_id: str) -> bool:
        """Note that a point is removed on purpose; whether the disk had room for it.

        Raises StorageFailed.
        """
        if self._is_there(layout.forgotten(point_id)):
            return True
        try:
            self._storage.put_new(layout.forgotten(point_id), b"")
        except ObjectExists:
            return True  # by somebody else
        except StorageFull:
            return False
        return True


def replaced_ids(points: Iterable[Point]) -> frozenset[str]:
    """The ids that any of *points* stands in the place of."""
    return frozenset(point_id for point in points for point_id in point.replaces)
