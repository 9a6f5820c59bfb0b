"""The newest list of the points of a sealed repository, as it lies in ``lists/``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from ibtfs.errors import FormatDamaged, IbtfsError
from ibtfs.format.keys import Keys
from ibtfs.format.point_list import PointList, decode_list, mark_of
from ibtfs.store import layout
from ibtfs.store.storage.base import Storage, whole

LIST_LIMIT = 64 << 20
NONE = PointList(0, frozenset())
Key = TypeVar("Key")


class Listed(NamedTuple):
    """The newest list, the marks of its objects, and what is wrong with others, a line each.

    Of a number there may be several: two who wrote at once.  They count together.
    """

    found: PointList
    marks: tuple[bytes, ...]
    damaged: tuple[str, ...]


class Lists:
    """The newest list in *storage*, read when it is asked for; threads may share it.

    *is_waived*: what it says of generations does not count, for that was accepted.
    """

    def __init__(self, storage: Storage, keys: Keys) -> None:
        self._storage, self._keys = storage, keys
        self._newest: Listed | None = None
        self._names: list[str] = []
        self.is_waived = False

    @property
    def newest(self) -> Listed:
        """As it was when it was looked for.  Raises StorageFailed."""
        return self._newest or self.look()

    def look(self) -> Listed:
        """Look for the list with the highest number that can be read; number 0 if there is none.

        Raises StorageFailed.
        """
        names = self._storage.list(layout.LISTS)
        if self._newest is not None and not self._newest.damaged and names == self._names:
            return self._newest  # they never change
        damaged: list[str] = []
        found, marks = NONE, []
        for name in sorted(names, key=lambda name: (-layout.parse_numbered(name), name)):
            number, where = layout.parse_numbered(name), f"{layout.LISTS}/{name}"
            if not number or number < found.number:
                break
            try:
                data = whole(self._storage, where, LIST_LIMIT)
                one = decode_list(data, where, number, self._keys)
            except IbtfsError as error:
                damaged.append(str(error))
                continue
            found = _together(found, one) if found.number else one
            marks.append(mark_of(self._keys, data))
        self._newest, self._names = Listed(found, tuple(marks), tuple(damaged)), names
        return self._newest

    def mark(self, text: str) -> bytes:
        """What stands for *text* in lists."""
        return mark_of(self._keys, text.encode("utf-8", "surrogateescape"))

    def is_withdrawn(self, point_id: str, way: str) -> bool:
        """Whether a name, in this *way* of storing it, was taken from a point."""
        withdrawn = self.newest.found.withdrawn.get(point_id)
        return withdrawn is not None and self.mark(way) in withdrawn

    def stored(self, folder: str) -> list[str]:
        """The names in *folder* as they are stored, whatever they say.  Raises StorageFailed."""
        return self._storage.list(folder)

    def drop(self, name: str) -> None:
        """Remove what is stored as *name*.  Raises StorageFailed."""
        self._storage.delete(name)

    def require_generation(self, name: str, number: int) -> None:
        """Raise FormatDamaged if the file *name* of an archive had a later generation once."""
        least = 0 if self.is_waived else self.newest.found.generations.get(name, 0)
        if number < least:
            raise FormatDamaged(
                f"{name}.{number}: there was generation {least} of it, so an older state was put "
                "back; `ibtfs key accept` takes it"
            )


def _together(one: PointList, other: PointList) -> PointList:
    """What two lists of the same number say together."""
    generations = dict(one.generations)
    for name, number in other.generations.items():
        generations[name] = max(number, generations.get(name, 0))
    earlier = tuple(dict.fromkeys((*one.earlier, *other.earlier)))
    return PointList(
        one.number, one.points | other.points, _joined(one.gone, other.gone), earlier,
        max(one.since, other.since), _joined(one.withdrawn, other.withdrawn), generations,
    )  # fmt: skip


def _joined(
    one: Mapping[Key, frozenset[bytes]], other: Mapping[Key, frozenset[bytes]]
) -> dict[Key, frozenset[bytes]]:
    none: frozenset[bytes] = frozenset()
    return {key: one.get(key, none) | other.get(key, none) for key in {*one, *other}}
