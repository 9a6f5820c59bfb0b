"""Signatures of contents that a machine keeps which only writes: what a base is to it.

It cannot read what it has stored.  So of each content that came in the place of another it keeps a
signature, made as it was read, and the next one is matched with that.  What changed once will most
likely change again; of all others there is none, and slabs alone are compared.
"""

from __future__ import annotations

from ibtfs.errors import FormatDamaged, LibraryMissing
from ibtfs.format.index import Reference
from ibtfs.format.rsync import MAX_STRONG_SIZE, Signature, SignatureWriter
from ibtfs.store.own_runs import OwnRuns
from ibtfs.store.writing.run import RunWriter

BLOCK = 2 << 10
"""60 edits in 24 MB take 135 KB then, and 3.8 MB by slabs alone; the signature takes 442 KB."""
LEAST = 64 << 10
"""Smaller contents are stored whole: a signature of them would be a file for little."""


class KeptSums:
    """The signature of a content of *size* bytes that is being stored in the place of *old*.

    There is none of contents that are new, or small, or for who can read what is stored.  Nothing
    is compared with the base when a copy is found by it: so it has the whole of its hashes.
    """

    def __init__(self, writer: RunWriter, size: int, old: Reference | None) -> None:
        self._own: OwnRuns | None = writer.repository.own
        self._old = old
        self._pieces: list[bytes] = []
        self._writer: SignatureWriter | None = None
        if self._own is not None and old is not None and size >= LEAST:
            try:
                self._writer = SignatureWriter(max(BLOCK, size >> 19), MAX_STRONG_SIZE)
            except LibraryMissing:
                return

    def update(self, data: bytes | memoryview) -> None:
        """Take the next *data* of the content."""
        if self._writer is not None:
            self._pieces.append(self._writer.update(data))

    def close(self) -> None:
        """Make none, after all."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def keep(self, ref: Reference) -> None:
        """Keep it as that of *ref*, which is stored now.  Raises StorageFull, StorageFailed."""
        if self._writer is None or self._own is None:
            return
        self._own.keep_sums(ref, b"".join((*self._pieces, self._writer.finish())))
        if self._old is not None and self._old != ref:
            self._own.drop_sums(self._old)
        self.close()


def kept_signature(own: OwnRuns | None, base: Reference) -> Signature | None:
    """The signature that was kept of *base*, to be closed; None if there is none."""
    sums = b"" if own is None else own.sums(base)
    if not sums:
        return None
    try:
        return Signature(sums)
    except (FormatDamaged, LibraryMissing):
        return None
