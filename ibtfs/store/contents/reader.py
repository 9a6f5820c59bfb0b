"""Random access to contents: a window at a time through the chain of extent maps."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from ibtfs.errors import FormatDamaged, IntegrityError, ObjectMissing
from ibtfs.format.digests import Digests
from ibtfs.format.extents import ExtentMap
from ibtfs.format.index import DEPTH_LIMIT, ContentRecord, Reference
from ibtfs.store.contents.fold import Level, fold, name_of, require_short
from ibtfs.store.contents.whole import require_content, too_deep
from ibtfs.store.contents.windows import Piece, Window, joined
from ibtfs.store.repository import Repository

Value = TypeVar("Value")
ATTEMPTS = 8
WINDOW = 1 << 20
"""Bytes of a content that are resolved together, and kept so in the cache."""


CHAINS_HELD = 2
"""So that two versions of a file can be compared.  Writers bound what one takes, see flatten."""
_ZEROS = bytes(WINDOW)
_Stretch = tuple[int, int, memoryview]
"""A part of a payload: where it begins, where it ends, its bytes (and some beyond)."""
_NOWHERE: _Stretch = (0, -1, memoryview(b""))
ROW_BYTES = 200
RECORD_BYTES = 700
"""About what a row of a window, and a record, weigh in memory."""


class Segment(NamedTuple):
    """*length* bytes of a content: from *offset* of the payload of *owner*.

    Without an owner they are zeros, and *offset* tells what kind: HOLE or ZEROS.
    """

    owner: Reference | None
    offset: int
    length: int


class Contents:
    """Reads contents of a repository at any place; threads may share it.

    *digests* is how they are told apart.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.digests: Digests = repository.keys.digests
        self._chains: tuple[list[Level], ...] = ()
        self._era = repository.era

    def _settled(self, read: Callable[[], Value]) -> Value:
        """What *read* gives; once more when what it was found by has changed meanwhile.

        Contents may be built in another way by a later generation, and what they were built on
        before may be gone then.
        """
        for _ in range(ATTEMPTS):
            era = self._repository.era
            try:
                return read()
            except ObjectMissing:
                if not self._repository.refresh() and self._repository.era == era:
                    raise
        return read()

    def record(self, ref: Reference) -> ContentRecord:
        """The record of *ref*.  Raises ObjectMissing, FormatDamaged."""
        return self._repository.archive(ref.archive).content(ref.number)

    def _kept_record(self, ref: Reference) -> ContentRecord:
        """As :meth:`record`, for those that are asked for again and again."""
        return self._repository.cache.get(
            ("record", self._repository.era, ref), lambda: self.record(ref), lambda _: RECORD_BYTES
        )

    def extents(self, ref: Reference, record: ContentRecord) -> ExtentMap:
        """The map of a content that has one."""
        return self._repository.archive(ref.archive).extents(ref.number, record)

    def segments(self, ref: Reference, start: int, end: int) -> Iterator[Segment]:
        """Where the bytes from *start* to *end* of a content lie.

        Raises FormatDamaged, also where the content ends before.
        """
        for rows in self._settled(lambda: self._rows(ref, start, end)):
            yield from map(Segment._make, rows)

    def _rows(self, ref: Reference, start: int, end: int) -> Iterator[list[Piece]]:
        """As :meth:`segments`, window by window.  Raises FormatDamaged beyond the content's end."""
        size = self._kept_record(ref).size
        if end > size:
            raise FormatDamaged(f"{name_of(ref)}: has {size} bytes where more are expected")
        return self._cut_rows(ref, start, end)

    def _cut_rows(self, ref: Reference, start: int, end: int) -> Iterator[list[Piece]]:
        while start < end:
            number = start // WINDOW
            stop = min(end, (number + 1) * WINDOW)
            window = self._settled(functools.partial(self._window, ref, number))
            yield window.cut(start, stop)
            start = stop

    def _window(self, ref: Reference, number: int) -> Window:
        return self._repository.cache.get(
            ("window", self._repository.era, ref, number),
            lambda: self._resolve(ref, number),
            lambda window: ROW_BYTES * len(window.starts) + 100,
        )

    def _resolve(self, ref: Reference, number: int) -> Window:
        """The segments of window *number*."""
        levels = self.chain(ref)
        start = number * WINDOW
        end = min(start + WINDOW, levels[0].record.size)
        return joined(fold(levels, start, end))

    def chain(self, ref: Reference) -> list[Level]:
        """A content, its base, the base of that, …, with their maps, kept together.

        Raises ObjectMissing, FormatDamaged.
        """
        if self._era != self._repository.era:
            self._era, self._chains = self._repository.era, ()
        held = self._chains
        if held and held[0][0].ref == ref:
            return held[0]
        levels = next((one for one in held if one[0].ref == ref), None) or self._kept_chain(ref)
        others = (one for one in held if one[0].ref != ref)
        self._chains = (levels, *itertools.islice(others, CHAINS_HELD - 1))
        return levels

    def _kept_chain(self, ref: Reference) -> list[Level]:
        # the last ones are held beside the cache: a long one must not be driven out between windows
        return self._repository.cache.get(
            ("chain", self._repository.era, ref),
            lambda: self._load_chain(ref),
            lambda levels: sum(
                400 + (level.extents.memory_size if level.extents else 0) for level in levels
            ),
        )

    def chain_ranges(self, ref: Reference) -> int:
        """How many ranges the maps of a content and of its bases have, but for the last of them.

        With those of the last, that is what the chain takes of memory, and folding it of time.
        """
        return sum(
            len(level.extents.ends)
            for level in self.chain(ref)
            if level.extents is not None and level.record.base is not None
        )

    def _load_chain(self, ref: Reference) -> list[Level]:
        levels: list[Level] = []
        ranges = 0
        while len(levels) <= DEPTH_LIMIT:
            record = self.record(ref)
            require_content(ref, record)
            extents = None if record.is_plain else self.extents(ref, record)
            ranges += len(extents.ends) if extents is not None else 0
            require_short(ref, ranges)
            levels.append(Level(ref, record, extents))
            if record.base is None:
                return levels
            ref = record.base
        raise too_deep(ref)

    def read(self, ref: Reference, offset: int, size: int) -> bytes:
        """Up to *size* bytes of a content from *offset*; fewer only at its end.

        Raises ObjectMissing, FormatDamaged; tries other copies of the same content before.
        """
        return b"".join(self.pieces(ref, offset, size))

    def whole(self, ref: Reference, size: int) -> bytes:
        """All *size* bytes of a content, compared with its digest.

        Raises ObjectMissing, FormatDamaged; tries other copies of the same content before.
        """
        record = self._settled(lambda: self.record(ref))
        if record.is_plain and not record.is_shell:
            try:
                data = b"".join(self._payload(ref, record, 0, record.size))
                if len(data) == size and self.digests.content(data) == record.digest:
                    return data
            except IntegrityError:
                pass  # below, copies are tried
        data = self.read(ref, 0, size)
        self.verify(ref, data, record)
        if record.size != size:
            raise FormatDamaged(f"{name_of(ref)}: {record.size} bytes where a row says {size}")
        return data

    def pieces(self, ref: Reference, offset: int, size: int) -> list[bytes | memoryview]:
        """As :meth:`read`, in pieces that are not joined."""
        try:
            return self.own_pieces(ref, offset, size)
        except IntegrityError as error:
            for other in self._copies(ref, error):
                try:
                    return self.own_pieces(other, offset, size)
                except IntegrityError:
                    continue
            raise

    def own_pieces(self, ref: Reference, offset: int, size: int) -> list[bytes | memoryview]:
        """As :meth:`pieces`, from this record alone."""
        return self._settled(lambda: self._own_pieces(ref, offset, size))

    def _own_pieces(self, ref: Reference, offset: int, size: int) -> list[bytes | memoryview]:
        record = self.record(ref)
        require_content(ref, record)
        end = min(offset + size, record.size)
        if record.is_plain:
            return list(self._payload(ref, record, offset, end - offset)) if end > offset else []
        pieces: list[bytes | memoryview] = []
        stretches: dict[Reference, _Stretch] = {}
        for rows in self._rows(ref, offset, end):
            self._gather(rows, stretches, pieces)
        return pieces

    def _gather(
        self,
        rows: list[Piece],
        stretches: dict[Reference, _Stretch],
        pieces: list[bytes | memoryview],
    ) -> None:
        """Add the bytes of *rows* to *pieces*; *stretches* are the last that were used."""
        for owner, start, length in rows:
            if owner is None:
                pieces.append(_ZEROS if length == WINDOW else bytes(length))
                continue
            low, high, view = stretches.get(owner, _NOWHERE)
            stop = start + length
            if start < low or stop > high:
                stretch = self._stretch(owner, start)
                if stretch is None or stop > stretch[1]:
                    pieces.extend(self._payload(owner, self.record(owner), start, length))
                    continue
                low, high, view = stretches[owner] = stretch
            pieces.append(view[start - low : stop - low])

    def _stretch(self, owner: Reference, offset: int) -> _Stretch | None:
        """The part around *offset* of the payload of *owner* that lies in one frame.

        Most ranges of a window lie in the frame of the range before: found once, they cost a slice.
        None of what lies beyond the payload, or in a frame that lacks some of its bytes.
        """
        record = self._kept_record(owner)
        if not 0 <= offset < record.length:
            return None
        archive = self._repository.archive(owner.archive)
        frame = archive.frame_at(record.stream, record.start + offset)
        if frame is None:
            return None
        first, view = frame
        low = max(first - record.start, 0)
        high = min(first - record.start + len(view), record.length)
        return low, high, view[low + record.start - first :]

    def payload(self, owner: Reference, offset: int, length: int) -> list[memoryview]:
        """*length* bytes of the payload that *owner* added to its archive, in pieces."""
        return self._payload(owner, self.record(owner), offset, length)

    def _payload(
        self, owner: Reference, record: ContentRecord, offset: int, length: int
    ) -> list[memoryview]:
        if offset < 0 or offset + length > record.length:
            raise FormatDamaged(f"{name_of(owner)}: is asked for bytes beyond its payload")
        archive = self._repository.archive(owner.archive)
        return archive.payload(record.stream, record.start + offset, length)

    def _copies(self, ref: Reference, error: IntegrityError) -> list[Reference]:
        """Other records of the content *ref*, where its own record can still be read."""
        try:
            wanted = self.record(ref)
            require_content(ref, wanted)
        except IntegrityError:
            raise error from None
        archives = self._repository.archive_ids()
        return self._repository.cache.get(
            ("copies", self._repository.era, ref, len(archives)),
            lambda: self._search(ref, wanted, archives),
            lambda found: 200 * len(found),
        )

    def _search(
        self, ref: Reference, wanted: ContentRecord, archives: list[str]
    ) -> list[Reference]:
        """Every other record with the digest of *wanted*, newest first; only after damage."""
        found, author = [], self._repository.archive(ref.archive).author
        for archive_id in reversed(archives):
            archive = self._repository.archive(archive_id)
            try:
                if archive.author != author:
                    continue  # what it says of its contents need not be so
                for number in archive.may_hold(wanted.digest):
                    record = archive.content(number)
                    if record.digest == wanted.digest and record.size == wanted.size:
                        found.append(Reference(archive_id, number))
            except IntegrityError:
                continue  # a damaged index offers no copies
        return [other for other in found if other != ref]

    def verify(self, ref: Reference, data: bytes, record: ContentRecord) -> None:
        """Raise FormatDamaged unless *data* is the content."""
        if self.digests.content(data) != record.digest:
            raise FormatDamaged(f"{name_of(ref)}: the bytes do not have the digest of the content")
