"""Contents stored anew, and the records of damaged ones led there."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Mapping
from typing import NamedTuple

from ibtfs.errors import IntegrityError
from ibtfs.format.compression import Codec
from ibtfs.format.extents import DONOR, HOLE, OWN, MapBuilder, Range
from ibtfs.format.frames import LARGE, SMALL
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store.archives.writer import ArchiveWriter
from ibtfs.store.mending.verified import CHUNK, VerifiedBytes
from ibtfs.store.removal.indexes import IndexRewriter
from ibtfs.store.removal.plan import ArchivePlan
from ibtfs.store.removal.rebase import Rebased
from ibtfs.store.removal.sweep import Sweeper
from ibtfs.store.repository import Repository

SMALL_CONTENT = 128 << 10


class StoredAnew(NamedTuple):
    """Where a content is stored now, and the ranges that it is made of there."""

    ref: Reference
    ranges: list[Range]


def store_anew(
    repository: Repository,
    archive_id: str,
    known: Mapping[Reference, VerifiedBytes],
    pool: concurrent.futures.Executor,
) -> dict[Reference, StoredAnew]:
    """Store known contents in an archive of their own, but for their holes; where each is now.

    *archive_id* is new.  Raises IntegrityError, LockLost, StorageFull, StorageFailed.
    """
    epochs = [0]
    for name in repository.archive_ids():
        try:
            epochs.append(repository.archive(name).header.epoch)
        except IntegrityError:
            continue  # nothing can refer from there
    writer = ArchiveWriter(
        repository.storage, repository.keys, archive_id, epoch=max(epochs),
        codec=Codec(repository.config.level), pool=pool,
    )  # fmt: skip
    try:
        stored = {ref: _add(writer, repository, ref, one) for ref, one in known.items()}
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    return stored


def _add(
    writer: ArchiveWriter, repository: Repository, ref: Reference, known: VerifiedBytes
) -> StoredAnew:
    record = repository.archive(ref.archive).content(ref.number)
    builder = MapBuilder()
    if record.size <= SMALL_CONTENT:
        data = known.read(0, record.size)
        builder.add(OWN, 0, record.size)
        number = writer.add_whole(SMALL, record.digest, data)
        return StoredAnew(Reference(writer.id, number), builder.ranges)
    start, own = writer.position(LARGE), 0
    for first, length, is_hole in known.stretches():
        if is_hole:
            builder.add(HOLE, 0, length)
            continue
        for offset in range(first, first + length, CHUNK):
            data = known.read(offset, min(CHUNK, first + length - offset))
            writer.append(LARGE, data)
        builder.add(OWN, own, length)
        own += length
    new = record._replace(
        stream=LARGE, start=start, length=own, depth=0, base=None, donors=(), map_first=0,
        map_parts=0, slabs=-1,
    )  # fmt: skip
    extents = None if own == record.size else builder.finish()
    return StoredAnew(writer.add_content(new, extents), builder.ranges)


def lead_to(repository: Repository, stored: Mapping[Reference, StoredAnew]) -> None:
    """Have the records of damaged contents take all their bytes from where they are stored now.

    For who is alone in the repository.  Raises IntegrityError, LockLost, StorageFull,
    StorageFailed.
    """
    for archive_id in sorted({ref.archive for ref in stored}):
        reader = repository.archive(archive_id)
        header = reader.header
        plan = ArchivePlan(
            archive_id, bytearray(b"\1" * header.contents), bytearray(b"\1" * header.states)
        )
        for ref, new in stored.items():
            if ref.archive == archive_id:
                plan.rebuilt[ref.number] = _led(reader.content(ref.number), new)
        IndexRewriter(repository, plan).write()
        Sweeper(repository).drop_earlier(archive_id)
        repository.forget_read()


def _led(record: ContentRecord, stored: StoredAnew) -> Rebased:
    builder = MapBuilder()
    for code, offset, length in stored.ranges:
        builder.add(DONOR if code == OWN else code, offset, length)
    new = record._replace(depth=0, base=None, donors=(stored.ref,), slabs=-1)
    return Rebased(new, builder.finish(), ())
