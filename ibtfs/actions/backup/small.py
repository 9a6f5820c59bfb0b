"""Storing contents that fit in memory: looked up by digest, else as a delta, else whole."""

from __future__ import annotations

from ibtfs.actions.deltas.match import literal_bytes, match
from ibtfs.errors import IntegrityError
from ibtfs.format.extents import BASE, OWN, MapBuilder
from ibtfs.format.frames import LARGE, LITERALS, SMALL, digest
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.format.rdelta import LITERAL, Match
from ibtfs.store.writing.flatten import Draft, at_bound, flattened
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
    name = digest(data)
    base = _usable(writer, old)
    if old is not None and base is not None and (base.digest, base.size) == (name, len(data)):
        return old, 0  # only touched: no need to look it up
    found = writer.find(name, len(data))
    if found is not None:
        return found, 0
    if old is not None and base is not None and len(data) >= DELTA_LEAST:
        stored = _store_delta(writer, data, name, old, base)
        if stored is not None:
            return stored
    stream = SMALL if len(data) <= SMALL_LIMIT else LARGE
    return writer.add_whole(stream, name, data), len(data)


def _usable(writer: RunWriter, old: Reference | None) -> ContentRecord | None:
    """The record of *old*, if this run may refer to it and its bytes can be read by now."""
    return None if old is None or writer.is_open(old) else writer.usable(old)


def _store_delta(
    writer: RunWriter, data: bytes, name: bytes, old: Reference, base: ContentRecord
) -> tuple[Reference, int] | None:
    """Store *data* as a delta against *old*, whose record is *base*; None if not worth it."""
    if base.size < DELTA_LEAST or base.size > 16 * len(data) + (1 << 20):
        return None
    ops = _matches(writer, data, old, base)
    if ops is None:
        return None
    cost = literal_bytes(ops) + OP_BYTES * len(ops) + MAP_BYTES
    if cost > len(data) // 2:
        return None
    draft = Draft(name, len(data), old, base.depth + 1)
    start = writer.archive.position(LITERALS)
    build_ops(draft.builder, ops, data, writer)
    if at_bound(base):
        try:
            return flattened(writer, draft, start)
        except IntegrityError:
            return None
    length = writer.archive.position(LITERALS) - start
    record = ContentRecord(name, len(data), LITERALS, start, length, draft.depth, old)
    return writer.add_content(record, draft.builder.finish()), length


def _matches(
    writer: RunWriter, data: bytes, old: Reference, base: ContentRecord
) -> list[Match] | None:
    """What of *data* is in *old*, whose record is *base*; None if that cannot be read.

    Whether something was only appended shows in the digest of what was there before: then the
    base is not read, of which a small one costs a frame of 1 MiB.
    """
    size = base.size
    if len(data) > size and digest(memoryview(data)[:size]) == base.digest:
        return [(0, 0, size), (LITERAL, size, len(data) - size)]
    try:
        bytes_of_base = writer.contents.read(old, 0, size)
        writer.contents.verify(old, bytes_of_base, base)
    except IntegrityError:
        return None
    block = FINE_BLOCK if len(data) <= COARSE_ABOVE else COARSE_BLOCK
    return match(bytes_of_base, data, block_size=block)


def build_ops(builder: MapBuilder, ops: list[Match], data: bytes, writer: RunWriter) -> None:
    """Append the literals among *ops* to the literals stream, and all to the map."""
    view, own = memoryview(data), 0
    for source, target, length in ops:
        if source == LITERAL:
            writer.archive.append(LITERALS, view[target : target + length])
            builder.add(OWN, own, length)
            own += length
        else:
            builder.add(BASE, source, length)
