"""Notes of damage: contents that a check found damaged; the next backup stores them anew."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable

from ibtfs.errors import FormatDamaged, IntegrityError, ObjectMissing
from ibtfs.format.index import Reference, is_archive_id
from ibtfs.store import layout
from ibtfs.store.archives.generations import recent_names
from ibtfs.store.storage.base import Storage, whole

log = logging.getLogger(__name__)

NOTE_LIMIT = 8 << 20
NOTE_NAME = re.compile(r"[0-9A-Za-z_-]{1,100}\Z")
"""What has another name is no note, and might do something to a terminal that it is shown on."""
NOTE_CONTENTS = 50_000
"""A note lists at most so many contents."""


class DamageNotes:
    """The notes of one repository; threads may share it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

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
                    found.update(_decode_note(whole(self._storage, where, NOTE_LIMIT), where))
                except ObjectMissing:
                    continue
                except IntegrityError as error:
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
                noted = _decode_note(whole(self._storage, where, NOTE_LIMIT), where)
            except IntegrityError as error:
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
            text = json.dumps({"contents": rows}) + "\n"
            self._storage.put_new(layout.damage_note(f"{note_id}-{part}"), text.encode())


def _decode_note(text: bytes, where: str) -> list[Reference]:
    try:
        rows = json.loads(text)["contents"].items()
        noted = [Reference(archive, number) for archive, numbers in rows for number in numbers]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatDamaged(f"{where}: not readable ({error!r})") from error
    if not all(is_archive_id(ref.archive) and type(ref.number) is int for ref in noted):
        raise FormatDamaged(f"{where}: does not name contents")
    return noted
