"""The bytes that go with a DiffIndex: deltas of updated files, contents of created ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Protocol

from ibtfs.errors import EntryNotFound
from ibtfs.format.rdelta import LITERAL, Data, Match, delta_pieces
from ibtfs.format.rsync import Signature
from ibtfs.toolkit.bundle import BundleReader, BundleWriter
from ibtfs.toolkit.diff import DiffIndex, digest_if_known
from ibtfs.toolkit.dirs import AnyPath
from ibtfs.toolkit.vault import Signatures

KIND = "toolkit/diff data"
BUFFER = 16 << 20
"""So many bytes of a new file are matched at once; a match does not reach across."""


class DiffBytes(Protocol):
    """Gives the bytes of a diff: a DiffData, a StoredDiffData, or something of one's own."""

    def pieces(self, path: bytes) -> Iterable[Data]:
        """The contents of a created file, the delta of an updated one.

        Raises EntryNotFound for all others.
        """


class DiffData:
    """The bytes of *diff_index*, read from the new tree as they are asked for; one thread.

    *sigs* gives the signatures of the old files.  A delta is what ``rdiff delta`` writes, and
    ``rdiff patch`` makes the new file of the old one with it; without a signature of just the
    old bytes it is the whole new file as one literal, which patches anything.
    """

    def __init__(self, diff_index: DiffIndex, sigs: Signatures | None = None) -> None:
        self._diff, self._sigs = diff_index, sigs
        rows = diff_index.new.rows
        self.created = tuple(path for path in diff_index.created if rows[path].is_file)
        self.updated = tuple(path for path in diff_index.updated if rows[path].is_file)
        self._updated = frozenset(self.updated)
        self._known = self._updated.union(self.created)

    @staticmethod
    def open(file: AnyPath) -> StoredDiffData:
        """The data that save stored.  Raises NotFound, FormatDamaged."""
        return StoredDiffData(file)

    def save(self, file: AnyPath) -> int:
        """Store all of it in the new file *file*; the bytes that it takes.

        The file is there only when it is whole.  Raises UsageError if it exists, SourceError if a
        file cannot be read or changed since it was indexed, StorageFull, LibraryMissing.
        """
        bundle = BundleWriter(file, KIND)
        try:
            for path in (*self.created, *self.updated):
                bundle.add(path, self.pieces(path))
        except BaseException:
            bundle.abort()
            raise
        return bundle.finish()

    def pieces(self, path: bytes) -> Iterator[Data]:
        """As DiffBytes says.  Raises SourceError, LibraryMissing, FormatDamaged of a signature."""
        if path not in self._known:
            raise EntryNotFound(f"The diff has no bytes of {os.fsdecode(path)!r}")
        return self._delta(path) if path in self._updated else self._diff.new.pieces(path)

    def delta(self, path: bytes) -> bytes:
        """The delta of an updated file, in memory.  Raises EntryNotFound, and as pieces does."""
        if path not in self._updated:
            raise EntryNotFound(f"The diff has no delta of {os.fsdecode(path)!r}")
        return b"".join(self._delta(path))

    def _delta(self, path: bytes) -> Iterator[Data]:
        current = _Buffers(self._diff.new.pieces(path))
        signature = self._signature(path)
        if signature is None:
            yield from delta_pieces(current.literals(), current.read)
            return
        with Signature(signature) as loaded:
            yield from delta_pieces(current.matches(loaded), current.read)

    def _signature(self, path: bytes) -> bytes | None:
        """The signature of the old bytes; None if there is none."""
        if self._sigs is None or not self._diff.old.rows[path].is_file:
            return None
        try:
            return self._sigs.signature(path, digest_if_known(self._diff.old, path))
        except EntryNotFound:
            return None


class StoredDiffData:
    """What DiffData.save stored; threads may share it.  A context manager.

    Raises NotFound, FormatDamaged.
    """

    def __init__(self, file: AnyPath) -> None:
        self._bundle = BundleReader(file, KIND)

    @property
    def paths(self) -> list[bytes]:
        """The paths that it has bytes of: created files first."""
        return list(self._bundle.slots)

    def pieces(self, path: bytes) -> Iterator[Data]:
        """As DiffBytes says; raises FormatDamaged as well."""
        return self._bundle.pieces(path)

    def close(self) -> None:
        """Close the file."""
        self._bundle.close()

    def __enter__(self) -> StoredDiffData:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Buffers:
    """A file that is matched buffer by buffer; literals are taken from the buffer at hand.

    So a file is read once, and what goes into the delta is what was matched.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._start = 0
        self._data = b""

    def _next(self) -> bool:
        """Take the next buffer; whether there is one."""
        self._start += len(self._data)
        parts, size = [], 0
        for piece in self._pieces:
            parts.append(piece)
            size += len(piece)
            if size >= BUFFER:
                break
        self._data = b"".join(parts)
        return bool(self._data)

    def read(self, offset: int, size: int) -> memoryview:
        """Bytes of the buffer at hand, by their place in the file."""
        return memoryview(self._data)[offset - self._start : offset - self._start + size]

    def matches(self, signature: Signature) -> Iterator[Match]:
        """The whole file as matches with the base."""
        while self._next():
            for source, target, size in signature.matches(self._data):
                yield source, self._start + target, size

    def literals(self) -> Iterator[Match]:
        """The whole file as literals."""
        while self._next():
            yield LITERAL, self._start, len(self._data)
