"""Storing contents that fit in memory: looked up by digest, else as a delta, else whole."""

from __future__ import annotations

from ibtfs.actions.deltas.kept_sums import KeptSums, kept_signature
from ibtfs.actions.deltas.match import literal_bytes, match
from ibtfs.errors import BaseDamaged, IntegrityError
from ibtfs.format.frames import LARGE, SMALL
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.format.rdelta import LITERAL, Match
from ibtfs.store.contents.slabs import SlabDigests
from ibtfs.store.writing.draft import Draft, Stored
from ibtfs.store.writing.run import RunWriter

SMALL_LIMIT = 128 << 10
"""Whole contents up to this size share frames that cut none of them; larger ones are cut."""
FINE_BLOCK, COARSE_BLOCK = 64, 128
COARSE_ABOVE = 256 << 10
DELTA_LEAST = 256
"""Contents below this size are cheaper stored whole than as a delta with its map."""
OP_BYTES = 6
MAP_BYTES = 64


def store_bytes(writer: RunWriter, data: bytes, old: Reference | None) -> tuple[Reference, int]:
    """Store a content that is not empty; its reference, and the payload bytes added.

    *old* is the content that the same path had before, a base for a delta.
    """
    ref, added = _stored(writer, data, old)
    if added:
        sums = KeptSums(writer, len(data), old)
        sums.update(data)
        sums.keep(ref)
    return ref, added


def _stored(writer: RunWriter, data: bytes, old: Reference | None) -> tuple[Reference, int]:
    digest = writer.digests.content(data)
    base = _usable(writer, old)
    if old is not None and base is not None and (base.digest, base.size) == (digest, len(data)):
        return old, 0  # only touched: no need to look it up
    found = writer.find(digest, len(data))
    if found is not None:
        return found, 0
    if old is not None and base is not None and len(data) >= DELTA_LEAST:
        stored = _store_delta(writer, data, digest, Stored(old, base, SlabDigests()))
        if stored is not None:
            return stored
    stream = SMALL if len(data) <= SMALL_LIMIT else LARGE
    return writer.add_whole(stream, digest, data), len(data)


def _usable(writer: RunWriter, old: Reference | None) -> ContentRecord | None:
    """The record of *old*, if this run may refer to it and its bytes can be read by now."""
    return None if old is None or writer.is_open(old) else writer.usable(old)


def _store_delta(
    writer: RunWriter, data: bytes, digest: bytes, base: Stored
) -> tuple[Reference, int] | None:
    """Store *data* as a delta against *base*; None if that cannot be, or is not worth it."""
    size = base.record.size
    if size < DELTA_LEAST or size > 16 * len(data) + (1 << 20):
        return None
    found = _matches(writer, data, base)
    if found is None:
        return None
    cost = literal_bytes(found) + OP_BYTES * len(found) + MAP_BYTES
    if cost > len(data) // 2:
        return None
    draft, view = Draft(writer, base), memoryview(data)
    for source, target, length in found:
        if source == LITERAL:
            draft.append(view[target : target + length])
        else:
            draft.copy(source, length)
    try:
        return draft.finish(digest, len(data))
    except BaseDamaged:
        return None


def _matches(writer: RunWriter, data: bytes, base: Stored) -> list[Match] | None:
    """What of *data* is in *base*; None if that cannot be read.

    Whether something was only appended shows in the digest of what was there before: then the
    base is not read, of which a small one costs a frame of 1 MiB.
    """
    size = base.record.size
    if len(data) > size and writer.digests.content(memoryview(data)[:size]) == base.record.digest:
        return [(0, 0, size), (LITERAL, size, len(data) - size)]
    if writer.repository.own is not None:
        signature = kept_signature(writer.repository.own, base.ref)
        if signature is None:
            return None
        with signature:
            return signature.matches(data)
    try:
        bytes_of_base = writer.contents.read(base.ref, 0, size)
        writer.contents.verify(base.ref, bytes_of_base, base.record)
    except IntegrityError:
        return None
    block = FINE_BLOCK if len(data) <= COARSE_ABOVE else COARSE_BLOCK
    return match(bytes_of_base, data, block_size=block)
