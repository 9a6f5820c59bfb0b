"""Later generations of an archive's files: frames taken over as they are, others written anew."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.compression import Codec
from ibtfs.format.frames import (
    DATA_STREAMS,
    FLAG_RUNS,
    STREAMS,
    Address,
    Frame,
    Runs,
    pack_runs,
)
from ibtfs.format.keys import Keys
from ibtfs.format.packing import pack_bodies, unpack_bodies
from ibtfs.format.tables import StreamTable, encode_end
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.generations import look_again, present_in
from ibtfs.store.archives.newest import open_newest
from ibtfs.store.storage.base import Storage

RECORD_FRAME = 64 << 10
Ranges = Sequence[tuple[int, int]]
"""(start, end) each, in order, none touching another."""


class FileRewriter:
    """A later generation of the file *old* of an archive, *name* being its object.

    The next one, later than *after*; without an old one, which was lost, there is nothing to copy.
    *renew*: it is sealed by the newest keys, and so is anew what records and payloads are kept.
    Frames come in order of their addresses within each stream.  A context manager; left without
    :meth:`finish` it leaves nothing.  Used by one thread.
    """

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        name: str,
        old: FrameFileReader | None,
        codec: Codec,
        *,
        renew: bool = False,
        after: int = 0,
    ) -> None:
        self._after = after
        self._before, self._codec, self._repository = old, codec, keys.repository
        self._storage, self._keys, self._name = storage, keys, name
        self._tables: dict[int, StreamTable] = {}
        self._generation = self._next()
        before = None if old is None else old.frames
        self._is_renewed = False
        if renew and before is not None and keys.new_frames(name).envelope != before.envelope:
            before, self._is_renewed = None, True
        self._frames = keys.later_frames(name, before, self._generation)
        self._upload = storage.put(f"{name}.{self._generation}")

    def _next(self) -> int:
        """The number of the next generation.

        In a sealed repository the first behind the newest authentic one that nobody without a key
        has taken: how far such a one counts is not to matter.
        """
        folder, _, kind = self._name.rpartition("/")
        if self._before is not None and not self._keys.is_sealed:
            return max(self._before.generation, self._after) + 1
        taken = present_in(self._storage.list(folder)).get(kind, [])
        if not self._keys.is_sealed:
            return max(taken, default=1) + 1
        first = max(1 if self._before is None else self._before.generation, self._after)
        return next(number for number in itertools.count(first + 1) if number not in taken)

    @property
    def _old(self) -> FrameFileReader:
        assert self._before is not None
        return self._before

    def __enter__(self) -> FileRewriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._upload.abort()

    def _put(self, address: Address, raw: bytes | memoryview, *, flags: int = 0) -> None:
        """Write a frame of *raw* anew."""
        data = self._frames.encode(address, raw, self._codec, flags=flags)
        self._add(address, data, len(raw) if flags else 0, self._frames.mark(data))

    def _add(self, address: Address, data: bytes, runs: int, mark: int) -> None:
        table = self._tables.setdefault(address.stream, StreamTable())
        size = self._upload.size
        table.add(address.start, address.length, size, len(data), runs=runs, mark=mark)
        self._upload.write(data)

    def copy(self, stream: int, row: int) -> None:
        """Take over a frame of the old file as it is, damaged or not."""
        self.copy_from(self._old, stream, row, row)

    def _take_over(self, stream: int, row: int, frame: Frame) -> None:
        """Take over the *frame* of the old file in *row*, which is sound."""
        if not self._is_renewed:
            self.copy(stream, row)
            return
        table = self._old.table(stream)
        address = Address(stream, table.starts[row], table.counts[row])
        self._put(address, frame.raw, flags=frame.flags)

    def copy_from(self, other: FrameFileReader, stream: int, row: int, other_row: int) -> None:
        """Take over, in place of a frame of the old file, the same one of the file *other*."""
        table = self._old.table(stream)
        address = Address(stream, table.starts[row], table.counts[row])
        if self._frames is not self._old.frames:
            with suppress(IntegrityError):  # else it stays damaged
                frame = other.frame(stream, other_row)
                self._put(address, frame.raw, flags=frame.flags)
                return
        data = other.stored_frame(stream, other_row)
        self._add(address, data, table.runs[row], table.marks[row])

    def copy_all(self, stream: int) -> None:
        """Take over all frames of a stream."""
        for row in range(len(self._old.table(stream).starts)):
            self.copy(stream, row)

    def add_records(self, stream: int, first: int, bodies: Sequence[bytes]) -> None:
        """Append records, numbered from *first*, which lies behind all others of the stream."""
        held: list[bytes | None] = []
        size = 0
        for body in bodies:
            if held and size + len(body) > RECORD_FRAME:
                self._put_records(stream, first, held)
                first, held, size = first + len(held), [], 0
            held.append(body)
            size += len(body) + 3
        if held:
            self._put_records(stream, first, held)

    def _put_records(self, stream: int, first: int, bodies: list[bytes | None]) -> None:
        address = Address(stream, first, len(bodies))
        self._put(address, pack_bodies(bodies))

    def keep_records(
        self, stream: int, kept: Sequence[int], replaced: Mapping[int, bytes] | None = None
    ) -> None:
        """Take over the records of a stream whose numbers have a 1 in *kept*; *replaced* anew.

        Raises FormatDamaged of a frame that is: beside the file as it is may lie what heals it.
        """
        replaced = replaced or {}
        table = self._old.table(stream)
        for row, (start, count) in enumerate(zip(table.starts, table.counts)):
            numbers = range(start, start + count)
            flags = [number < len(kept) and bool(kept[number]) for number in numbers]
            if not any(flags):
                continue
            where = f"{self._old.name}: {STREAMS[stream]} from {start}"
            frame = self._old.frame(stream, row)
            if all(flags) and not any(map(replaced.__contains__, numbers)):
                self._take_over(stream, row, frame)
                continue
            bodies = unpack_bodies(frame.raw, count, where)
            rest: list[bytes | None] = [
                replaced.get(number, body) if flag else None
                for number, flag, body in zip(numbers, flags, bodies)
            ]
            if rest == list(bodies):
                self._take_over(stream, row, frame)
            elif any(body is not None for body in rest):
                self._put_records(stream, start, rest)

    def keep_payloads(self, needed: Mapping[int, Ranges]) -> None:
        """Take over of each data stream what lies in its *needed* ranges; nothing of others.

        Raises FormatDamaged, as :meth:`keep_records`.
        """
        for stream in DATA_STREAMS:
            ranges, place = needed.get(stream, ()), 0
            table = self._old.table(stream)
            for row, (start, count) in enumerate(zip(table.starts, table.counts)):
                while place < len(ranges) and ranges[place][1] <= start:
                    place += 1
                cut = within(ranges, place, start, start + count)
                if cut == [(0, count)]:
                    self._take_over(stream, row, self._old.frame(stream, row))
                elif cut:
                    self._put_rest(Address(stream, start, count), row, cut)

    def _put_rest(self, address: Address, row: int, kept: list[tuple[int, int]]) -> None:
        """Write what is *kept* of a frame, (start, end) within it."""
        raw = rest_of(self._old, address, row, kept)
        if raw is None:
            self._take_over(address.stream, row, self._old.frame(address.stream, row))
        elif raw:
            self._put(address, raw, flags=FLAG_RUNS)

    def put_payload(self, address: Address, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Write a frame of a data stream of *pieces*, their addresses and bytes, in order."""
        runs: list[tuple[int, list[bytes]]] = []
        end = -1
        for start, data in pieces:
            if start == end:
                runs[-1][1].append(data)
            else:
                runs.append((start - address.start, [data]))
            end = start + len(data)
        whole = [(start, memoryview(b"".join(parts))) for start, parts in runs]
        if len(whole) == 1 and len(whole[0][1]) == address.length:
            self._put(address, whole[0][1])
        elif whole:
            self._put(address, pack_runs(whole), flags=FLAG_RUNS)

    def add_header(self, stream: int, body: bytes) -> None:
        """Add the one record of a stream."""
        self._put_records(stream, 0, [body])

    def finish(self) -> int:
        """Make it durable, then visible; its size.

        Raises ObjectExists, LockLost, StorageFull, StorageFailed; IntegrityError if it is not what
        is read then: nothing that it lacks may go.
        """
        end = encode_end(
            self._frames, self._repository, self._tables, self._upload.size, self._codec,
            generation=self._generation,
        )  # fmt: skip
        self._upload.write(end)
        self._upload.finish()
        if self._keys.is_sealed:
            self._require_read()
        return self._upload.size

    def _require_read(self) -> None:
        folder, _, kind = self._name.rpartition("/")
        archive_id = folder.rpartition("/")[2]
        look_again(self._storage, archive_id)
        opened = open_newest(self._storage, self._keys, archive_id, kind).opened
        opened.close()
        if opened.generation != self._generation:
            raise FormatDamaged(
                f"{self._name}.{self._generation}: was written, and {opened.name} is read instead"
            )


def rest_of(
    old: FrameFileReader, address: Address, row: int, kept: list[tuple[int, int]]
) -> bytes | None:
    """The raw bytes of a frame of payloads of which only *kept* ranges stay, (start, end) within.

    None if nothing else is there anyway; empty if nothing of it is.  Raises FormatDamaged.
    """
    frame = old.frame(address.stream, row)
    pieces = _pieces(frame.raw, address.length, kept, old.name, frame.flags)
    return pack_runs(pieces) if pieces else None if pieces is None else b""


def within(ranges: Ranges, place: int, start: int, end: int) -> list[tuple[int, int]]:
    """What of *ranges*, from number *place* on, lies between *start* and *end*, relative to it."""
    found = []
    while place < len(ranges) and ranges[place][0] < end:
        first, last = ranges[place]
        found.append((max(first, start) - start, min(last, end) - start))
        place += 1
    return found


def _pieces(
    raw: bytes, length: int, kept: list[tuple[int, int]], where: str, flags: int
) -> list[tuple[int, memoryview]] | None:
    """The bytes of *kept* ranges, and where each begins; None if nothing else is there anyway."""
    if not flags & FLAG_RUNS:
        return [(start, memoryview(raw)[start:end]) for start, end in kept]
    runs = Runs(raw, length, where)
    if [(start, start + size) for start, size, _ in runs.runs] == kept:
        return None
    pieces = []
    for start, end in kept:
        for first, size, place in runs.runs:
            low, high = max(start, first), min(end, first + size)
            if low < high:
                pieces.append((low, memoryview(raw)[place + low - first : place + high - first]))
    return pieces
