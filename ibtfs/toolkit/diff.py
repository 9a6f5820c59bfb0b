"""What changed between two states of a directory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from ibtfs.errors import FormatDamaged, SourceError
from ibtfs.format.entry import CTIME, GID, MODE, MTIME, SIZE, UID, Stamp
from ibtfs.toolkit.index import DirIndex, Row, seal, unseal


class DiffIndex:
    """The changes that turn the state *old* into the state *new*: paths, in tuples, sorted.

    *created*, *deleted* and *updated* are whatever is no directory; updated ones have other bytes
    (or another target, or are of another kind).  *moved* gives the old path of each file that was
    created with the bytes of one that was deleted; these are in neither of the two.
    *created_dirs* come parents first, *deleted_dirs* last.  *touched* is what has other metadata
    only, such as each directory whose time tells that something came or went in it.

    Files whose stamps tell nothing are compared by their digests, which the two indexes read if
    they can still; where one cannot be had, a file counts as updated and not as moved.
    """

    created: tuple[bytes, ...]
    updated: tuple[bytes, ...]
    deleted: tuple[bytes, ...]
    created_dirs: tuple[bytes, ...]
    deleted_dirs: tuple[bytes, ...]
    touched: tuple[bytes, ...]
    moved: dict[bytes, bytes]

    def __init__(self, new: DirIndex, old: DirIndex) -> None:
        self.new, self.old = new, old
        came, gone = _lacking(old, new), _lacking(new, old)
        updated, touched = [], []
        for path, row in new.rows.items():
            if path in came.dirs or path in came.others:
                continue
            if not same_contents(new, old, path):
                updated.append(path)
            elif _dress(row) != _dress(old.rows[path]):
                touched.append(path)
        self.moved = _moves(new, old, came.others, gone.others)
        moved_from = set(self.moved.values())
        self.created = tuple(path for path in came.others if path not in self.moved)
        self.deleted = tuple(path for path in gone.others if path not in moved_from)
        self.created_dirs, self.deleted_dirs = tuple(came.dirs), tuple(reversed(gone.dirs))
        self.updated, self.touched = tuple(updated), tuple(touched)

    @property
    def paths(self) -> list[bytes]:
        """All paths that have a part in a change, sorted."""
        return sorted({
            *self.created, *self.updated, *self.deleted, *self.created_dirs, *self.deleted_dirs,
            *self.touched, *self.moved, *self.moved.values(),
        })  # fmt: skip

    @property
    def folders(self) -> list[bytes]:
        """The directories of the new state in which something changes, sorted."""
        rows = self.new.rows
        parents = {os.path.dirname(path) for path in self.paths if path}
        return sorted(path for path in parents if path in rows and rows[path].is_dir)

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed."""
        return not self.paths

    def to_bytes(self) -> bytes:
        """The changes to be stored: the rows of both states that have a part in them.

        Reads the digests that are not known yet.
        """
        needed = {*self.paths, *self.folders}
        new, old = self.new.only(needed), self.old.only(needed)
        return seal("diff", {"new": new.data(), "old": old.data()})

    @classmethod
    def from_bytes(cls, data: bytes) -> DiffIndex:
        """The changes that to_bytes stored; no file is read, now or later.

        Raises FormatDamaged, UnsupportedFormat.
        """
        values = unseal("diff", data)
        if not all(type(values.get(key)) is dict for key in ("new", "old")):
            raise FormatDamaged("Diff index: not a diff")
        new, old = (DirIndex.from_data(values[key], may_read=False) for key in ("new", "old"))
        return cls(new, old)


class _Paths(NamedTuple):
    """Paths of directories, and of whatever is none, in order."""

    dirs: dict[bytes, None]
    others: dict[bytes, None]


def _lacking(index: DirIndex, other: DirIndex) -> _Paths:
    """What only *other* has, or has as a directory, or has as no directory."""
    found = _Paths({}, {})
    for path, row in other.rows.items():
        there = index.rows.get(path)
        if there is None or there.is_dir != row.is_dir:
            (found.dirs if row.is_dir else found.others)[path] = None
    return found


class _Dress(NamedTuple):
    """The metadata that a diff tells and restores."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int


def _dress(row: Row) -> _Dress:
    stamp = row.stamp
    return _Dress(stamp[MODE], stamp[UID], stamp[GID], stamp[MTIME])


def same_contents(new: DirIndex, old: DirIndex, path: bytes) -> bool:
    """Whether the entry at *path*, which both have, leads to the same in both."""
    one, other = new.rows[path], old.rows[path]
    if one.kind != other.kind or (one.is_file and one.stamp[SIZE] != other.stamp[SIZE]):
        return False
    if not one.is_file or (one.digest is not None and other.digest is not None):
        return one.leads_to == other.leads_to
    if _proves(one.stamp, other.stamp):
        return True
    mine = digest_if_known(new, path)
    return mine is not None and mine == digest_if_known(old, path)


def _proves(one: Stamp, other: Stamp) -> bool:
    """Whether the stamps alone say that the file is the same."""
    return one == other and one[CTIME] != 0


def digest_if_known(index: DirIndex, path: bytes) -> bytes | None:
    """The digest of a file if it is known or can still be read."""
    try:
        return index.digest(path)
    except SourceError:
        return None


def _moves(
    new: DirIndex, old: DirIndex, came: Iterable[bytes], gone: Iterable[bytes]
) -> dict[bytes, bytes]:
    """Old paths by new path of files that moved; of several with the same bytes each is used once,
    and those with the same base name find each other first.

    A path that is something in both states has no part in this: it may be in the way.
    """
    targets = [path for path in came if _is_movable(new, path) and path not in old.rows]
    sources = [path for path in gone if _is_movable(old, path) and path not in new.rows]
    sizes = {new.rows[path].stamp[SIZE] for path in targets}
    sources = [path for path in sources if old.rows[path].stamp[SIZE] in sizes]
    sizes = {old.rows[path].stamp[SIZE] for path in sources}
    targets = [path for path in targets if new.rows[path].stamp[SIZE] in sizes]
    found = _paired(_by_digest(new, targets), _by_digest(old, sources), named=True)
    used = set(found.values())
    targets = [path for path in targets if path not in found]
    sources = [path for path in sources if path not in used]
    found.update(_paired(_by_digest(new, targets), _by_digest(old, sources), named=False))
    return dict(sorted(found.items()))


def _is_movable(index: DirIndex, path: bytes) -> bool:
    row = index.rows[path]
    return row.is_file and row.stamp[SIZE] > 0


def _by_digest(index: DirIndex, paths: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Digests and paths of those whose digest can be had."""
    found = ((digest_if_known(index, path), path) for path in paths)
    return [(digest, path) for digest, path in found if digest is not None]


def _paired(
    targets: list[tuple[bytes, bytes]], sources: list[tuple[bytes, bytes]], *, named: bool
) -> dict[bytes, bytes]:
    """Targets with a source of the same digest; with *named*, of the same base name as well."""
    free: dict[tuple[bytes, bytes], list[bytes]] = {}
    for digest, path in reversed(sources):
        free.setdefault((digest, os.path.basename(path) if named else b""), []).append(path)
    found = {}
    for digest, path in targets:
        waiting = free.get((digest, os.path.basename(path) if named else b""))
        if waiting:
            found[path] = waiting.pop()
    return found
