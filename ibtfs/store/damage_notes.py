"""Notes of damage: contents that a check found damaged; the next backup stores them anew."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable

from ibtfs.errors import FormatDamaged, IntegrityError, ObjectMissing, UnsupportedFormat
from ibtfs.format.compression import Codec
from ibtfs.format.frames import NOTE
from ibtfs.format.index import Reference, is_archive_id
from ibtfs.format.keys import Keys
from ibtfs.format.objects import decode_object, encode_object
from ibtfs.format.packing import expect_ints, pack, unpack_map
from ibtfs.store import layout
from ibtfs.store.archives.generations import recent_names
from ibtfs.store.storage.base import Storage, whole

log = logging.getLogger(__name__)

NOTE_LIMIT = 8 << 20
NOTE_NAME = re.compile(r"[0-9A-Za-z_-]{1,100}\Z")
"""What has another name is no note, and might do something to a terminal that it is shown on."""
NOTE_CONTENTS = 50_000
"""A note lists at most so many contents."""
_UNREADABLE = (IntegrityError, UnsupportedFormat)


class DamageNotes:
    """The notes of one repository; threads may share it."""

    def __init__(self, storage: Storage, keys: Keys, codec: Codec) -> None:
        self._storage, self._keys, self._codec = storage, keys, codec

    def contents(self, *, recent: bool = False) -> frozenset[Reference]:
        """The contents that were noted; a note that cannot be read is told to the log.

        With *recent*, of notes far away, as they were some seconds ago.
        """
        found: set[Reference] = set()
        seen: set[str] = set()
        names = recent_names(self._storage, layout.DAMAGED) if recent else self._names()
        # a note may be replaced by a shorter one, which is there before the other goes
        while new := set(filter(NOTE_NAME.match, names)) - seen:
            seen |= new
            for name in sorted(new):
                where = layout.damage_note(name)
                try:
                    found.update(self._read(where))
                except ObjectMissing:
                    continue
                except _UNREADABLE as error:
                    log.warning("A note of damage cannot be read: %s", error)
            names = self._names()
        return frozenset(found)

    def _names(self) -> list[str]:
        return self._storage.list(layout.DAMAGED)

    def trim(self, note_id: str, is_there: Callable[[Reference], bool]) -> None:
        """Note no more what is not there; *note_id* is random.  Raises StorageFailed."""
        names = list(filter(NOTE_NAME.match, self._names()))
        for number, name in enumerate(names):
            where = layout.damage_note(name)
            try:
                noted = self._read(where)
            except _UNREADABLE as error:
                log.warning("A note of damage cannot be read: %s", error)
                continue
            left = [ref for ref in noted if is_there(ref)]
            if len(left) < len(noted):
                if left:
                    self.add(f"{note_id}-{number}", left)
                self._storage.delete(where)

    def add(self, note_id: str, contents: Iterable[Reference]) -> None:
        """Note that *contents* are damaged; *note_id* is random.  Raises StorageFailed."""
        ordered = sorted(contents)
        for part, first in enumerate(range(0, len(ordered), NOTE_CONTENTS)):
            rows: dict[str, list[int]] = {}
            for archive, number in ordered[first : first + NOTE_CONTENTS]:
                rows.setdefault(archive, []).append(number)
            name = layout.damage_note(f"{note_id}-{part}")
            data = encode_object(self._keys, name, NOTE, pack({"contents": rows}), self._codec)
            self._storage.put_new(name, data)

    def _read(self, name: str) -> list[Reference]:
        data = whole(self._storage, name, NOTE_LIMIT)
        rows = unpack_map(decode_object(self._keys, name, NOTE, data, name), name).get("contents")
        if type(rows) is not dict or not all(map(is_archive_id, rows)):
            raise FormatDamaged(f"{name}: does not name contents")
        return [
            Reference(archive, number)
            for archive, numbers in rows.items()
            for number in expect_ints(numbers, name)
        ]
