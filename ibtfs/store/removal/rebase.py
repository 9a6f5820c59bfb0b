"""Contents rebuilt without the ones between: what is kept is built on what is kept.

A content that is needed may be a delta against one that is not.  Its map, and those of the bases
that go, are folded into one: copies of the next base that stays (or of nothing), and ranges of the
payloads that lay between, of which only what is used is kept.  No byte is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.extents import BASE, DONOR, HOLE, OWN, RANGE_LIMIT, ExtentMap, MapBuilder
from ibtfs.format.index import DEPTH_LIMIT, DONOR_LIMIT, ContentRecord, Reference
from ibtfs.store.contents.fold import Level, fold, name_of
from ibtfs.store.contents.slabs import SlabDigests, encode_slabs, load_slabs
from ibtfs.store.repository import Repository

WINDOW = 64 << 20
"""Bytes of a content that are folded together."""
_STAYS = Reference("", 0)
"""Stands for the payload of the base that stays, whose offsets are those of its content."""


class Rebased(NamedTuple):
    """A content as it is to be built: its record, and its map.

    *slabs* are the records of its vault, of which the content's own record knows no numbers yet.
    """

    record: ContentRecord
    extents: ExtentMap
    slabs: tuple[bytes, ...]


class Bases(NamedTuple):
    """The bases of a content that go, next first, and the first that *stays*, if any does."""

    going: list[Reference]
    stays: Reference | None


def bases_of(
    record: ContentRecord,
    load: Callable[[Reference], ContentRecord],
    stays: Callable[[Reference], bool],
) -> Bases:
    """Which bases of a content go, until the first that stays.  Raises IntegrityError."""
    going: list[Reference] = []
    base = record.base
    while base is not None and not stays(base):
        if len(going) > DEPTH_LIMIT:
            raise FormatDamaged(f"{name_of(base)}: is the base of a chain that is too long")
        going.append(base)
        base = load(base).base
    return Bases(going, base)


def rebased(
    repository: Repository, ref: Reference, record: ContentRecord, bases: Bases, depth: int
) -> Rebased | None:
    """The content *ref* without the bases that go; None if the format has no room for its map.

    *depth* is how deep its chain is then.  Raises IntegrityError where something of it cannot be
    read.
    """
    levels = [_level(repository, ref, record)]
    levels += [_level(repository, base, _record(repository, base)) for base in bases.going]
    if bases.stays is not None:
        kept = _record(repository, bases.stays)
        # not followed any further: its bytes are its own, whatever it is built of
        levels.append(Level(_STAYS, kept._replace(base=None, donors=()), None))
    donors: dict[Reference, int] = {}
    builder = MapBuilder()
    for _, owner, offset, length in _folded(levels, record.size):
        if owner is None:
            builder.add(offset, 0, length)
        elif owner == ref:
            builder.add(OWN, offset, length)
        elif owner == _STAYS:
            builder.add(BASE, offset, length)
        else:
            builder.add(DONOR + donors.setdefault(owner, len(donors)), offset, length)
        if len(builder.ranges) > RANGE_LIMIT or len(donors) > DONOR_LIMIT:
            return None
    has_base = any(item.code == BASE for item in builder.ranges)
    new = record._replace(
        base=bases.stays if has_base else None,
        depth=depth if has_base else 0,
        donors=tuple(donors),
        slabs=-1,
    )
    slabs = slabs_on(repository, ref.archive, record, new.base)
    return Rebased(new, builder.finish(), slabs)


def _record(repository: Repository, ref: Reference) -> ContentRecord:
    return repository.archive(ref.archive).content(ref.number)


def _level(repository: Repository, ref: Reference, record: ContentRecord) -> Level:
    archive = repository.archive(ref.archive)
    return Level(ref, record, None if record.is_plain else archive.extents(ref.number, record))


def _folded(levels: list[Level], size: int) -> Iterator[tuple[int, Reference | None, int, int]]:
    for start in range(0, size, WINDOW):
        yield from fold(levels, start, min(start + WINDOW, size))


def slabs_on(
    repository: Repository, archive_id: str, record: ContentRecord, base: Reference | None
) -> tuple[bytes, ...]:
    """The records of the vault for a content that is to have another base; none if they are lost.

    They only speed up the next backup, which makes them again from the bytes.
    """
    if record.slabs < 0:
        return ()
    try:
        digests = load_slabs(repository, record, archive_id)
        below: SlabDigests | None = None
        if base is not None:
            kept = _record(repository, base)
            if kept.slabs >= 0:
                below = load_slabs(repository, kept, base.archive)
    except IntegrityError:
        return ()
    return tuple(encode_slabs(digests, below))


def payload_used(record: ContentRecord, extents: ExtentMap) -> Iterator[tuple[Reference, int, int]]:
    """What a content takes of its donors' payloads: whose, from where to where."""
    for item in extents.ranges():
        if item.code >= DONOR:
            yield record.donors[item.code - DONOR], item.offset, item.offset + item.length


def shell_map(length: int, used: list[tuple[int, int]]) -> ExtentMap:
    """The map of a payload of *length* bytes of which only *used*, in order, is kept."""
    builder = MapBuilder()
    for start, end in used:
        builder.add(HOLE, 0, start - builder.size)
        builder.add(OWN, start, end - start)
    builder.add(HOLE, 0, length - builder.size)
    return builder.finish()


def joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """*ranges*, (start, end) each, sorted, without overlaps, those that touch made one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found
