"""Contents at the bound of their chain: written with a map of their own, without a base.

A chain may be 32 deltas deep.  The content that would be deeper gets a whole map, whose ranges
name payloads; and so that a sequential read does not need a live frame of ever more donors, the
payloads that give it fewest bytes are written anew, in the order of the content, behind its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ibtfs.errors import IntegrityError
from ibtfs.format.extents import BASE, DONOR, OWN, RANGE_LIMIT, ZEROS, MapBuilder, Range
from ibtfs.format.frames import LITERALS
from ibtfs.format.index import DEPTH_LIMIT, ContentRecord, Reference
from ibtfs.store.writing.run import RunWriter

DEPTH_BOUND = 32
CHAIN_RANGES = 600_000
"""Readers keep the maps of a chain in memory: 26 bytes a range, and 18 for those of the last base,
which RANGE_LIMIT bounds; 34 MB at most."""
DONORS_KEPT = 16
"""How many other payloads a flattened content may use; beyond, the smallest are written anew."""
LARGE_DONOR = 64 << 20
LARGE_DONORS_KEPT = 40
"""Payloads that give this much are kept as well, up to so many: rewriting them would cost more."""
COPY_BYTES = 4 << 20


@dataclass
class Draft:
    """A content being stored as a delta: what its record will say, and its map so far.

    *parts* are contents of this run that hold earlier pieces of its own payload.
    """

    digest: bytes
    size: int
    base: Reference | None
    depth: int
    builder: MapBuilder = field(default_factory=MapBuilder)
    donors: list[Reference] = field(default_factory=list)
    slabs: int = -1


def at_bound(base: ContentRecord, ranges: int = 0) -> bool:
    """Whether a delta against *base* would be deeper than a chain may be, or have more ranges.

    *ranges* is how many the chain would have then, but for the last base; the depth alone bounds
    those of small contents.
    """
    return base.depth >= DEPTH_BOUND or ranges >= CHAIN_RANGES


def flattened(writer: RunWriter, draft: Draft, start: int) -> tuple[Reference, int]:
    """Store *draft*, whose own literals begin at *start* of the literals stream, without a base."""
    try:
        return _flattened(writer, draft, start)
    except IntegrityError:
        # what the chain is built upon is damaged; the format allows it to be deeper than we like
        if draft.depth >= DEPTH_LIMIT:
            raise
        own = writer.archive.position(LITERALS) - start
        donors = tuple(draft.donors)
        record = ContentRecord(
            draft.digest, draft.size, LITERALS, start, own, draft.depth, draft.base, donors,
            slabs=draft.slabs,
        )  # fmt: skip
        return writer.add_content(record, draft.builder.finish()), own


def _flattened(writer: RunWriter, draft: Draft, start: int) -> tuple[Reference, int]:
    segments = _resolve(writer, draft)
    usage: Counter[Reference] = Counter()
    for owner, item in segments:
        if owner is not None and item.code != OWN:
            usage[owner] += item.length
    kept = _kept(usage)
    ordinals = {owner: DONOR + n for n, owner in enumerate(kept)}
    builder, own = MapBuilder(), writer.archive.position(LITERALS) - start
    for owner, item in segments:
        if owner is None or item.code == OWN:
            builder.add(*item)
        elif owner in ordinals:
            builder.add(ordinals[owner], item.offset, item.length)
        else:
            _copy(writer, owner, item)
            builder.add(OWN, own, item.length)
            own += item.length
    if len(builder.ranges) > RANGE_LIMIT:
        return _rewritten(writer, draft, start, segments)
    record = ContentRecord(
        draft.digest, draft.size, LITERALS, start, own, donors=tuple(kept), slabs=draft.slabs
    )
    return writer.add_content(record, builder.finish()), own


def _kept(usage: Counter[Reference]) -> list[Reference]:
    """The payloads that go on being used, those that give most bytes first."""
    ranked = [owner for owner, _ in usage.most_common()]
    large = sum(1 for size in usage.values() if size >= LARGE_DONOR)
    return ranked[: max(DONORS_KEPT, min(large, LARGE_DONORS_KEPT))]


def _resolve(writer: RunWriter, draft: Draft) -> list[tuple[Reference | None, Range]]:
    """The draft's ranges with copies followed to the payloads that they come from."""
    resolved: list[tuple[Reference | None, Range]] = []
    for item in draft.builder.ranges:
        if item.code == BASE and draft.base is not None:
            end = item.offset + item.length
            for owner, offset, length in writer.contents.segments(draft.base, item.offset, end):
                code = offset if owner is None else DONOR
                resolved.append((owner, Range(code, 0 if owner is None else offset, length)))
        elif item.code >= DONOR:
            resolved.append((draft.donors[item.code - DONOR], item))
        else:
            resolved.append((None, item))
    return resolved


def _copy(writer: RunWriter, owner: Reference, item: Range) -> None:
    """Append the bytes of *item*, of the payload of *owner*, to the literals stream."""
    offset, left = item.offset, item.length
    while left:
        size = min(left, COPY_BYTES)
        for piece in writer.contents.payload(owner, offset, size):
            writer.archive.append(LITERALS, piece)
        offset, left = offset + size, left - size


def _rewritten(
    writer: RunWriter, draft: Draft, start: int, segments: list[tuple[Reference | None, Range]]
) -> tuple[Reference, int]:
    """Store the whole content anew: it has more ranges than a map may have."""
    builder, own = MapBuilder(), writer.archive.position(LITERALS) - start
    holes = sum(1 for owner, item in segments if owner is None and item.code <= ZEROS)
    keep_holes = holes < RANGE_LIMIT // 4
    for owner, item in segments:
        if owner is None and (keep_holes or item.code == OWN):
            builder.add(*item)
            continue
        if owner is None:
            builder.add(OWN, own, _append_zeros(writer, item.length))
            own += item.length
            continue
        _copy(writer, owner, item)
        builder.add(OWN, own, item.length)
        own += item.length
    record = ContentRecord(draft.digest, draft.size, LITERALS, start, own, slabs=draft.slabs)
    return writer.add_content(record, builder.finish()), own


def _append_zeros(writer: RunWriter, length: int) -> int:
    """Append *length* zeros to the literals stream; *length*."""
    for first in range(0, length, COPY_BYTES):
        writer.archive.append(LITERALS, bytes(min(COPY_BYTES, length - first)))
    return length
