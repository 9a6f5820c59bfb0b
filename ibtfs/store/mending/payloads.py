"""Payloads put back: a later generation of the file that has them, with what is known again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ibtfs.errors import IntegrityError
from ibtfs.format.compression import Codec
from ibtfs.format.frames import DATA_STREAMS, Address, Runs
from ibtfs.store import layout
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.rewriter import FileRewriter
from ibtfs.store.mending.pieces import Found, Giver
from ibtfs.store.removal.needed import Ranges, kept_in, needed_by
from ibtfs.store.removal.rebase import joined
from ibtfs.store.removal.sweep import Sweeper
from ibtfs.store.repository import Repository

NEW_FRAME = 1 << 20
"""Addresses of a frame that is made where no frame is known."""


class _Frame(NamedTuple):
    """A frame to be written anew: all that is known of its bytes, and its row before, or -1."""

    address: Address
    row: int
    pieces: Found


def mend_payloads(
    repository: Repository, archive_id: str, giver: Giver, beat: Callable[[], None]
) -> int:
    """Put back what *giver* has of the payloads that an archive lacks; how many bytes.

    For who is alone in the repository.  Raises IntegrityError if it cannot be told what is missing,
    LockLost, StorageFull, StorageFailed.
    """
    mender = _Mender(repository, archive_id, giver, beat)
    gained = mender.look()
    if gained:
        mender.write()
        Sweeper(repository).drop_earlier(archive_id)
        repository.forget_read()
    return gained


class _Mender:
    """Mends the payloads of one archive."""

    def __init__(
        self, repository: Repository, archive_id: str, giver: Giver, beat: Callable[[], None]
    ) -> None:
        self._repository, self._id, self._giver, self._beat = repository, archive_id, giver, beat
        reader = repository.archive(archive_id)
        self._kind = layout.DATA if reader.header.has_data else layout.INDEX
        self._file: FrameFileReader | None = None
        try:
            self._file = reader.file(self._kind)
        except IntegrityError:
            if self._kind == layout.INDEX:
                raise
        try:
            self._needed = needed_by(kept_in(repository, reader)).payloads
        except IntegrityError:
            self._needed = dict(self._unreadable())  # what records need is not known
        self._frames: dict[int, list[_Frame]] = {}

    def _unreadable(self) -> Iterator[tuple[int, Ranges]]:
        """By stream, the addresses of frames that cannot be read."""
        for stream in DATA_STREAMS:
            table = self._file.table(stream) if self._file else None
            rows = range(len(table.starts)) if table else ()
            yield (
                stream,
                [
                    (table.starts[row], table.starts[row] + table.counts[row])
                    for row in rows
                    if table and not self._held(stream, row)
                ],
            )

    def look(self) -> int:
        """Find out what can be put back: so many bytes."""
        gained = 0
        for stream in DATA_STREAMS:
            for frame, known in self._looked_at(stream):
                new = sum(len(data) for _, data in frame.pieces) - known
                if new:
                    self._frames.setdefault(stream, []).append(frame)
                    gained += new
        return gained

    def _looked_at(self, stream: int) -> Iterator[tuple[_Frame, int]]:
        """The frames of a stream that lack something, and how many bytes are known without help."""
        needed, place = self._needed.get(stream, []), 0
        table = self._file.table(stream) if self._file else None
        for row in range(len(table.starts) if table else 0):
            assert table is not None
            self._beat()
            start, end = table.starts[row], table.starts[row] + table.counts[row]
            yield from self._new(stream, needed, place, start)
            place = max(place, end)
            held = self._held(stream, row)
            lacking = _without(_cut(needed, start, end), held)
            if lacking:
                pieces = held + self._given(stream, lacking)
                pieces.sort(key=lambda piece: piece[0])
                known = sum(len(data) for _, data in held)
                yield _Frame(Address(stream, start, end - start), row, pieces), known
        yield from self._new(stream, needed, place, 1 << 63)

    def _new(
        self, stream: int, needed: Ranges, start: int, end: int
    ) -> Iterator[tuple[_Frame, int]]:
        """Frames for what is needed of addresses that no frame has."""
        for low, high in _cut(needed, start, end):
            for first in range(low, high, NEW_FRAME):
                last = min(first + NEW_FRAME, high)
                pieces = self._given(stream, [(first, last)])
                yield _Frame(Address(stream, first, last - first), -1, pieces), 0

    def _held(self, stream: int, row: int) -> Found:
        """What a frame still has."""
        assert self._file is not None
        start = self._file.table(stream).starts[row]
        try:
            raw = self._file.payload_frame(stream, row)
        except IntegrityError:
            return []
        if isinstance(raw, Runs):
            return [(start + first, raw.raw[at : at + size]) for first, size, at in raw.runs]
        return [(start, raw)]

    def _given(self, stream: int, ranges: Ranges) -> Found:
        return [piece for low, high in ranges for piece in self._giver.give(stream, low, high)]

    def write(self) -> None:
        """Write the next generation."""
        repository, kind = self._repository, self._kind
        name = layout.archive_object(self._id, kind)
        codec = Codec(repository.config.level)
        # a first generation is not asked for frames that lost some of their bytes
        with FileRewriter(repository.storage, repository.keys, name, self._file, codec) as file:
            for stream in DATA_STREAMS:
                self._write_stream(file, stream)
            for stream in self._file.tables if self._file else ():
                if stream not in DATA_STREAMS:
                    file.copy_all(stream)
            file.finish()

    def _write_stream(self, file: FileRewriter, stream: int) -> None:
        anew = self._frames.get(stream, [])
        replaced = {frame.row for frame in anew}
        table = self._file.table(stream) if self._file else None
        rows = [
            (table.starts[row], row)
            for row in range(len(table.starts) if table else 0)
            if table and row not in replaced
        ]
        waiting = sorted([(frame.address.start, frame) for frame in anew], key=lambda one: one[0])
        for start, row in [*rows, (1 << 63, -1)]:
            while waiting and waiting[0][0] < start:
                frame = waiting.pop(0)[1]
                file.put_payload(frame.address, frame.pieces)
            if row >= 0:
                file.copy(stream, row)


def _cut(ranges: Ranges, start: int, end: int) -> Ranges:
    """What of *ranges* lies between *start* and *end*."""
    cut = [(max(low, start), min(high, end)) for low, high in ranges if low < end and high > start]
    return joined(cut)


def _without(ranges: Ranges, held: Found) -> Ranges:
    """*ranges* without the addresses that are held."""
    left: Ranges = []
    for first, high in ranges:
        low = first
        for start, data in held:
            if start >= high or start + len(data) <= low:
                continue
            if low < start:
                left.append((low, start))
            low = start + len(data)
        if low < high:
            left.append((low, high))
    return left
