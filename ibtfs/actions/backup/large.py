"""Storing contents that do not fit in memory: one pass, slab by slab.

A slab whose digest is the base's at the same place is a copy.  Of one that differs the pages that
do are matched in small blocks against the base's own bytes around the place where the last match
was.  After many slabs in a row that are mostly new, librsync looks for the rest in the whole base,
by a signature made of it.  A content without a base may be found by the digest of its first slab: a
copy of a file, or the pieces that a run which was cut off had stored already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ibtfs.actions.backup.read_ahead import Read, ReadAhead
from ibtfs.actions.deltas.kept_sums import KeptSums
from ibtfs.actions.deltas.matcher import Matcher
from ibtfs.actions.source.chunks import ByteSource
from ibtfs.actions.source.holes import Piece
from ibtfs.errors import BaseDamaged, IntegrityError, SourceError
from ibtfs.format.digests import SLAB, ZERO_SLAB
from ibtfs.format.extents import HOLE, ZEROS
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store.contents.slabs import SlabDigests, kept_of, load_slabs, read_slabs
from ibtfs.store.writing.draft import Draft, Stored
from ibtfs.store.writing.flatten import at_bound
from ibtfs.store.writing.run import RunWriter

ADOPTED_LIMIT = 32
_ZEROS = bytes(SLAB)


class StoredLarge(NamedTuple):
    """What became of a large file: its content (None: it was empty), its length, bytes added."""

    ref: Reference | None
    size: int
    added: int


class _Part(NamedTuple):
    """A stored content whose slab 0 may lie at slab *first* of the file."""

    stored: Stored
    first: int


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
    _draft: Draft = field(init=False)
    _matcher: Matcher | None = field(default=None, init=False)
    _part: _Part | None = field(default=None, init=False)
    _seeking: bool = field(default=True, init=False)
    _slabs: SlabDigests = field(default_factory=SlabDigests, init=False)
    _sums: KeptSums = field(init=False)

    def store(self) -> StoredLarge:
        """Read the file once and store it.  Raises SourceError; IbtfsError of the repository."""
        base = self._stored(self.old) if self.old is not None else None
        self._draft = Draft(self.writer, base, expected=self.size)
        self._begin_matching()
        self._sums = KeptSums(self.writer, self.size, self.old)
        reads = ReadAhead(self.source, self.writer, self._look_ahead)
        try:
            # closed at once when storing fails: until then a thread reads what the caller closes
            with contextlib.closing(reads.chunks()) as chunks:
                for read in chunks:
                    self._add(read)
                    self.writer.beat()
                    self.progress(read.chunk.length)
            self._flush()
            stored = self._finish(reads.finish(), reads.size)
            if stored.ref is not None:
                self._sums.keep(stored.ref)
            return stored
        finally:
            self._end_matching()
            self._sums.close()

    def _stored(self, ref: Reference) -> Stored | None:
        """A content to compare with, if this run may use it and its slabs can be told."""
        record = None if self.writer.is_open(ref) else self.writer.usable(ref)
        if record is None or not self._may_be_base(record):
            return None
        if record.slabs >= 0:
            with contextlib.suppress(IntegrityError):
                return Stored(ref, record, load_slabs(self.writer.repository, record, ref.archive))
        # it was small, or stored for something else, or they are gone: made from its stored bytes,
        # and what is built upon it lists all of its own
        try:
            slabs = read_slabs(self.writer.contents, ref, record.size)
        except IntegrityError:
            return None
        return Stored(ref, record._replace(slabs=-1), slabs)

    def _may_be_base(self, record: ContentRecord) -> bool:
        """Whether a chain can end with a delta upon it: who reads no payload cannot put it anew."""
        return self.writer.repository.own is None or not at_bound(record)

    def _begin_matching(self) -> None:
        self._end_matching()
        base = self._draft.base
        if base is not None:
            own = self.writer.repository.own
            self._matcher = Matcher(self.writer.contents, base, self._draft, self.size, own)

    def _end_matching(self) -> None:
        if self._matcher is not None:
            self._matcher.close()
            self._matcher = None

    def _flush(self) -> None:
        """Add what waits to be matched: what is added next lies behind it."""
        if self._matcher is not None:
            self._matcher.flush()

    def _look_ahead(self, read: Read) -> None:
        """Have read what the slabs of *read* will be matched with; runs in another thread."""
        base, matcher = self._draft.base, self._matcher
        if base is None or matcher is None:
            return
        for start, slab, digest in read.slabs():
            if digest != ZERO_SLAB and not base.has(start // SLAB, digest, len(slab)):
                matcher.read_ahead(start, len(slab))

    def _add(self, read: Read) -> None:
        """Add what was read."""
        if read.chunk.is_hole:
            self._slabs.add_zeros(read.chunk.length // SLAB)
            self._hole(read.chunk.length)
            self._sums.close()  # there may be more of it than of anything else
            return
        for start, slab, digest in read.slabs():
            self._slabs.append(digest)
            self._sums.update(slab)
            self._slab(slab, digest, start, read.pieces(start, start + len(slab)))

    def _slab(self, slab: memoryview, digest: bytes, start: int, pieces: list[Piece]) -> None:
        if self._draft.is_full:
            self._flush()
            self._draft.append(slab, digest)
            return
        holes = any(piece.hole for piece in pieces) and not self._draft.is_crowded
        if digest == ZERO_SLAB or holes:
            for piece in pieces or [Piece(start, len(slab), hole=False)]:
                self._piece(slab, start, piece, zeros=digest == ZERO_SLAB)
        elif not self._copied(start, digest, len(slab)):
            self._changed(slab, start, digest)

    def _hole(self, length: int) -> None:
        """A hole of whole slabs."""
        if not self._draft.is_full:
            self._emit(HOLE, 0, length)
            return
        self._flush()
        for _ in range(length // SLAB):
            self._draft.append(_ZEROS, ZERO_SLAB)
            self.writer.beat()

    def _piece(self, slab: memoryview, start: int, piece: Piece, *, zeros: bool) -> None:
        """A part of a slab that has holes or is all zeros."""
        if piece.hole or zeros:
            self._emit(HOLE if piece.hole else ZEROS, 0, piece.length)
        else:
            first = piece.start - start
            self._changed(slab[first : first + piece.length], piece.start)

    def _emit(self, code: int, offset: int, length: int) -> None:
        self._flush()
        self._draft.add(code, offset, length)

    def _changed(self, data: memoryview, start: int, digest: bytes | None = None) -> None:
        if self._matcher is not None:
            self._matcher.add(data, start)
        else:
            self._draft.append(data, digest)

    def _copied(self, start: int, digest: bytes, length: int) -> bool:
        """Whether the slab was taken from the base, or from another content found by its head."""
        number = start // SLAB
        found = self._is_in_base(number, digest, length)
        if found or (self._seek(number, digest) and self._is_in_base(number, digest, length)):
            self._flush()
            self._draft.copy(start, length)
            return True
        part = self._part
        if part is None or not part.stored.has(number - part.first, digest, length):
            return False
        self._emit(self._draft.donor(part.stored.ref), (number - part.first) * SLAB, length)
        return True

    def _is_in_base(self, number: int, digest: bytes, length: int) -> bool:
        base = self._draft.base
        return base is not None and base.has(number, digest, length)

    def _seek(self, number: int, digest: bytes) -> bool:
        """Look for a content that begins with slab *number*, at the start and behind each part.

        One that is alike becomes the base: whether there is another one now.
        """
        part, draft = self._part, self._draft
        if part is not None and number - part.first >= len(part.stored.slabs):
            self._part, self._seeking = None, True
        seeking, self._seeking = self._seeking, False
        if not seeking or draft.copies:
            return False  # what was copied from the base at hand is in the map
        for ref in self.writer.heads(kept_of(digest)):
            stored = self._stored(ref)
            if stored is None or (draft.base is not None and stored.record.size != self.size):
                continue
            first = number - stored.slabs.leading_zeros()
            if stored.record.is_plain and stored.record.size < self.size:
                if len(draft.donors) < ADOPTED_LIMIT:
                    self._part = _Part(stored, first)
                    break
            elif first == 0 and not draft.own:
                draft.rebase(stored)
                self._begin_matching()
                return True
        return False

    def _finish(self, digest: bytes, size: int) -> StoredLarge:
        """Refer to the same content, with the same holes, if it is there; else write the draft."""
        draft, writer = self._draft, self.writer
        if not size:
            return StoredLarge(None, 0, 0)  # emptied, or cut short, since it was looked at
        found = writer.find(digest, size)
        if found and (not draft.holes or draft.holes == writer.holes_of(found)):
            return StoredLarge(found, size, draft.added)
        try:
            ref, added = draft.finish(digest, size, self._slabs)
        except BaseDamaged as error:
            raise SourceError(
                f"is built upon contents that are damaged ({error}): run check, and back up "
                "again, to store it anew"
            ) from error
        return StoredLarge(ref, size, added)
