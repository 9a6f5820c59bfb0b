"""Whether all that a content is made of is there: bases, donors, and the bytes of payloads."""

from __future__ import annotations

import bisect

from ibtfs.errors import FormatDamaged, IntegrityError, ObjectMissing
from ibtfs.format.extents import DONOR, OWN
from ibtfs.format.index import DEPTH_LIMIT, ContentRecord, Reference
from ibtfs.store.contents.fold import name_of
from ibtfs.store.repository import Repository


def is_whole(repository: Repository, ref: Reference, record: ContentRecord) -> bool:
    """Whether all that the content *ref* needs is there; its bytes are not read."""
    try:
        require_whole(repository, ref, record)
    except IntegrityError:
        return False
    return True


def require_whole(repository: Repository, ref: Reference, record: ContentRecord) -> None:
    """Raise IntegrityError, saying what is missing, unless :func:`is_whole`."""
    for _ in range(DEPTH_LIMIT + 1):
        require_content(ref, record)
        require_payload(repository, ref, record)
        if record.donors:
            _require_donors(repository, ref, record)
        if record.base is None:
            return
        ref = record.base
        record = repository.archive(ref.archive).content(ref.number)
    raise too_deep(ref)


def too_deep(ref: Reference) -> FormatDamaged:
    """What is said of a chain that is longer than the format allows; *ref* is its last link."""
    return FormatDamaged(f"{name_of(ref)}: is the base of a chain that is too long")


def require_content(ref: Reference, record: ContentRecord) -> None:
    """Raise ObjectMissing of what is kept for its payload only.

    It was a content when somebody found the way to it; a newer generation says where it leads now.
    """
    if record.is_shell:
        raise ObjectMissing(f"{name_of(ref)}: is gone but for its payload")


def _require_donors(repository: Repository, ref: Reference, record: ContentRecord) -> None:
    """Of donors that are nothing but a payload, what is used has to be there: all of others.

    What such a payload has is said by its record.  More of it may be there for a while, and is not
    to be built upon.
    """
    shells: dict[int, list[tuple[int, int]]] = {}
    for number, donor in enumerate(record.donors):
        found = repository.archive(donor.archive).content(donor.number)
        require_payload(repository, donor, found)
        if found.is_shell:
            shells[DONOR + number] = kept_ranges(repository, donor, found)
    if not shells:
        return
    for item in repository.archive(ref.archive).extents(ref.number, record).ranges():
        kept = shells.get(item.code)
        if kept is not None and not _holds(kept, item.offset, item.offset + item.length):
            raise ObjectMissing(f"{name_of(ref)}: takes bytes from a payload that are gone")


def _holds(ranges: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether one of *ranges*, sorted (start, end), has all from *start* to *end*."""
    row = bisect.bisect_right(ranges, (start, end)) - 1
    if row + 1 < len(ranges) and ranges[row + 1][0] == start:
        row += 1  # begins there, and goes on for longer
    return row >= 0 and ranges[row][0] <= start and end <= ranges[row][1]


def kept_ranges(
    repository: Repository, ref: Reference, record: ContentRecord
) -> list[tuple[int, int]]:
    """What of the payload of *ref* its record says is kept: (start, end), in order."""
    if record.is_plain or not record.is_shell:
        return [(0, record.length)]
    extents = repository.archive(ref.archive).extents(ref.number, record)
    return [
        (item.offset, item.offset + item.length) for item in extents.ranges() if item.code == OWN
    ]


def require_payload(repository: Repository, ref: Reference, record: ContentRecord) -> None:
    """Raise unless the payload of *ref* is there; of a mere payload, what is kept of it."""
    archive = repository.archive(ref.archive)
    for start, end in kept_ranges(repository, ref, record):
        if not archive.covers(record.stream, record.start + start, end - start):
            raise ObjectMissing(f"{name_of(ref)}: its payload is not in the archive's data")
