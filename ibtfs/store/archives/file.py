"""One archive file: reading its frames by logical address, and writing them in order."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ibtfs.errors import (
    FormatDamaged,
    ObjectExists,
    ObjectMissing,
    StorageFull,
    UnsupportedFormat,
)
from ibtfs.format.compression import Codec
from ibtfs.format.envelopes import LATER_MODE, SIZES
from ibtfs.format.frames import (
    DATA_STREAMS,
    FLAG_RUNS,
    TABLE,
    TABLE_LIMIT,
    Address,
    Frame,
    Runs,
    object_key,
)
from ibtfs.format.keys import Keys
from ibtfs.format.tables import (
    BEHIND_LIMIT,
    TRAILER_SIZE,
    End,
    StreamTable,
    decode_table,
    encode_end,
    find_end,
)
from ibtfs.store.storage.base import Storage, StoredObject, Upload

FRAMES_IN_FLIGHT = 8
HEAD_LIMIT = 64
"""More than what a frame has, sealed or not, beside what is stored."""


class FrameFileReader:
    """The frames of one stored file; table and open file are one object.

    Threads may share it.  *name* is the object's name without generation, *stored* the open file;
    as an attribute, *name* is how messages name it.  *frames* is how its frames are stored.
    *behind*: so many bytes lie behind its end, where nothing should.
    """

    def __init__(self, keys: Keys, name: str, stored: StoredObject) -> None:
        self.name = stored.shown
        self.generation = int(stored.name.rpartition(".")[2])
        self._stored = stored
        try:
            trailer, end = self._find_end(keys.repository, object_key(keys.repository, name))
        except UnsupportedFormat as error:
            if keys.is_sealed:  # anybody can have put it there
                raise FormatDamaged(f"{error}, or it is damaged") from error
            raise
        self.behind = stored.size - end
        if trailer.table_size > TABLE_LIMIT + HEAD_LIMIT:
            raise FormatDamaged(f"{self.name}: a frame table beyond the limits of the format")
        offset, size, before = trailer
        data = stored.read(offset - before, before + size)
        self.frames = keys.frames(name, data[:before], self.generation)
        where = f"{self.name}: frame table"
        raw = self.frames.decode(Address(TABLE, offset, 1), data[before:], where).raw
        self.tables = decode_table(raw, end, self.generation, where)
        self._padding = offset - before - self._end_of_frames()

    def _find_end(self, repository: bytes, key: bytes) -> End:
        """Where the file ends; bytes that something appended to it do no harm."""
        size = self._stored.size
        try:
            return find_end(key, repository, self._tail(TRAILER_SIZE), size, self.name)
        except FormatDamaged:
            tail = self._tail(TRAILER_SIZE + BEHIND_LIMIT)
            return find_end(key, repository, tail, size, self.name)

    def _end_of_frames(self) -> int:
        tables = self.tables.values()
        ends = (table.offsets[-1] + table.sizes[-1] for table in tables if table.sizes)
        return max(ends, default=0)

    def freed_by(self, less: int) -> int:
        """How many bytes are freed if it is written anew with so many bytes *less* in its frames.

        Sizes are rounded up where it is sealed; what a machine made that only writes gets a shorter
        envelope then.
        """
        less += max(len(self.frames.envelope) - SIZES[LATER_MODE], 0)
        return self.size - self.frames.padded(self.size - self._padding - less)

    def _tail(self, size: int) -> bytes:
        size = min(size, self._stored.size)
        return self._stored.read(self._stored.size - size, size)

    def table(self, stream: int) -> StreamTable:
        """The frame table of *stream*; empty if the file has none."""
        return self.tables.get(stream) or StreamTable()

    def frame(self, stream: int, row: int) -> Frame:
        """The frame in *row* of the table of *stream*.  Raises FormatDamaged."""
        table = self.tables[stream]
        address = Address(stream, table.starts[row], table.counts[row])
        data = self._stored.read(table.offsets[row], table.sizes[row])
        where = f"{self.name}: frame at {table.offsets[row]}"
        if self.frames.mark(data) != table.marks[row]:
            raise FormatDamaged(f"{where}: is not the one that the frame table tells of")
        frame = self.frames.decode(address, data, where)
        is_cut, runs = bool(frame.flags & FLAG_RUNS), table.runs[row]
        expected = runs if is_cut else address.length
        if (stream < TABLE + 16 and len(frame.raw) != expected) or is_cut != bool(runs):
            raise FormatDamaged(f"{where}: holds {len(frame.raw)} bytes, not {expected}")
        return frame

    def verify(self, beat: Callable[[], object] = lambda: None) -> None:
        """Read all frames; *beat* is called before each.

        Raises FormatDamaged of the first that does not verify, or if something lies behind the end.
        """
        if self.behind:
            raise FormatDamaged(f"{self.name}: {self.behind} bytes lie behind its end")
        for stream, table in self.tables.items():
            for row in range(len(table.starts)):
                beat()
                self.frame(stream, row)

    def payload_frame(self, stream: int, row: int) -> bytes | Runs:
        """The bytes of a frame of a data stream, or what is left of them.  Raises FormatDamaged."""
        frame = self.frame(stream, row)
        if not frame.flags & FLAG_RUNS:
            return frame.raw
        return Runs(frame.raw, self.table(stream).counts[row], self.name)

    def has_runs(self, stream: int, row: int) -> bool:
        """Whether the frame in *row* lost some of its bytes, as the table says."""
        return bool(self.tables[stream].runs[row])

    def encoded_size(self, address: Address, raw: bytes, codec: Codec, *, flags: int = 0) -> int:
        """How many bytes a frame of *raw* would have in this file."""
        return len(self.frames.encode(address, raw, codec, flags=flags))

    def stored_frame(self, stream: int, row: int) -> bytes:
        """The frame in *row* as it is stored; verified by :meth:`frame` alone."""
        table = self.tables[stream]
        return self._stored.read(table.offsets[row], table.sizes[row])

    @property
    def size(self) -> int:
        """The size of the stored file in bytes."""
        return self._stored.size

    @property
    def is_removed(self) -> bool:
        """Whether the stored file has no name any more."""
        return self._stored.is_removed()

    def is_gone(self) -> bool:
        """Whether the open file cannot be read any more, though it may lie elsewhere now.

        Network file systems take away what another machine removes.
        """
        try:
            self._stored.read(0, 1)
        except ObjectMissing:
            return True
        return False

    def close(self) -> None:
        """Release the open file."""
        self._stored.close()


class _Pending(NamedTuple):
    address: Address
    encoded: concurrent.futures.Future[bytes]


class FrameFileWriter:
    """Writes one archive file; frames are compressed by *pool*, and stored in the order given.

    Nothing is created before the first frame comes.  *may_be_named*: it is finished, or that failed
    when it could have its name already.  Used by one thread at a time.
    """

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        name: str,
        codec: Codec,
        pool: concurrent.futures.Executor,
    ) -> None:
        self._storage, self._name, self._codec, self._pool = storage, name, codec, pool
        self._repository, self._frames = keys.repository, keys.new_frames(name)
        self._upload: Upload | None = None
        self.may_be_named = False
        self._pending: deque[_Pending] = deque()
        self._tables: dict[int, StreamTable] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no frame has come yet."""
        return self._upload is None

    def add(self, stream: int, start: int, count: int, raw: bytes) -> None:
        """Append a frame of *raw* that holds *count* addresses from *start*."""
        if self._upload is None:
            self._upload = self._storage.put(f"{self._name}.1")
        address = Address(stream, start, count)
        encoded = self._pool.submit(self._frames.encode, address, raw, self._codec)
        self._pending.append(_Pending(address, encoded))
        while len(self._pending) > FRAMES_IN_FLIGHT or (
            self._pending and self._pending[0].encoded.done()
        ):
            self._store_oldest()

    def _store_oldest(self) -> None:
        address, encoded = self._pending.popleft()
        data = encoded.result()
        upload = self._upload
        assert upload is not None  # set by add, which alone fills _pending
        table = self._tables.setdefault(address.stream, StreamTable())
        mark = self._frames.mark(data)
        table.add(address.start, address.length, upload.size, len(data), mark=mark)
        upload.write(data)

    def finish(self) -> int:
        """Make the file durable and visible; its size in bytes, 0 if there is none."""
        while self._pending:
            self._store_oldest()
        if self._upload is None:
            return 0
        upload = self._upload
        upload.write(
            encode_end(self._frames, self._repository, self._tables, upload.size, self._codec)
        )
        self.may_be_named = True  # from here on, even if this fails
        try:
            upload.finish()
        except ObjectExists:
            self.may_be_named = False  # what has the name is somebody else's
            raise
        return upload.size

    def abort(self) -> None:
        """Drop what was written, also when it is finished."""
        while self._pending:
            self._pending.popleft().encoded.cancel()
        if self._upload is not None:
            self._upload.abort()
            if self.may_be_named:
                self._storage.delete(self._upload.name)


class KeptFileWriter(FrameFileWriter):
    """A file of which *kept* is a copy that lacks the payloads: for who cannot read the file."""

    def __init__(
        self, storage: Storage, keys: Keys, name: str, codec: Codec,
        pool: concurrent.futures.Executor, kept: FrameFileWriter,
    ) -> None:  # fmt: skip
        super().__init__(storage, keys, name, codec, pool)
        self._kept = kept

    def add(self, stream: int, start: int, count: int, raw: bytes) -> None:
        """As FrameFileWriter says."""
        super().add(stream, start, count, raw)
        if stream not in DATA_STREAMS:
            with _named():
                self._kept.add(stream, start, count, raw)

    def finish(self) -> int:
        """As FrameFileWriter says; the copy comes last."""
        size = super().finish()
        with _named():
            self._kept.finish()
        return size

    def abort(self) -> None:
        """As FrameFileWriter says."""
        super().abort()
        self._kept.abort()


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Have it be told which disk is full: it is not that of the repository."""
    try:
        yield
    except StorageFull as error:
        raise StorageFull(
            "No space left for what this machine keeps of its backups, in its own folder: free "
            "some room on its disk"
        ) from error
