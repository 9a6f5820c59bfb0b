"""Which generation of an archive's file is read: the newest that is what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ibtfs.errors import FormatDamaged, IntegrityError, ObjectMissing, UnsupportedFormat
from ibtfs.format.keys import Keys
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.generations import doubt, drops, known_present, present
from ibtfs.store.archives.own_limits import require_few
from ibtfs.store.storage.base import Storage

TRIED = 256
"""So many generations are looked at: what somebody puts there without end is not."""


class Newest(NamedTuple):
    """An *opened* file, and the highest *number* that a generation of it has."""

    opened: FrameFileReader
    number: int


def open_newest(storage: Storage, keys: Keys, archive_id: str, kind: str) -> Newest:
    """The newest generation of a file of an archive.

    Of what is sealed, the newest that is authentic: somebody who can put objects, and has no key,
    could hide it behind another.  Raises ObjectMissing; FormatDamaged,
    UnsupportedFormat of the newest.
    """
    numbers = known_present(storage, archive_id).get(kind, [])
    try:
        return _open_newest(storage, keys, archive_id, kind, numbers)
    except ObjectMissing:  # the next one may have come in its place since they were listed
        numbers = present(storage, archive_id).get(kind, [])
        return _open_newest(storage, keys, archive_id, kind, numbers)


def _open_newest(
    storage: Storage, keys: Keys, archive_id: str, kind: str, numbers: Sequence[int]
) -> Newest:
    refused: FormatDamaged | UnsupportedFormat | None = None
    for number in numbers[:TRIED]:
        try:
            opened = _opened_again(storage, keys, archive_id, kind, number)
        except (FormatDamaged, UnsupportedFormat) as error:
            refused = refused or error
            continue
        if refused is not None and not opened.frames.envelope:
            opened.close()
            break
        return Newest(opened, numbers[0])
    if refused is not None:
        raise refused
    raise ObjectMissing(
        f"{layout.archive_object(archive_id, kind)}: no such file in the repository"
    )


def counting(storage: Storage, keys: Keys, archive_id: str) -> dict[str, int]:
    """The generation of each file of an archive that counts, as :func:`open_newest` finds it.

    0 where there are several of which none is what it should be.
    """
    found = present(storage, archive_id)
    newest = {kind: numbers[0] for kind, numbers in found.items()}
    if not keys.is_sealed:
        return newest  # what is there counts
    for kind, numbers in found.items():
        if len(numbers) > 1:
            try:
                opened = open_newest(storage, keys, archive_id, kind).opened
            except IntegrityError:
                newest[kind] = 0
                continue
            newest[kind] = opened.generation
            opened.close()
    return newest


def _opened_again(
    storage: Storage, keys: Keys, archive_id: str, kind: str, number: int
) -> FrameFileReader:
    """A generation, read anew if a copy that was kept of it here may be what is damaged."""
    before = drops(storage, archive_id)
    try:
        return _opened(storage, keys, archive_id, kind, number)
    except (FormatDamaged, UnsupportedFormat):
        if not doubt(storage, archive_id, before):
            raise
        return _opened(storage, keys, archive_id, kind, number)


def _opened(
    storage: Storage, keys: Keys, archive_id: str, kind: str, number: int
) -> FrameFileReader:
    stored = storage.open(layout.archive_file(archive_id, kind, number))
    try:
        opened = FrameFileReader(keys, layout.archive_object(archive_id, kind), stored)
        require_few(opened)
        return opened
    except BaseException:
        stored.close()
        raise
