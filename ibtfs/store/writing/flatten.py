"""Contents at the bound of their chain: when they get a map of their own, and what it names.

A chain may be 32 deltas deep.  The content that would be deeper gets a whole map, whose ranges
name payloads; and so that a sequential read does not need a live frame of ever more donors, the
payloads that give it fewest bytes are written anew, in the order of the content, behind its own.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from ibtfs.errors import BaseDamaged, IntegrityError
from ibtfs.format.extents import BASE, DONOR, RANGE_LIMIT, ZEROS, Range
from ibtfs.format.index import DEPTH_LIMIT, ContentRecord, Reference
from ibtfs.store.contents.reader import Contents

DEPTH_BOUND = 32
CHAIN_RANGES = 600_000
"""Readers keep the maps of a chain in memory: 26 bytes a range, and 18 for those of the last base,
which RANGE_LIMIT bounds; 34 MB at most."""
DONORS_KEPT = 16
"""How many other payloads a flattened content may use; beyond, the smallest are written anew."""
LARGE_DONOR = 64 << 20
LARGE_DONORS_KEPT = 40
"""Payloads that give this much are kept as well, up to so many: rewriting them would cost more."""

Resolved = tuple["Reference | None", Range]
"""A range and whose payload it is taken from: None for zeros, and for a payload that is being
written."""


def at_bound(base: ContentRecord, ranges: int = 0) -> bool:
    """Whether a delta against *base* would be deeper than a chain may be, or have more ranges.

    *ranges* is how many the chain would have then, but for the last base; the depth alone bounds
    those of small contents.
    """
    return base.depth >= DEPTH_BOUND or ranges >= CHAIN_RANGES


def may_be_deeper(base: ContentRecord) -> bool:
    """Whether the format allows a delta against *base*, though it is deeper than we like."""
    return base.depth + 1 < DEPTH_LIMIT


def chain_ranges(contents: Contents, base: Reference, ranges: Sequence[Range]) -> int:
    """How many ranges the chain of a delta against *base* with these *ranges* would have.

    Those of the last base do not count.  0 where the chain cannot be read.
    """
    try:
        below = contents.chain_ranges(base)
    except IntegrityError:
        return 0
    starts = itertools.accumulate((item.length for item in ranges), initial=0)
    in_place = sum(1 for start, item in zip(starts, ranges) if item[:2] == (BASE, start))
    return below + len(ranges) - in_place


def resolve(
    contents: Contents, base: Reference, ranges: Iterable[Range], donors: Sequence[Reference]
) -> list[Resolved]:
    """The *ranges* of a delta, copies from *base* followed to the payloads that they come from.

    Raises BaseDamaged.
    """
    resolved: list[Resolved] = []
    for item in ranges:
        if item.code != BASE:
            resolved.append((donors[item.code - DONOR] if item.code >= DONOR else None, item))
            continue
        try:
            for owner, offset, length in contents.segments(
                base, item.offset, item.offset + item.length
            ):
                code, at = (offset, 0) if owner is None else (DONOR, offset)
                resolved.append((owner, Range(code, at, length)))
        except IntegrityError as error:
            raise BaseDamaged(str(error)) from error
    return resolved


def kept_donors(resolved: Iterable[Resolved]) -> list[Reference]:
    """The payloads that go on being used, those that give most bytes first."""
    usage: Counter[Reference] = Counter()
    for owner, item in resolved:
        if owner is not None:
            usage[owner] += item.length
    ranked = [owner for owner, _ in usage.most_common()]
    large = sum(1 for size in usage.values() if size >= LARGE_DONOR)
    return ranked[: max(DONORS_KEPT, min(large, LARGE_DONORS_KEPT))]


def are_too_many(ranges: Sequence[Range]) -> bool:
    """Whether no map may have so many *ranges*: then all of the content is written anew."""
    return len(ranges) > RANGE_LIMIT


def may_keep_holes(resolved: Iterable[Resolved]) -> bool:
    """Whether holes, and zeros, can stay what they are where all else is written anew."""
    holes = sum(1 for owner, item in resolved if owner is None and item.code <= ZEROS)
    return holes < RANGE_LIMIT // 4
