"""Finding changed slabs in the base: near the same place first, then anywhere in it."""

from __future__ import annotations

from ibtfs.actions.deltas.kept_sums import kept_signature
from ibtfs.actions.deltas.match import PAGE, literal_bytes, match, match_in_place, without_crumbs
from ibtfs.errors import IntegrityError, LibraryMissing
from ibtfs.format.digests import SLAB
from ibtfs.format.rdelta import LITERAL
from ibtfs.format.rsync import Signature, SignatureWriter
from ibtfs.store.contents.reader import Contents
from ibtfs.store.own_runs import OwnRuns
from ibtfs.store.writing.draft import Draft, Stored

NEAR_BLOCK, WIDE_BLOCK = 64, 128
SHORT_COPY = 256
"""A shorter copy between literals is stored as literals too.  In a database of 256 MB, at 96, 160,
256 and 512 bytes, a change had 12, 24, 37 and 49 % fewer ranges, and took 1, 7, 22 and 43 % more
bytes; each range is looked at by everybody who reads what lies there, for 30 generations."""
FAR_AFTER = 16
"""So many slabs in a row that are mostly new end near matching, at least."""
FAR_PART = 32
"""Of a large base, so many as make this part of it: to sign 2 GB takes 4 seconds, and a disk image
into which a megabyte was written is not to wait for that."""
APPENDED = 32
"""What follows the end of the base is taken for new, up to this part of the base: to sign all of a
log costs a hundred times what was appended to it.  Only more than that may be worth a search."""
AHEAD = 64
"""Windows of the base that were read ahead and are kept at most."""
FAR_BLOCK = 1 << 10
FAR_BUFFER = 4 << 20
READ = 1 << 20


class Matcher:
    """Adds changed data of a content of *size* bytes, a delta against *base*, to its draft.

    Who only writes cannot read the base: of its *own* runs it has a signature of that, or all that
    changed is new.
    Used by one thread.
    """

    def __init__(
        self, contents: Contents, base: Stored, draft: Draft, size: int, own: OwnRuns | None = None
    ) -> None:
        self._contents, self._base, self._base_size = contents, base.ref, base.record.size
        self._draft, self._size = draft, size
        self._shift = 0
        self._poor = 0
        self._appended = 0
        self._ahead: dict[tuple[int, int, int], tuple[bytes, int]] = {}
        self._signature: Signature | None = kept_signature(own, base.ref)
        self._is_unread = own is not None
        self._far = self._is_unread
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    @property
    def _whole(self) -> bool:
        """Whether so much is new, or scattered so much, that the rest is stored as it is."""
        if self._draft.is_crowded or (self._is_unread and self._signature is None):
            return True
        return self._draft.added > max(self._size, self._base_size) // 2

    def add(self, data: memoryview, start: int) -> None:
        """Add changed *data* at *start* of the content, at most a slab."""
        if self._whole:
            self.flush()
            self._draft.append(data)
        elif self._far:
            self._waiting.append(bytes(data))
            self._waiting_bytes += len(data)
            if self._waiting_bytes >= FAR_BUFFER:
                self.flush()
        else:
            self._near(bytes(data), start)

    def _near(self, data: bytes, start: int) -> None:
        """Match one slab around the place where the last match was."""
        if self._appended < self._base_size // APPENDED and start + self._shift >= self._base_size:
            self._appended += len(data)
            self._emit(data, [(LITERAL, 0, len(data))])
            return
        found_ahead = self._ahead.pop((start, len(data), self._shift), None)
        base, low = found_ahead or self._window(len(data), start, 0, self._shift)
        at = start + self._shift - low
        found = match_in_place(base, at, data, block_size=NEAR_BLOCK) if at >= 0 else []
        if at < 0 or literal_bytes(found) > len(data) // 4:
            base, wide_low = self._window(len(data), start, SLAB, self._shift)
            wide = match(base, data, block_size=WIDE_BLOCK)
            if not found or literal_bytes(wide) < literal_bytes(found):
                found, low = wide, wide_low
        self._emit(data, [(s if s == LITERAL else s + low, t, n) for s, t, n in found])
        # what moved inside a page of a database says nothing of the pages that follow
        copies = [item for item in found if item[0] != LITERAL and item[2] >= PAGE]
        if copies:
            source, target, _ = copies[-1]
            self._shift = low + source - start - target
        self._poor = self._poor + 1 if literal_bytes(found) > len(data) // 2 else 0
        self._far = self._poor >= max(FAR_AFTER, self._base_size // SLAB // FAR_PART)

    def _window(self, length: int, start: int, margin: int, shift: int) -> tuple[bytes, int]:
        """The base around where *length* bytes at *start* are expected, and where that begins."""
        low = max(start + shift - margin, 0)
        high = min(start + shift + length + margin, self._base_size)
        if low >= high:
            return b"", low
        try:
            return self._contents.read(self._base, low, high - low), low
        except IntegrityError:
            return b"", low  # what cannot be read is no base

    def read_ahead(self, start: int, length: int) -> None:
        """Read what :meth:`add` will want for data at *start*; one other thread may do it."""
        if self._far or self._whole:
            return
        if len(self._ahead) >= AHEAD:
            self._ahead.clear()  # what was not asked for: another way was found to store it
        shift = self._shift
        self._ahead[start, length, shift] = self._window(length, start, 0, shift)

    def _emit(self, data: bytes, found: list[tuple[int, int, int]]) -> None:
        view = memoryview(data)
        for source, target, length in without_crumbs(found, SHORT_COPY):
            if source == LITERAL:
                for first in range(target, target + length, SLAB):
                    self._draft.append(view[first : min(first + SLAB, target + length)])
            else:
                self._draft.copy(source, length)

    def flush(self) -> None:
        """Match what waits for the signature of the whole base, and add it."""
        if not self._waiting:
            return
        data, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
        try:
            if self._signature is None:
                self._signature = self._sign()
            found = self._signature.matches(data)
        except (IntegrityError, LibraryMissing):
            found = [(LITERAL, 0, len(data))]
        self._emit(data, [self._verified(data, item) for item in found])

    def _sign(self) -> Signature:
        """The signature of the whole base, from its stored bytes."""
        block = max(FAR_BLOCK, self._base_size >> 19)
        with SignatureWriter(block) as writer:
            parts = [
                writer.update(self._contents.read(self._base, start, READ))
                for start in range(0, self._base_size, READ)
            ]
            parts.append(writer.finish())
        return Signature(b"".join(parts))

    def _verified(self, data: bytes, item: tuple[int, int, int]) -> tuple[int, int, int]:
        """*item*, made a literal unless the base really has those bytes."""
        source, target, length = item
        if source == LITERAL or self._is_unread:
            return item  # of what cannot be read there are whole hashes
        try:
            same = self._contents.read(self._base, source, length) == data[target : target + length]
        except IntegrityError:
            same = False
        return item if same else (LITERAL, target, length)

    def close(self) -> None:
        """Free the signature."""
        if self._signature is not None:
            self._signature.close()
            self._signature = None
