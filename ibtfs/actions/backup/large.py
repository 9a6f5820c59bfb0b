"""Storing contents that do not fit in memory: one pass, slab by slab.

A thread reads, hashes and fetches the base's bytes one chunk ahead.  A slab whose digest is the
base's at the same place is a copy.  Of one that differs the pages that do are matched in small
blocks against the base's own bytes around the place where the last match was.  After many
slabs in a row that are mostly new, librsync looks for the rest in the whole base, by a signature
made of it.  A content without a base may be found by the digest of its first slab: a copy of a
file, or the pieces that a run which was cut off had stored already.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from blake3 import blake3

from ibtfs.actions.deltas.matcher import Matcher
from ibtfs.actions.source.chunks import ByteSource
from ibtfs.actions.source.holes import Piece
from ibtfs.errors import IntegrityError, SourceError
from ibtfs.format.extents import BASE, DONOR, HOLE, OWN, ZEROS, Range
from ibtfs.format.frames import LARGE, LITERALS
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store.contents.slabs import (
    SLAB,
    ZERO_DIGEST,
    SlabDigests,
    encode_slabs,
    load_slabs,
    read_slabs,
    slab_digest,
)
from ibtfs.store.writing.draft import Payload
from ibtfs.store.writing.flatten import Draft, at_bound, flattened
from ibtfs.store.writing.run import Holes, RunWriter

ADOPTED_LIMIT = 32


@dataclass
class _Candidate:
    """A stored content whose slabs are compared: slab 0 of it lies at slab *first* of the file."""

    ref: Reference
    record: ContentRecord
    digests: SlabDigests
    first: int = 0

    def has(self, slab: int, digest: bytes, length: int) -> bool:
        """Whether slab number *slab* of the file is the same here."""
        mine = slab - self.first
        if not 0 <= mine < len(self.digests) or self.digests[mine] != digest:
            return False
        return min(SLAB, self.record.size - mine * SLAB) == length


class _Read(NamedTuple):
    """A chunk of the source, its holes, and the digests of its slabs.

    *is_hole*: it is all a hole, and whole slabs.
    """

    data: bytes | memoryview
    holes: list[Piece]
    digests: list[bytes]
    is_hole: bool = False


@dataclass
class StoredLarge:
    """What became of a large file: its content (None: it was empty), its length, bytes added."""

    ref: Reference | None
    size: int
    stored: int


@dataclass
class LargeFile:
    """Stores what *source* gives, about *size* bytes; *old* is what its path held before.

    *progress* is called with the bytes of each step.
    """

    writer: RunWriter
    source: ByteSource
    size: int
    old: Reference | None
    progress: Callable[[int], None]
    _base: _Candidate | None = field(default=None, init=False)
    _part: _Candidate | None = field(default=None, init=False)
    _seeking: bool = field(default=True, init=False)
    _digests: SlabDigests = field(default_factory=SlabDigests, init=False)

    def store(self) -> StoredLarge:
        """Read the file once and store it.  Raises SourceError; IbtfsError of the repository."""
        if self.old is not None:
            self._base = self._known(self.old)
        self._payload = Payload(self.writer, LITERALS if self._base else LARGE, self.size)
        self._matcher = self._new_matcher()
        try:
            digest, size = self._read()
        finally:
            if self._matcher is not None:
                self._matcher.close()
        return self._finish(digest, size)

    def _read(self) -> tuple[bytes, int]:
        """Go through the source; its digest and length."""
        hasher = blake3()
        position = 0
        # closed at once when storing fails: until then a thread reads what the caller is to close
        with contextlib.closing(self._chunks(hasher)) as chunks:
            for read in chunks:
                self._slabs(read, position)
                position += len(read.data)
                self.writer.beat()
                self.progress(len(read.data))
        if self._matcher is not None:
            self._matcher.flush()
        return hasher.digest(), position

    def _chunks(self, hasher: blake3) -> Generator[_Read, None, None]:
        """What the source holds, piece by piece; the next one is read while one is worked on."""
        position, following = 0, None
        try:
            while True:
                read = following.result() if following else self._chunk(position, hasher)
                following = None
                if not read.data:
                    return
                position += len(read.data)
                if self.source.ready:
                    following = self.writer.submit(self._chunk, position, hasher)
                yield read
        finally:
            if following is not None and not following.cancel():
                concurrent.futures.wait([following])  # it uses what the caller is to close

    def _chunk(self, position: int, hasher: blake3) -> _Read:
        """Read, hash and look at the next chunk; runs in another thread, one at a time."""
        chunk = self.source.chunk(position)
        data, holes = chunk
        hasher.update(data)
        if chunk.is_hole and len(data) % SLAB == 0:
            return _Read(data, holes, [ZERO_DIGEST] * (len(data) // SLAB), is_hole=True)
        view = memoryview(data)
        slabs = [view[first : first + SLAB] for first in range(0, len(data), SLAB)]
        digests = [slab_digest(slab) for slab in slabs]
        base, matcher = self._base, self._matcher
        if base is not None and matcher is not None:
            for number, (slab, digest) in enumerate(zip(slabs, digests), position // SLAB):
                if digest != ZERO_DIGEST and not base.has(number, digest, len(slab)):
                    matcher.read_ahead(number * SLAB, len(slab))
        return _Read(data, holes, digests)

    def _new_matcher(self) -> Matcher | None:
        if self._base is None:
            return None
        base = self._base
        return Matcher(self.writer.contents, base.ref, base.record.size, self._payload, self.size)

    def _known(self, ref: Reference) -> _Candidate | None:
        """A content to compare with, if this run may use it and its slabs were kept."""
        record = None if self.writer.is_open(ref) else self.writer.usable(ref)
        if record is None:
            return None
        try:
            if record.slabs >= 0:
                digests = load_slabs(self.writer.repository, record, ref.archive)
            else:  # it was small, or stored for something else: made from its stored bytes
                digests = read_slabs(self.writer.contents, ref, record.size)
        except IntegrityError:
            return None
        return _Candidate(ref, record, digests)

    def _slabs(self, read: _Read, position: int) -> None:
        if read.is_hole and not self._payload.is_crowded:
            for digest in read.digests:
                self._digests.append(digest)
            self._emit(HOLE, 0, len(read.data))
            return
        view = memoryview(read.data)
        for number, digest in enumerate(read.digests):
            slab = view[number * SLAB : (number + 1) * SLAB]
            start = position + number * SLAB
            inside = [
                p for p in read.holes if p.start < start + len(slab) and start < p.start + p.length
            ]
            self._slab(slab, digest, start, [p.cut(start, start + len(slab)) for p in inside])

    def _slab(self, slab: memoryview, digest: bytes, start: int, found: list[Piece]) -> None:
        number = start // SLAB
        self._digests.append(digest)
        if self._payload.is_full:
            if self._matcher is not None:
                self._matcher.flush()
            self._payload.append(slab)
            return
        holes = any(piece.hole for piece in found) and not self._payload.is_crowded
        if digest == ZERO_DIGEST or holes:
            for piece in found or [Piece(start, len(slab), hole=False)]:
                self._piece(slab, start, piece, zeros=digest == ZERO_DIGEST)
        elif self._base is not None and self._base.has(number, digest, len(slab)):
            self._emit(BASE, start, len(slab))
        elif not self._from_part(number, digest, len(slab)):
            self._changed(slab, start)

    def _piece(self, slab: memoryview, start: int, piece: Piece, *, zeros: bool) -> None:
        """A part of a slab that has holes or is all zeros."""
        if piece.hole or zeros:
            self._emit(HOLE if piece.hole else ZEROS, 0, piece.length)
        else:
            first = piece.start - start
            self._changed(slab[first : first + piece.length], piece.start)

    def _emit(self, code: int, offset: int, length: int) -> None:
        if self._matcher is not None:
            self._matcher.flush()
        self._payload.builder.add(code, offset, length)

    def _changed(self, data: memoryview, start: int) -> None:
        if self._matcher is not None:
            self._matcher.add(data, start)
        else:
            self._payload.append(data)

    def _from_part(self, number: int, digest: bytes, length: int) -> bool:
        """Whether the slab was taken from another content, found by the digest of its head."""
        part = self._part
        if part is not None and number - part.first >= len(part.digests):
            self._part, self._seeking = None, True
        if self._seeking:
            self._seeking = False
            self._adopt(number, digest)
        if self._base is not None and self._base.has(number, digest, length):
            self._emit(BASE, number * SLAB, length)
            return True
        part = self._part
        if part is None or not part.has(number, digest, length):
            return False
        donor = self._payload.donor(part.ref)
        self._emit(DONOR + donor, (number - part.first) * SLAB, length)
        return True

    def _adopt(self, number: int, digest: bytes) -> None:
        """Look for a content that begins with this slab: as base if it is alike, else a part."""
        if any(item.code == BASE for item in self._payload.builder.ranges):
            return  # copies from the base at hand are in the map: it cannot be another now
        for ref in self.writer.heads(digest):
            known = self._known(ref)
            if known is None or (self._base is not None and known.record.size != self.size):
                continue
            heads = (n for n in range(len(known.digests)) if known.digests[n] != ZERO_DIGEST)
            known.first = number - next(heads, 0)
            if known.record.is_plain and known.record.size < self.size:
                if len(self._payload.donors) < ADOPTED_LIMIT:
                    self._part = known
                    return
            elif known.first == 0 and not self._payload.own:
                self._base = known
                self._payload.restart(LITERALS)
                if self._matcher is not None:
                    self._matcher.close()
                self._matcher = self._new_matcher()
                return

    def _finish(self, digest: bytes, size: int) -> StoredLarge:
        payload = self._payload
        if not size:
            return StoredLarge(None, 0, 0)  # emptied, or cut short, since it was looked at
        holes = _holes(item[0::2] for item in payload.builder.ranges)
        found = self.writer.find(digest, size)
        if found is not None and (not holes or holes == self._holes_of(found, size)):
            return StoredLarge(found, size, payload.total)
        ref, stored = self._record(digest, size)
        if holes:
            self.writer.holes[ref] = holes
        return StoredLarge(ref, size, stored)

    def _holes_of(self, ref: Reference, size: int) -> Holes:
        """Where the holes of a stored content are: the same bytes may have other holes."""
        if self.writer.is_open(ref):
            return self.writer.holes.get(ref, ())
        try:
            segments = self.writer.contents.segments(ref, 0, size)
            return _holes(
                (HOLE if s.owner is None and not s.offset else OWN, s.length) for s in segments
            )
        except IntegrityError:
            return ()

    def _ranges(self, base: Reference, mine: Sequence[Range]) -> int:
        """How many ranges the chain would have, with *mine*; 0 where it cannot be read."""
        try:
            past = self.writer.contents.chain_ranges(base)
        except IntegrityError:
            return 0
        starts = itertools.accumulate((item.length for item in mine), initial=0)
        in_place = sum(1 for s, item in zip(starts, mine) if item[:2] == (BASE, s))
        return past + len(mine) - in_place

    def _record(self, digest: bytes, size: int) -> tuple[Reference, int]:
        """Add the record of the content that was read; payload bytes added for it."""
        payload = self._payload
        ranges = payload.builder.ranges
        base = self._base if any(item.code == BASE for item in ranges) else None
        flat = base is not None and at_bound(base.record, self._ranges(base.ref, ranges))
        listed = base is not None and base.record.slabs >= 0 and not flat
        bodies = encode_slabs(self._digests, base.digests if base and listed else None)
        slabs = self.writer.archive.add_slabs(bodies)
        if base is not None and flat:
            draft = Draft(
                digest,
                size,
                base.ref,
                base.record.depth + 1,
                payload.builder,
                payload.donors,
                slabs,
            )
            try:
                ref, own = flattened(self.writer, draft, payload.start)
            except IntegrityError as error:
                raise SourceError(
                    f"is built upon contents that are damaged ({error}): run check, and back up "
                    "again, to store it anew"
                ) from error
            return ref, payload.total - payload.own + own
        record = ContentRecord(
            digest, size, payload.stream, payload.start, payload.own,
            base.record.depth + 1 if base else 0, base.ref if base else None,
            tuple(payload.donors), slabs=slabs,
        )  # fmt: skip
        plain = len(ranges) == 1 and ranges[0].code == OWN
        extents = None if plain else payload.builder.finish()
        return self.writer.add_content(record, extents), payload.total


def _holes(ranges: Iterable[Sequence[int]]) -> Holes:
    """The (start, length) of the holes among ranges given as (code, length)."""
    found: list[tuple[int, int]] = []
    position = 0
    for code, length in ranges:
        if code == HOLE:
            if found and sum(found[-1]) == position:
                found[-1] = (found[-1][0], found[-1][1] + length)
            else:
                found.append((position, length))
        position += length
    return tuple(found)
