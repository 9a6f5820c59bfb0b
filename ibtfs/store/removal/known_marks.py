"""The marks of an earlier marking, in one file of the local cache.

What a point leads to never changes, nor do the numbers of what that is made of, whatever is written
anew.  So where all points of an earlier marking are still there, only what later ones lead to has
to be read; if one of them is gone, all is marked anew.
"""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Collection
from typing import Any

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.index import Reference
from ibtfs.format.packing import pack, unpack_tuple
from ibtfs.store.cache_file import discard, read_body, write_body
from ibtfs.store.removal.marking import NEVER, Marking
from ibtfs.store.repository import Repository

VERSION = 1
_TO_MARKS = bytes([0xFF, 0x00]) + bytes(254)
"""What 0 (never come to) and 1 (marked) of the file are as a signed byte: -1, and the mark 0."""
_Roots = frozenset[tuple[str, int]]


def discard_marks(folder: bytes, repository: bytes) -> None:
    """Remove the marks of a repository from a cache folder.  Raises OSError."""
    discard(_path(folder, repository))


def mark_on(repository: Repository, roots: Collection[Reference], folder: bytes) -> Marking:
    """The marks of all that directory states lead to: 0; from what *folder* has on, and kept there.

    *folder* is the one of the local cache; empty: nothing is known before, and nothing is kept.
    Raises as :class:`~ibtfs.store.removal.marking.Marking`.
    """
    if not folder:
        return _marked(Marking(repository), roots)
    path = _path(folder, repository.id)
    wanted: _Roots = frozenset((root.archive, root.number) for root in roots)
    marking = Marking(repository)
    known = _load(path, repository.id)
    if known is None or not known[0] <= wanted or not _resume(marking, known[1]):
        marking, known = Marking(repository), None
    done = known[0] if known else frozenset()
    _marked(marking, [root for root in roots if (root.archive, root.number) not in done])
    if done != wanted and not marking.damages:
        _keep(path, repository.id, wanted, marking)
    return marking


def _marked(marking: Marking, roots: Collection[Reference]) -> Marking:
    if roots:
        marking.mark((root, 0) for root in roots)
    return marking


def _path(folder: bytes, repository: bytes) -> str:
    return f"{os.fsdecode(folder)}/{repository.hex()}.marks"


def _resume(marking: Marking, known: list[tuple[str, bytes, bytes]]) -> bool:
    """Set marks as they were, each archive's packed; whether all of them have their place."""
    try:
        for archive_id, states, contents in known:
            marks = marking.archive(archive_id)
            for marked, packed in ((marks.states, states), (marks.contents, contents)):
                data = zlib.decompressobj().decompress(packed, len(marked) + 1)
                if len(data) > len(marked):
                    return False
                marked[: len(data)] = array("i", array("b", data.translate(_TO_MARKS)))
    except (IntegrityError, TypeError, zlib.error):
        return False
    return True


def _load(path: str, repository: bytes) -> tuple[_Roots, list[tuple[str, bytes, bytes]]] | None:
    """The roots, and the marks of each archive; None if there are none that can be read."""
    body = read_body(path)
    if body is None:
        return None
    try:
        version, of, roots, archives = unpack_tuple(body, path, 4, containers=len(body))
        if (version, of) != (VERSION, repository):
            return None
        return frozenset(roots), [(name, states, contents) for name, states, contents in archives]
    except (FormatDamaged, TypeError, ValueError):
        return None


def _keep(path: str, repository: bytes, roots: _Roots, marking: Marking) -> None:
    archives = [
        (name, _packed(marks.states), _packed(marks.contents))
        for name, marks in marking.archives.items()
        if marks.is_used  # others may be gone tomorrow
    ]
    write_body(path, pack((VERSION, repository, sorted(roots), archives)))


def _packed(marked: Any) -> bytes:
    return zlib.compress(bytes(map(NEVER.__ne__, marked)), 1)
