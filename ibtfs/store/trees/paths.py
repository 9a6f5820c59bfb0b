"""Looking into a backup point: entries by path, whole trees, contents."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from ibtfs.errors import EntryNotFound, FormatDamaged, IntegrityError, NotADirectory, NotAFile
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.contents.fold import name_of
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory, Entry, StateRef
from ibtfs.store.trees.reach import reach
from ibtfs.store.trees.totals import Allowance
from ibtfs.store.trees.trail import Trail

PIECE = 1 << 20


def root_entry(point: Point) -> Entry:
    """The row of the source itself."""
    state = StateRef(point.state, point.digest)
    return Entry(*point.root, None, state, b"", 0, point.root_extras, None)


def find_entry(repository: Repository, point: Point, path: bytes) -> Entry:
    """The entry at *path*, relative to the source; ``b""`` is the root.

    Raises EntryNotFound, NotADirectory, IntegrityError.
    """
    entry, trail = root_entry(point), Trail()
    trail.enter(0, point.state)
    for depth, name in enumerate(path.split(b"/") if path else (), 1):
        if entry.state is None:
            raise NotADirectory(f"{os.fsdecode(entry.name)!r} is not a directory")
        try:
            entry = Directory(repository, entry.state.ref).find(name)
        except EntryNotFound:
            raise EntryNotFound(f"No such path in the point: {os.fsdecode(path)!r}") from None
        if entry.state is not None:
            trail.enter(depth, entry.state.ref)
    return entry


def _raise(_: bytes, error: IntegrityError) -> None:
    raise error


def walk(
    repository: Repository, point: Point, path: bytes, *, recursive: bool,
    problem: Callable[[bytes, IntegrityError], None] = _raise,
) -> Iterator[tuple[bytes, Entry]]:  # fmt: skip
    """The entries below *path*, or the file at *path* itself, each with its whole path.

    Directories come before what they hold.  Of a directory that is damaged come the entries that
    can be read; *problem* is given its path, and what is missing.  Raises as find_entry does, and
    LimitExceeded where there are more entries than any tree can have.
    """
    top = find_entry(repository, point, path)
    if top.state is None:
        yield path, top
        return
    listings: list[Iterator[tuple[bytes, Entry]]] = []
    allowance = Allowance(repository, top.state)
    for visit in reach(repository, top.state, path, enter=lambda _: recursive):
        while len(listings) > visit.depth:
            yield from listings.pop()
        for below, entry in listings[-1] if listings else ():
            yield below, entry
            if below == visit.path:
                break
        rows = visit.readable()
        allowance.spend(len(rows))
        for error in visit.failures:
            problem(visit.path, error)
        listings.append(iter(rows))
    while listings:
        yield from listings.pop()


def content_pieces(repository: Repository, entry: Entry) -> Iterator[bytes]:
    """The contents of a regular file, piece by piece, its digest compared at the end.

    Raises NotAFile, IntegrityError.
    """
    if not stat.S_ISREG(entry.mode):
        raise NotAFile(f"{os.fsdecode(entry.name)!r} is not a regular file")
    if entry.content is None:
        return
    contents = Contents(repository)
    check_size(contents, entry)
    hasher = contents.digests.hasher()
    for offset in range(0, entry.size, PIECE):
        data = contents.read(entry.content, offset, min(PIECE, entry.size - offset))
        hasher.update(data)
        yield data
    check_digest(contents, entry, hasher.finish())


def check_size(contents: Contents, entry: Entry) -> None:
    """Raise FormatDamaged unless the entry's content is as long as the entry says."""
    if entry.content is not None and contents.record(entry.content).size != entry.size:
        raise not_as_long(entry.content)


def not_as_long(content: Reference) -> FormatDamaged:
    """What is wrong where a row says another size than its content has."""
    return FormatDamaged(f"{name_of(content)}: is not as long as the row that refers to it")


def check_digest(contents: Contents, entry: Entry, digest: bytes) -> None:
    """Raise FormatDamaged unless *digest* is that of the entry's content, and the size too."""
    if entry.content is None:
        return
    record = contents.record(entry.content)
    if record.digest != digest or record.size != entry.size:
        name = name_of(entry.content)
        raise FormatDamaged(f"{name}: the bytes do not have the digest of the content")


def located(error: IntegrityError, point: str, path: bytes) -> IntegrityError:
    """*error* with the point and path that it hit in its message."""
    return type(error)(f"{point}: {os.fsdecode(path)!r}: {error}")
