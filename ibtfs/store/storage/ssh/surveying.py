"""What lies in many folders, told by one reply, or by a few: how it is found out, sent and read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ibtfs.errors import FormatDamaged, ObjectMissing, StorageFailed
from ibtfs.format.packing import pack, unpack
from ibtfs.store.storage.base import ObjectToken
from ibtfs.store.storage.durable import failed
from ibtfs.store.storage.far import BELOW, Names
from ibtfs.store.storage.pipe import Malformed
from ibtfs.store.storage.ssh import guard, wire
from ibtfs.store.storage.upload import Folders

SEPARATOR = "\0"
ROW_BYTES = 40
"""What a reply takes for a name, besides the name."""
CONTAINERS = 2 * wire.DATA_LIMIT
_NO_TOKEN = (-1, 0, 0, 0)


class After(NamedTuple):
    """Where the next reply begins: behind *name* in *folder*, which *asked*, by number, led to."""

    asked: int = 0
    folder: str = ""
    name: str = ""


def surveyed(
    storage: Folders, folders: Sequence[str], after: After
) -> tuple[bool, list[tuple[int, str, list[str], list[int]]]]:
    """Whether that is the last, and rows: the number that led to a folder, its name, what it has.

    Raises StorageFailed.
    """
    rows: list[tuple[int, str, list[str], list[int]]] = []
    size = 0
    for number, asked in enumerate(folders):
        if number < after.asked:
            continue
        for folder in _led_to(storage, asked):
            if number == after.asked and folder < after.folder:
                continue
            is_same = (number, folder) == after[:2]
            names: list[str] = []
            numbers: list[int] = []
            rows.append((number, folder, names, numbers))
            for name, token in _tokens(storage, folder, after.name if is_same else ""):
                names.append(name)
                numbers += token
                size += len(name) + ROW_BYTES
                if size > wire.PAGE_BYTES:
                    return False, rows
            size += len(folder) + ROW_BYTES
    return True, rows


def _led_to(storage: Folders, asked: str) -> Iterator[str]:
    if not asked.endswith(BELOW):
        yield asked
        return
    top = asked.removesuffix(BELOW)
    for name, token in _tokens(storage, top, ""):
        if token is _NO_TOKEN:
            yield f"{top}/{name}"


def _tokens(storage: Folders, folder: str, after: str) -> Iterator[tuple[str, ObjectToken]]:
    """The names in *folder* behind *after*, sorted, with what tells each from others."""
    try:
        descriptor = storage.opened_folder(folder, make=False)
    except ObjectMissing:
        return
    try:
        for name in sorted(os.listdir(descriptor)):
            if name <= after:
                continue
            try:
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                yield name, (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
            else:
                yield name, _NO_TOKEN
    except OSError as error:
        raise failed(error, folder) from error
    finally:
        os.close(descriptor)


def answered(
    storage: Folders, asked: str, number: int, folder: str, name: str
) -> tuple[tuple[bool], bytes]:
    """What a server answers: whether that is all, and rows as they are sent.  Raises StorageFailed.

    *asked* are folders behind one another, the others say where it goes on.
    """
    folders = asked.split(SEPARATOR)
    for one in (*(wanted.removesuffix(BELOW) for wanted in folders), folder):
        if one and not guard.is_name(one):
            raise StorageFailed(f"{one[:200]!r} cannot be the name of a folder")
    is_last, rows = surveyed(storage, folders, After(number, folder, name))
    return (is_last,), pack(rows)


def take(data: bytes, folders: Sequence[str], found: dict[str, Names]) -> After:
    """Take what a reply tells of *folders* into *found*; where it ends.  Raises Malformed."""
    try:
        rows = unpack(data, "a survey", containers=CONTAINERS)
    except FormatDamaged as error:
        raise Malformed(str(error)) from error
    last = After()
    if type(rows) is not tuple:
        raise Malformed("a survey of no rows")
    for row in rows:
        asked, folder, names, tokens = _checked(row, folders)
        had = found.get(folder, {})
        found[folder] = {**had, **dict(zip(names, tokens))}
        last = After(asked, folder, names[-1] if names else "")
    return last


def _checked(
    row: Any, folders: Sequence[str]
) -> tuple[int, str, Sequence[str], list[ObjectToken | None]]:
    if type(row) is not tuple or tuple(map(type, row)) != (int, str, tuple, tuple):
        raise Malformed("a survey of other rows")
    asked, folder, names, numbers = row
    if not 0 <= asked < len(folders) or not _leads_to(folders[asked], folder):
        raise Malformed("a survey of other folders")
    texts = all(type(name) is str for name in names)
    if not texts or any("/" in n or "\0" in n or n in {"", ".", ".."} for n in names):
        raise Malformed("names that no folder has")
    wrong = any(type(one) is not int or not -(1 << 63) <= one < 1 << 64 for one in numbers)
    if wrong or len(numbers) != 4 * len(names):
        raise Malformed("a survey without tokens")
    four = zip(*[iter(numbers)] * 4)
    return asked, folder, names, [None if token[0] < 0 else token for token in four]


def _leads_to(asked: str, folder: str) -> bool:
    top, _, name = folder.rpartition("/")
    return folder == asked or (asked == top + BELOW and name not in {"", ".", ".."})
