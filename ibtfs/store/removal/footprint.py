"""What a repository takes on the disk: bytes of its files, by what they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ibtfs.errors import IntegrityError
from ibtfs.store import layout
from ibtfs.store.archives.newest import counting
from ibtfs.store.repository import Repository


@dataclass(frozen=True)
class Footprint:
    """Bytes of files: of archives by kind, of manifests, and of all that is left.

    *other* are the configuration, tags, notes, and what runs that were cut off, and removals that
    still go on, left behind.  *archives* and *points* have the bytes of each by its id.
    """

    data: int
    index: int
    sigs: int
    manifests: int
    other: int
    archives: dict[str, int]
    points: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes of all."""
        return self.data + self.index + self.sigs + self.manifests + self.other


def footprint(repository: Repository) -> Footprint:
    """What *repository* takes.  Raises StorageFailed."""
    kinds = dict.fromkeys(layout.KINDS, 0)
    archives: dict[str, int] = {}
    other = _size(repository, layout.CONFIG)
    for archive_id in repository.storage.list(layout.ARCHIVES):
        newest = counting(repository.storage, repository.keys, archive_id)
        for name in _files(repository, layout.archive(archive_id)):
            size, file = _size(repository, name), layout.parse_archive_file(name)
            if layout.INDEX in newest and file and newest[file.kind] == file.generation:
                kinds[file.kind] += size
                archives[archive_id] = archives.get(archive_id, 0) + size
            else:
                other += size
    present = set(repository.points.ids())
    points: dict[str, int] = {}
    for name in _files(repository, layout.POINTS):
        point_id = name.rpartition("/")[2]
        if point_id in present:
            points[point_id] = _size(repository, name)
        else:
            other += _size(repository, name)
    for folder in (layout.DAMAGED, layout.LOCKS):
        other += sum(_size(repository, name) for name in _files(repository, folder))
    return Footprint(
        kinds[layout.DATA], kinds[layout.INDEX], kinds[layout.SIGS],
        sum(points.values()), other, archives, points,
    )  # fmt: skip


def _files(repository: Repository, folder: str) -> Iterator[str]:
    for name in repository.storage.list(folder, unfinished=True):
        yield f"{folder}/{name}"


def _size(repository: Repository, name: str) -> int:
    """Bytes of an object; 0 of one that is gone, or cannot be opened."""
    try:
        with repository.storage.open(name) as stored:
            return stored.size
    except IntegrityError:
        return 0
