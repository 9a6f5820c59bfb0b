"""What the source still has of contents that are damaged."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from ibtfs.actions.source.holes import pieces
from ibtfs.errors import IntegrityError, ObjectUnreadable
from ibtfs.format.index import Reference
from ibtfs.store.mending.verified import VerifiedBytes
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef
from ibtfs.store.trees.reach import reach

PATHS_TRIED = 4


def paths_of(
    repository: Repository, wanted: Collection[Reference], host: str
) -> dict[Reference, list[bytes]]:
    """Where in the sources of *host* each content may be: paths of the newest points first."""
    sought = frozenset(wanted)
    found: defaultdict[Reference, list[bytes]] = defaultdict(list)
    points = [one for one in repository.points.all().points if one.source.host == host]
    seen: set[Reference] = set()
    for point in sorted(points, key=lambda one: (one.sequence, one.id), reverse=True):
        for visit in reach(repository, StateRef(point.state, point.digest), seen=seen):
            try:
                entries = visit.entries()
            except IntegrityError:
                continue  # said to be lost by check
            for path, entry in entries:
                ref = entry.content
                if ref is not None and ref in sought and len(found[ref]) < PATHS_TRIED:
                    whole = os.path.join(point.source.path, path)
                    found[ref].append(point.source.path if point.single else whole)
    return found


@contextmanager
def _opened(path: bytes) -> Iterator[int]:
    """A regular file, open.  Raises ObjectUnreadable, also for what fails with it."""
    try:
        # no link is followed at the end of the path, and nothing is waited for
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ObjectUnreadable(f"{os.fsdecode(path)}: is no regular file by now")
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ObjectUnreadable(f"{os.fsdecode(path)}: {error.strerror or error}") from error


def read_from(path: bytes, offset: int, size: int) -> bytes:
    """Bytes of a regular file; fewer where it ends.  Raises ObjectUnreadable."""
    with _opened(path) as descriptor:
        return os.pread(descriptor, size, offset)


def holes_in(path: bytes, size: int) -> list[tuple[int, int]]:
    """Start and length of each hole in the first *size* bytes of a file.

    Raises ObjectUnreadable.
    """
    with _opened(path) as descriptor:
        size = min(size, os.fstat(descriptor).st_size)
        return [(one.start, one.length) for one in pieces(descriptor, 0, size) if one.hole]


def known_from_source(
    repository: Repository, wanted: Collection[Reference], host: str, beat: Callable[[], None]
) -> dict[Reference, VerifiedBytes]:
    """The *wanted* contents that files of the sources of *host* still are."""
    known = {}
    for ref, paths in paths_of(repository, wanted, host).items():
        for path in paths:
            try:
                record = repository.archive(ref.archive).content(ref.number)
                known[ref] = VerifiedBytes(
                    lambda offset, size, path=path: read_from(path, offset, size),  # type: ignore[misc]
                    record.size, record.digest, os.fsdecode(path), beat,
                    repository.keys.digests, holes_in(path, record.size),
                )  # fmt: skip
                break
            except IntegrityError:
                continue
    return known
