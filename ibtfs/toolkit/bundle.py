"""One write-once file that holds byte strings by path, in the frames of an archive.

The bytes lie one after the other in the stream ``large``; the stream ``contents`` lists path,
start, length and a tag of each, in the order in which they were added.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple

from ibtfs.errors import (
    EntryNotFound,
    FormatDamaged,
    NotFound,
    ObjectExists,
    ObjectMissing,
    UsageError,
)
from ibtfs.format.compression import Codec
from ibtfs.format.frames import CONTENTS, HEADER, LARGE
from ibtfs.format.keys import PlainKeys
from ibtfs.format.packing import pack, pack_bodies, unpack_bodies, unpack_tuple
from ibtfs.format.tables import StreamTable
from ibtfs.store.archives.file import FrameFileReader, FrameFileWriter
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.storage.base import StoredObject
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.upload import LocalUpload
from ibtfs.toolkit.dirs import AnyPath

FRAME = 1 << 20
ROWS_A_FRAME = 512
"""Paths are at most 4 KiB long, so this stays below the limit of a frame."""
_NO_REPOSITORY = bytes(16)


class Slot(NamedTuple):
    """Where one byte string lies, and what its writer noted with it."""

    path: bytes
    start: int
    length: int
    tag: bytes


class _OneFile(LocalStorage):
    """A storage of just one object, the file that it was made for, whatever name is asked for."""

    def __init__(self, file: bytes) -> None:
        super().__init__(os.path.dirname(file))
        self._only = os.fsdecode(os.path.basename(file))

    def put(self, name: str) -> LocalUpload:
        """Begin the file, which must be new."""
        return super().put(self._only)

    def open(self, name: str) -> StoredObject:
        """Open the file.  Raises ObjectMissing, ObjectUnreadable, StorageFailed."""
        stored = super().open(self._only)
        stored.name = name  # frame files have a generation in their names
        stored.shown = f"{self._only}: {name}"
        return stored


class BundleWriter:
    """Writes a bundle of *kind* at *file*; nothing is there before it is finished and whole.

    A context manager that finishes it, or leaves nothing after an exception.  Raises UsageError
    if something is there already.
    """

    def __init__(self, file: AnyPath, kind: str) -> None:
        self._file = os.path.abspath(os.fsencode(file))
        if os.path.lexists(self._file):
            raise self._exists()
        self._slots: dict[bytes, Slot] = {}
        self._waiting = bytearray()
        self._position = 0
        self._stack = ExitStack()
        pool = self._stack.enter_context(compression_pool())
        storage = _OneFile(self._file)
        self._frames = FrameFileWriter(storage, PlainKeys(_NO_REPOSITORY), kind, Codec(), pool)

    def _exists(self) -> UsageError:
        shown = os.fsdecode(self._file)
        return UsageError(f"{shown!r} exists, and is written once: name another file")

    def add(self, path: bytes, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Store *pieces* under *path*.  Raises UsageError if that is taken, StorageFull."""
        if path in self._slots:
            raise UsageError(f"{os.fsdecode(path)!r} was added before")
        start = self._position
        for piece in pieces:
            self._waiting += piece
            self._position += len(piece)
            while len(self._waiting) >= FRAME:
                self._flush()
        self._slots[path] = Slot(path, start, self._position - start, b"")

    def tag(self, path: bytes, tag: bytes) -> None:
        """Note *tag* with what was added under *path*."""
        self._slots[path] = self._slots[path]._replace(tag=tag)

    def _flush(self) -> None:
        """Make a frame of what waits, or of its beginning."""
        raw = bytes(self._waiting[:FRAME])
        start = self._position - len(self._waiting)
        del self._waiting[:FRAME]
        self._frames.add(LARGE, start, len(raw), raw)

    def finish(self) -> int:
        """Make the file durable, then visible; its size in bytes.  Raises UsageError."""
        with self._stack:
            if self._waiting:
                self._flush()
            slots = [pack(slot) for slot in self._slots.values()]
            for first in range(0, len(slots), ROWS_A_FRAME):
                rows: list[bytes | None] = [*slots[first : first + ROWS_A_FRAME]]
                self._frames.add(CONTENTS, first, len(rows), pack_bodies(rows))
            self._frames.add(HEADER, 0, 1, pack_bodies([pack({"entries": len(slots)})]))
            try:
                return self._frames.finish()
            except BaseException as error:
                self._frames.abort()
                if isinstance(error, ObjectExists):
                    raise self._exists() from error
                raise

    def abort(self) -> None:
        """Leave nothing behind."""
        with self._stack:
            self._frames.abort()

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.finish() if kind is None else self.abort()


class BundleReader:
    """A bundle of *kind* at *file*; threads may share it.  A context manager.

    Raises NotFound, FormatDamaged if it is damaged or of another kind.
    """

    def __init__(self, file: AnyPath, kind: str) -> None:
        path = os.path.abspath(os.fsencode(file))
        try:
            stored = _OneFile(path).open("frames.1")
        except ObjectMissing as error:
            raise NotFound(f"No such file: {os.fsdecode(path)!r}") from error
        try:
            self._frames = FrameFileReader(PlainKeys(_NO_REPOSITORY), kind, stored)
            self.slots = self._by_path()
        except BaseException:
            stored.close()
            raise

    def _load(self) -> Iterator[Slot]:
        table = self._frames.table(CONTENTS)
        where = f"{self._frames.name}: contents"
        for row, count in enumerate(table.counts):
            raw = self._frames.frame(CONTENTS, row).raw
            for body in unpack_bodies(raw, count, where):
                yield _checked_slot(body, where)

    def _by_path(self) -> dict[bytes, Slot]:
        """The slots; each byte that is stored is in one of them at most."""
        found: dict[bytes, Slot] = {}
        end = 0
        for slot in self._load():
            if slot.path in found or slot.start < end:
                raise FormatDamaged(f"{self._frames.name}: the same bytes or path twice")
            found[slot.path], end = slot, slot.start + slot.length
        if end > self._frames.table(LARGE).end:
            raise FormatDamaged(f"{self._frames.name}: lists more bytes than it holds")
        return found

    def pieces(self, path: bytes) -> Iterator[bytes | memoryview]:
        """What was stored under *path*.  Raises EntryNotFound, FormatDamaged."""
        slot = self.slots.get(path)
        if slot is None:
            raise EntryNotFound(f"{self._frames.name}: holds nothing of {os.fsdecode(path)!r}")
        return self._read(self._frames.table(LARGE), slot.start, slot.start + slot.length)

    def _read(self, table: StreamTable, start: int, end: int) -> Iterator[bytes | memoryview]:
        while start < end:
            row = table.find(start)
            if row < 0:
                raise FormatDamaged(f"{self._frames.name}: the bytes from {start} are not there")
            first, frame = table.starts[row], self._frames.frame(LARGE, row)
            if frame.flags:  # of a frame that lost bytes, which those of a bundle never do
                raise FormatDamaged(f"{self._frames.name}: the bytes from {start} are not whole")
            raw = memoryview(frame.raw)[start - first : end - first]
            yield raw
            start += len(raw)

    def close(self) -> None:
        """Close the file."""
        self._frames.close()

    def __enter__(self) -> BundleReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checked_slot(body: bytes | None, where: str) -> Slot:
    values = unpack_tuple(body or b"", where, 4)[:4]
    if tuple(map(type, values)) != (bytes, int, int, bytes) or min(values[1:3]) < 0:
        raise FormatDamaged(f"{where}: not a row")
    return Slot(*values)
