"""Contents stored anew, and the records of damaged ones led there."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Mapping

from ibtfs.errors import IntegrityError
from ibtfs.format.compression import Codec
from ibtfs.format.extents import DONOR, MapBuilder
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


def store_anew(
    repository: Repository,
    archive_id: str,
    known: Mapping[Reference, VerifiedBytes],
    pool: concurrent.futures.Executor,
) -> dict[Reference, Reference]:
    """Store known contents whole in an archive of their own; where each is now.

    *archive_id* is new.  Raises IntegrityError, LockLost, StorageFull, StorageFailed.
    """
    epochs = [0]
    for name in repository.archive_ids():
        try:
            epochs.append(repository.archive(name).header.epoch)
        except IntegrityError:
            continue  # nothing can refer from there
    writer = ArchiveWriter(
        repository.storage, repository.id, archive_id, epoch=max(epochs),
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
) -> Reference:
    record = repository.archive(ref.archive).content(ref.number)
    if record.size <= SMALL_CONTENT:
        data = known.read(0, record.size)
        return Reference(writer.id, writer.add_whole(SMALL, record.digest, data))
    start = writer.position(LARGE)
    for offset in range(0, record.size, CHUNK):
        writer.append(LARGE, known.read(offset, min(CHUNK, record.size - offset)))
    new = record._replace(
        stream=LARGE, start=start, length=record.size, depth=0, base=None, donors=(), map_first=0,
        map_parts=0, slabs=-1,
    )  # fmt: skip
    return writer.add_content(new)


def lead_to(repository: Repository, stored: Mapping[Reference, Reference]) -> None:
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


def _led(record: ContentRecord, donor: Reference) -> Rebased:
    builder = MapBuilder()
    builder.add(DONOR, 0, record.size)
    new = record._replace(depth=0, base=None, donors=(donor,), slabs=-1)
    return Rebased(new, builder.finish(), ())
