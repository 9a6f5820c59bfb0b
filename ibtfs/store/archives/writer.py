"""Writing one archive: payloads into lanes, records by number, then the three files in order."""

from __future__ import annotations

import concurrent.futures
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from ibtfs.errors import IbtfsError
from ibtfs.format.compression import Codec
from ibtfs.format.entry import Page, PageEntry, encode_page, encode_pages
from ibtfs.format.extents import ExtentMap, encode_parts
from ibtfs.format.frames import CONTENTS, HEADER, LARGE, LITERALS, MAPS, SLABS, SMALL, STATES
from ibtfs.format.index import (
    ContentRecord,
    IndexHeader,
    Reference,
    encode_plain,
    encode_record,
)
from ibtfs.format.keys import Keys
from ibtfs.format.packing import pack_bodies
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileWriter, KeptFileWriter
from ibtfs.store.storage.base import Storage

log = logging.getLogger(__name__)

FRAME_SIZES = {SMALL: 1 << 20, LARGE: 1 << 20, LITERALS: 128 << 10}
"""How many bytes of a data stream make a frame.

Large contents, a database of 541 MB and a disk image of 2 GB (330 MB of data), by frame and level:

=========  =====  ========  ========  ==========  ============  ==================
Frame      Level  database  image     first       restore,      a cold 4 KiB read
                                      backup      CPU seconds   through a mount
=========  =====  ========  ========  ==========  ============  ==================
128 KiB    1      243 MB    65.7 MB   1.9 s CPU   0.9           0.21 ms
512 KiB    3      196 MB    53.3 MB   2.4 s CPU   0.7           0.42 ms
1 MiB      3      186 MB    49.5 MB   2.1 s CPU   0.6           0.70 ms
=========  =====  ========  ========  ==========  ============  ==================

The last is smaller than what restic, BorgBackup and rdiff-backup make of the same. In the benchmark
the first backup of a database took 2.8 s of CPU with it, and 2.0 with the first, on another day.

Literals have small frames, for a reader keeps one of each of the many versions that a window takes
pieces from.  1 MB appended to a log takes 291, 270 and 250 KB in frames of 64, 128 and 256 KiB.
"""
COPIED = 32 << 10
"""Shorter pieces are copied: one block of each megabyte of a sparse file would hold it all."""
RECORD_FRAME = 64 << 10
INSIDE_INDEX = 64 << 10
"""Data or signatures of no more bytes than this lie in the index: a block and two syncs less."""


Kept = tuple[Storage, Keys]
"""Where something is stored as well, and how it is stored there."""


class _Lane:
    """The frame being filled of one data stream; *held* bytes wait in it."""

    def __init__(self, stream: int, emit: Callable[[int, int, int, bytes], None]) -> None:
        self._stream, self.emit = stream, emit
        self._limit = FRAME_SIZES[stream]
        self._pieces: list[bytes | memoryview] = []
        self.held = 0
        self.start = 0

    @property
    def end(self) -> int:
        """The logical address where the next byte goes."""
        return self.start + self.held

    def append(self, data: bytes | memoryview) -> None:
        """Add *data*; the caller does not change it afterwards."""
        held = self.held + len(data)
        if held < self._limit and self._stream == SMALL:
            self._pieces.append(data)
            self.held = held
            return
        if self.held and self._stream == SMALL and self.held + len(data) > self._limit:
            self.flush()  # a small content is not cut in two
        view = memoryview(data)
        while self.held + len(view) >= self._limit:
            cut = self._limit - self.held
            self._pieces.append(view[:cut])
            self.held += cut
            view = view[cut:]
            self.flush()
        if view:
            # a view keeps all that it is a part of in memory
            copied = self._stream == LITERALS or len(view) < COPIED
            self._pieces.append(bytes(view) if copied else view)
            self.held += len(view)

    def flush(self) -> None:
        """Make a frame of what is held."""
        if self.held:
            self.emit(self._stream, self.start, self.held, b"".join(self._pieces))
            self.start += self.held
            self._pieces, self.held = [], 0


class _Records:
    """The frame being filled of one record stream; *held* bytes wait in it."""

    def __init__(self, stream: int, emit: Callable[[int, int, int, bytes], None]) -> None:
        self._stream, self.emit = stream, emit
        self._bodies: list[bytes | None] = []
        self.held = 0
        self.count = 0

    def append(self, body: bytes) -> int:
        """Add a record; its number."""
        number = self.count
        if self.held + len(body) > RECORD_FRAME:
            self.flush()
        self._bodies.append(body)
        self.held += len(body) + 3
        self.count += 1
        return number

    def flush(self) -> None:
        """Make a frame of the records held."""
        if self._bodies:
            count = len(self._bodies)
            self.emit(self._stream, self.count - count, count, pack_bodies(self._bodies))
            self._bodies, self.held = [], 0


class ArchiveWriter:
    """A new archive; one thread writes it, *pool* compresses.

    *finish* makes its files durable, data, sigs, index in this order; until the index is there
    the archive does not exist.  Left without finish it is to be given to *abort*.  What it says is
    *kept* in another place, too, if that is given.
    """

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        archive_id: str,
        *,
        epoch: int,
        codec: Codec,
        pool: concurrent.futures.Executor,
        kept: Kept | None = None,
    ) -> None:
        self.id, self._epoch = archive_id, epoch
        self._began = time.monotonic()
        self._files = {
            kind: FrameFileWriter(
                storage, keys, layout.archive_object(archive_id, kind), codec, pool
            )
            for kind in layout.KINDS
        }
        if kept is not None:
            for kind in (layout.INDEX, layout.SIGS):
                name = layout.archive_object(archive_id, kind)
                copy = FrameFileWriter(*kept, name, codec, pool)
                self._files[kind] = KeptFileWriter(storage, keys, name, codec, pool, copy)
        self._lanes = {s: _Lane(s, self._files["data"].add) for s in FRAME_SIZES}
        self._records = {
            stream: _Records(stream, self._files["sigs" if stream == SLABS else "index"].add)
            for stream in (CONTENTS, STATES, MAPS, SLABS)
        }
        self._ordinals = {archive_id: 0}

    @property
    def data_bytes(self) -> int:
        """Payload bytes so far, before compression."""
        small, large, literals = self._lanes.values()
        return small.end + large.end + literals.end

    @property
    def age(self) -> float:
        """Seconds since it was begun."""
        return time.monotonic() - self._began

    @property
    def kinds(self) -> list[str]:
        """The kinds of files that it has, once it is finished."""
        return [kind for kind, file in self._files.items() if not file.is_empty]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been added."""
        return not (self.data_bytes or any(r.count for r in self._records.values()))

    def ordinal(self, archive_id: str) -> int:
        """The place of *archive_id* in this index's table; it is added when new."""
        return self._ordinals.setdefault(archive_id, len(self._ordinals))

    def packed(self, ref: Reference) -> int:
        """*ref* as the number by which this index refers to it."""
        archive, number = ref
        known = self._ordinals.get(archive)
        return ((self.ordinal(archive) if known is None else known) << 32) | number

    def position(self, stream: int) -> int:
        """The address at which the next payload of data stream *stream* begins."""
        return self._lanes[stream].end

    def append(self, stream: int, data: bytes | memoryview) -> None:
        """Add payload bytes; *data* must not change afterwards."""
        self._lanes[stream].append(data)

    def end_frame(self, stream: int) -> None:
        """Have what comes next in a data stream lie in another frame."""
        self._lanes[stream].flush()

    def add_whole(self, stream: int, name: bytes, data: bytes) -> int:
        """Add a content with digest *name*, whole, to a data stream; its number."""
        lane = self._lanes[stream]
        lane.append(data)
        size = len(data)
        body = encode_plain(name, size, stream, lane.start + lane.held - size)
        return self._records[CONTENTS].append(body)

    def add_content(self, record: ContentRecord, extents: ExtentMap | None = None) -> Reference:
        """Add a content record, and its map; payload and slabs are already there."""
        if extents is not None:
            parts = [self._records[MAPS].append(body) for body in encode_parts(extents)]
            record = record._replace(map_first=parts[0], map_parts=len(parts))
        number = self._records[CONTENTS].append(encode_record(record, self.ordinal))
        return Reference(self.id, number)

    def add_slabs(self, bodies: Iterable[bytes]) -> int:
        """Add the SigVault's records of one content; the number of the first."""
        numbers = list(map(self._records[SLABS].append, bodies))
        return numbers[0]

    def add_page(self, page: Page) -> Reference:
        """Add a page, or a directory state of one page; references are packed by this index."""
        return Reference(self.id, self._records[STATES].append(encode_page(page)))

    def add_pages(self, entries: list[PageEntry]) -> Reference:
        """Add the directory state that lists *entries*."""
        return Reference(self.id, self._records[STATES].append(encode_pages(entries)))

    def finish(self) -> int:
        """Make the archive durable, its index last; bytes stored."""
        self._close_small("data", list(self._lanes.values()))
        stored = self._files["data"].finish()
        self._close_small("sigs", [self._records[SLABS]])
        stored += self._files["sigs"].finish()
        for stream in (CONTENTS, STATES, MAPS):
            self._records[stream].flush()
        header = IndexHeader(
            archives=tuple(self._ordinals),
            epoch=self._epoch,
            contents=self._records[CONTENTS].count,
            states=self._records[STATES].count,
            has_data=not self._files["data"].is_empty,
            has_sigs=not self._files["sigs"].is_empty,
        )
        self._files["index"].add(HEADER, 0, 1, pack_bodies([header.encode()]))
        return stored + self._files["index"].finish()

    def _close_small(self, kind: str, buffers: Sequence[_Lane | _Records]) -> None:
        """Make frames of what is held; in the index, where a file of its own is not worth it."""
        if self._files[kind].is_empty and sum(b.held for b in buffers) <= INSIDE_INDEX:
            for buffer in buffers:
                buffer.emit = self._files["index"].add
        for buffer in buffers:
            buffer.flush()

    def abort(self) -> None:
        """Drop what was written, unless its index may have its name.

        From then on it is an archive of the repository, and other runs may refer to it.
        """
        if self._files[layout.INDEX].may_be_named:
            return
        for kind in (layout.INDEX, layout.DATA, layout.SIGS):
            try:
                self._files[kind].abort()
            except IbtfsError as error:
                # the next run looks again
                log.warning("What a failed run wrote could not all be removed: %s", error)


@contextmanager
def compression_pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Two threads for compression: zstandard and blake3 let the interpreter go on."""
    pool = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="compress")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
