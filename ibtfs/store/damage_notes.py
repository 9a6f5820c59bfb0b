"""Notes of damage: contents that a check found damaged; the next backup stores them anew."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ibtfs.errors import FormatDamaged, IntegrityError, ObjectMissing, UnsupportedFormat
from ibtfs.format.compression import Codec
from ibtfs.format.frames import NOTE
from ibtfs.format.index import Reference, is_archive_id
from ibtfs.format.keys import Keys
from ibtfs.format.objects import decode_object, encode_object
from ibtfs.format.packing import expect_ints, pack, unpack_map
from ibtfs.store import layout
from ibtfs.store.archives.generations import distrust, recent_names
from ibtfs.store.storage.base import Storage, whole

log = logging.getLogger(__name__)

NOTE_LIMIT = 8 << 20
NOTE_NAME = re.compile(r"[0-9A-Za-z_-]{1,100}\Z")
"""What has another name is no note, and might do something to a terminal that it is shown on."""
NOTE_CONTENTS = 50_000
"""A note lists at most so many contents."""
_UNREADABLE = (IntegrityError, UnsupportedFormat)


class Noted(NamedTuple):
    """What is noted as damaged: *contents*, and archives of whose *indexes* something is."""

    contents: frozenset[Reference] = frozenset()
    indexes: frozenset[str] = frozenset()

    @property
    def archives(self) -> frozenset[str]:
        """All archives that are named."""
        return self.indexes.union(ref.archive for ref in self.contents)


class DamageNotes:
    """The notes of one repository; threads may share it.

    Of an archive that is named by one that is read, no copy of its index is used from then on.
    """

    def __init__(self, storage: Storage, keys: Keys, codec: Codec) -> None:
        self._storage, self._keys, self._codec = storage, keys, codec

    def contents(self, *, recent: bool = False) -> frozenset[Reference]:
        """The contents that were noted; as :meth:`all`."""
        return self.all(recent=recent).contents

    def all(self, *, recent: bool = False) -> Noted:
        """What was noted; a note that cannot be read is told to the log.

        With *recent*, of notes far away, as they were some seconds ago.
        """
        contents, indexes = set[Reference](), set[str]()
        seen: set[str] = set()
        names = recent_names(self._storage, layout.DAMAGED) if recent else self._names()
        # a note may be replaced by a shorter one, which is there before the other goes
        while new := set(filter(NOTE_NAME.match, names)) - seen:
            seen |= new
            for name in sorted(new):
                where = layout.damage_note(name)
                try:
                    noted = self._read(where)
                except ObjectMissing:
                    continue
                except _UNREADABLE as error:
                    log.warning("A note of damage cannot be read: %s", error)
                else:
                    contents |= noted.contents
                    indexes |= noted.indexes
            names = self._names()
        found = Noted(frozenset(contents), frozenset(indexes))
        distrust(self._storage, found.archives)
        return found

    def _names(self) -> list[str]:
        return self._storage.list(layout.DAMAGED)

    def trim(
        self,
        note_id: str,
        is_there: Callable[[Reference], bool],
        has_index: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Note no more what is not there; *note_id* is random.

        *has_index* tells whether the index of an archive is there.  Raises StorageFailed.
        """
        names = list(filter(NOTE_NAME.match, self._names()))
        for number, name in enumerate(names):
            where = layout.damage_note(name)
            try:
                noted = self._read(where)
            except _UNREADABLE as error:
                log.warning("A note of damage cannot be read: %s", error)
                continue
            left = Noted(
                frozenset(filter(is_there, sorted(noted.contents))),
                frozenset(filter(has_index, sorted(noted.indexes))),
            )
            if left != noted or not any(noted):
                self.add(f"{note_id}-{number}", left.contents, left.indexes)
                self._storage.delete(where)

    def add(self, note_id: str, contents: Iterable[Reference], indexes: Iterable[str] = ()) -> None:
        """Note that *contents* are damaged, and something of the *indexes* of archives.

        *note_id* is random.  Raises StorageFailed.
        """
        ordered, archives = sorted(contents), sorted(indexes)
        for part, first in enumerate(range(0, max(len(ordered), len(archives)), NOTE_CONTENTS)):
            rows: dict[str, list[int]] = {}
            for archive, number in ordered[first : first + NOTE_CONTENTS]:
                rows.setdefault(archive, []).append(number)
            note: dict[str, object] = {"contents": rows}
            if archives[first : first + NOTE_CONTENTS]:
                note["indexes"] = archives[first : first + NOTE_CONTENTS]
            name = layout.damage_note(f"{note_id}-{part}")
            data = encode_object(self._keys, name, NOTE, pack(note), self._codec)
            self._storage.put_new(name, data)

    def _read(self, name: str) -> Noted:
        data = whole(self._storage, name, NOTE_LIMIT)
        note = unpack_map(decode_object(self._keys, name, NOTE, data, name), name)
        rows, indexes = note.get("contents"), note.get("indexes", ())
        if type(rows) is not dict or not all(map(is_archive_id, rows)):
            raise FormatDamaged(f"{name}: does not name contents")
        if type(indexes) is not tuple or not all(map(is_archive_id, indexes)):
            raise FormatDamaged(f"{name}: does not name archives")
        contents = (
            Reference(archive, number)
            for archive, numbers in rows.items()
            for number in expect_ints(numbers, name)
        )
        return Noted(frozenset(contents), frozenset(indexes))
