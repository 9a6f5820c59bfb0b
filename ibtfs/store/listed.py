"""The newest list of the points of a sealed repository, as it lies in ``lists/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from ibtfs.errors import (
    FormatDamaged,
    ObjectMissing,
    ObjectUnreadable,
    StorageFailed,
    UnsupportedFormat,
)
from ibtfs.format.keys import Keys
from ibtfs.format.marks import Marks
from ibtfs.format.objects import signed_part
from ibtfs.format.point_list import LIST_LIMIT, PointList, decode_list, mark_of, without
from ibtfs.store import layout
from ibtfs.store.storage.base import Storage, whole

LOOKS = 5
"""So often it is looked again if others write lists meanwhile."""
NONE = PointList(0, frozenset())
Key = TypeVar("Key")
Value = TypeVar("Value")


class Listed(NamedTuple):
    """The newest list, the marks of its objects, and what is wrong with others, by their names.

    Of a number there may be several: two who wrote at once.  They count together, and so does one
    of the number before that none of them follows.
    """

    found: PointList
    marks: tuple[bytes, ...]
    damaged: Mapping[str, str]


class Accepted(NamedTuple):
    """What somebody took as it is, though lists say something else.

    *damaged* are names of lists that cannot be read, *returned* ids of points that were removed and
    are there.  *generations* are those of files of archives that are there, each with the one that
    the list told then.
    """

    damaged: frozenset[str] = frozenset()
    returned: frozenset[str] = frozenset()
    generations: Mapping[str, tuple[int, int]] = {}

    def least(self, name: str, listed: int) -> int:
        """The generation that the file *name* has to have at least, of which this is *listed*."""
        there, before = self.generations.get(name, (listed, listed))
        return there if before == listed else listed


NOTHING = Accepted()


class Lists:
    """The newest list in *storage*, read when it is asked for; threads may share it.

    *accepted* is what whoever watches over the repository took as it is.
    """

    def __init__(self, storage: Storage, keys: Keys) -> None:
        self._storage, self._keys = storage, keys
        self._newest: Listed | None = None
        self._is_old = False
        self._read: dict[str, tuple[PointList, bytes]] = {}
        self.names: Sequence[str] = ()
        self.accepted = NOTHING

    @property
    def newest(self) -> Listed:
        """As it was when it was looked for.  Raises StorageFailed."""
        return self.look() if self._newest is None or self._is_old else self._newest

    def forget_read(self) -> None:
        """Have it be looked for when it is asked for the next time."""
        self._is_old = True

    def look(self) -> Listed:
        """Look for the list with the highest number that can be read; number 0 if there is none.

        What was seen stays: no earlier one is taken in its place.  Raises StorageFailed.
        """
        for _ in range(LOOKS):
            names = self._storage.list(layout.LISTS)
            try:
                found = self._found(names)
            except ObjectMissing:
                continue  # another one is in its place by now
            before = self._newest
            if before is not None and found.found.number < before.found.number:
                what = f"{layout.LISTS}/: list {before.found.number}, which was seen, is not there"
                found = before._replace(damaged={**found.damaged, layout.LISTS: what})
            self._newest, self.names, self._is_old = found, names, False
            return found
        raise StorageFailed(f"{layout.LISTS}/: lists are there, and cannot be read")

    def _found(self, names: Sequence[str]) -> Listed:
        damaged: dict[str, str] = {}
        found, marks, kept = NONE, list[bytes](), dict[str, tuple[PointList, bytes]]()
        for name in sorted(names, key=lambda name: (-layout.parse_numbered(name), name)):
            number = layout.parse_numbered(name)
            if not number or number < found.number - 1:
                break
            try:
                kept[name] = self.read(name, number)
            except (FormatDamaged, UnsupportedFormat, ObjectUnreadable) as error:
                if number >= found.number:
                    damaged[name] = str(error)
                continue
            one, mark = kept[name]
            if mark not in found.earlier:
                found = _together(self._keys, found, one) if found.number else one
                marks.append(mark)
        self._read = kept
        return Listed(found, tuple(marks), damaged)

    def read(self, name: str, number: int) -> tuple[PointList, bytes]:
        """The list called *name*, and its mark.

        Raises ObjectMissing, ObjectUnreadable, FormatDamaged, UnsupportedFormat, StorageFailed.
        """
        if name not in self._read:
            where = f"{layout.LISTS}/{name}"
            data = whole(self._storage, where, LIST_LIMIT)
            return decode_list(data, where, number, self._keys), self._mark_of_list(data, where)
        return self._read[name]

    def put_new(self, name: str, made: PointList, data: bytes) -> None:
        """Put the list *made*, which is *data*.  Raises StorageFull, StorageFailed."""
        self._storage.put_new(name, data)
        self._read[name.rpartition("/")[2]] = made, self._mark_of_list(data, name)

    def _mark_of_list(self, data: bytes, where: str) -> bytes:
        """Of its first frame, which no other list has; what it ends with is not authentic."""
        return mark_of(self._keys, signed_part(data, where))

    def mark(self, text: str) -> bytes:
        """What stands for *text* in lists."""
        return mark_of(self._keys, text.encode("utf-8", "surrogateescape"))

    def is_gone(self, point_id: str) -> bool:
        """Whether a point was removed."""
        return self.newest.found.is_gone(point_id, self.mark(point_id))

    def require_kept(self, point_id: str) -> None:
        """Raise FormatDamaged if a point was removed.  Raises StorageFailed."""
        if self.is_gone(point_id):
            raise FormatDamaged(f"{layout.point(point_id)}: was removed, and was put there again")

    def turn(self, point_id: str, name: str) -> int:
        """How often *name* was taken from a point: the first turn of it that is not used up."""
        found = self.newest.found
        return found.turn(point_id, self.mark(name)) if point_id in found.withdrawn else 0

    def stored(self, folder: str) -> list[str]:
        """The names in *folder* as they are stored, whatever they say.  Raises StorageFailed."""
        return self._storage.list(folder)

    def drop(self, name: str) -> None:
        """Remove what is stored as *name*.  Raises StorageFailed."""
        self._storage.delete(name)

    def least_generation(self, name: str) -> int:
        """The generation that the file *name* of an archive has to have at least."""
        return self.accepted.least(name, self.newest.found.generations.get(name, 0))

    def require_generation(self, name: str, number: int) -> None:
        """Raise FormatDamaged if the file *name* of an archive had a later generation once."""
        least = self.least_generation(name)
        if number < least:
            raise FormatDamaged(
                f"{name}.{number}: there was generation {least} of it, so an older state was put "
                "back; `ibtfs key accept` takes it"
            )


def _together(keys: Keys, one: PointList, other: PointList) -> PointList:
    """What two lists say together; the number is that of the first.

    What one of them says was removed is not there, unless the other one says that it was put there
    again, in a later turn of the note that it is removed.
    """
    gone = _merged(one.gone, other.gone, Marks.__or__)
    for point_id in one.withdrawn.keys() | other.withdrawn.keys():
        if one.withdrawn.get(point_id) != other.withdrawn.get(point_id):
            note, mark = _marks_of(keys, point_id)
            turns = one.turn(point_id, note), other.turn(point_id, note)
            later = one if turns[0] > turns[1] else other
            if turns[0] != turns[1] and not later.is_gone(point_id, mark):
                gone = without(gone, point_id, mark)
    found = PointList(one.number, one.points & other.points, gone)
    points = {
        point_id
        for point_id in one.points ^ other.points
        if not found.is_gone(point_id, mark_of(keys, point_id.encode()))
    }
    return PointList(
        one.number, found.points | points, gone,
        tuple(dict.fromkeys((*other.earlier, *one.earlier))),
        _merged(one.withdrawn, other.withdrawn, lambda a, b: _merged(a, b, max)),
        _merged(one.generations, other.generations, max),
    )  # fmt: skip


def _marks_of(keys: Keys, point_id: str) -> tuple[bytes, bytes]:
    """The marks of the note that a point is removed, and of its id."""
    note = layout.forgotten(point_id)
    return mark_of(keys, note.encode()), mark_of(keys, point_id.encode())


def _merged(
    one: Mapping[Key, Value], other: Mapping[Key, Value], both: Callable[[Value, Value], Value]
) -> dict[Key, Value]:
    """The values of two maps; *both* makes one of two."""
    found = {**one, **other}
    for key in one.keys() & other.keys():
        found[key] = both(one[key], other[key])
    return found
