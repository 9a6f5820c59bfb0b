"""What would be freed on the disk, file by file, before anything is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ibtfs.errors import IntegrityError
from ibtfs.format.compression import Codec
from ibtfs.format.extents import encode_parts
from ibtfs.format.frames import CONTENTS, MAPS, SLABS, STATES
from ibtfs.store import layout
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.removal.indexes import Contents, planned_contents
from ibtfs.store.removal.needed import Needed, needed_by, slab_numbers
from ibtfs.store.removal.payloads_cut import payloads_freed
from ibtfs.store.removal.plan import ArchivePlan
from ibtfs.store.removal.rebase import Rebased
from ibtfs.store.removal.records_cut import Numbers, records_freed
from ibtfs.store.repository import Repository

LEAST_BYTES = 1 << 10
LEAST_SHARE = 20
"""A file is written anew if that frees this many bytes at least, and a twentieth of it."""


class Freed(NamedTuple):
    """What one file has, and how much of that would be freed; bytes.  *loses*: anything of it."""

    size: int
    freed: int
    loses: bool = False

    def is_worth_it(self, *, all_of_it: bool = False) -> bool:
        """Whether the file should be written anew for it, or, if *all_of_it*, for any byte."""
        if all_of_it:
            return self.loses
        return self.freed >= LEAST_BYTES and self.freed * LEAST_SHARE >= self.size


class ArchiveSizes(NamedTuple):
    """The files of one archive by kind; *changes*: records of it have to be written anew."""

    files: dict[str, Freed]
    changes: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.files.values())

    @property
    def freed(self) -> int:
        """Bytes that would be freed."""
        return sum(one.freed for one in self.files.values())


def archive_sizes(
    repository: Repository, plan: ArchivePlan, *, all_of_it: bool = False
) -> ArchiveSizes:
    """What a plan would free of one archive.  Raises IntegrityError.

    The index apart, nothing of a file that is not worth writing anew; *all_of_it*: any is.
    """
    reader = repository.archive(plan.id)
    files = {kind: reader.file(kind) for kind in _present(reader)}
    if plan.is_whole:
        return ArchiveSizes({kind: Freed(file.size, 0) for kind, file in files.items()}, False)
    if plan.is_dead:
        found = {kind: Freed(file.size, file.size) for kind, file in files.items()}
        return ArchiveSizes(found, False)
    contents = planned_contents(repository, reader, plan)
    needed = needed_by(contents.kept.values())
    numbers = _kept_records(plan, contents, needed)
    codec = Codec(repository.config.level)
    found = {}
    for kind, file in files.items():
        loss = payloads_freed(file, needed.payloads, codec, exact=all_of_it)
        records = records_freed(file, numbers, codec)
        less = loss.freed + records.freed
        if kind == layout.INDEX:
            less -= _added(contents.changed.values(), codec)
        freed = Freed(file.size, file.freed_by(less), loses=loss.lost + records.lost > 0)
        if kind != layout.INDEX and not freed.is_worth_it(all_of_it=all_of_it):
            freed = freed._replace(freed=0)
        found[kind] = freed
    return ArchiveSizes(found, bool(contents.changed))


def _present(reader: ArchiveReader) -> list[str]:
    """The files that can be read; what is damaged or gone frees nothing that could be told."""
    present = []
    for kind in reader.kinds:
        try:
            reader.file(kind)
        except IntegrityError:
            continue
        present.append(kind)
    return present


def _kept_records(plan: ArchivePlan, contents: Contents, needed: Needed) -> Mapping[int, Numbers]:
    """The numbers that stay of each stream of records."""
    maps: set[int] = set()
    for number, (record, _) in contents.kept.items():
        if number not in contents.changed:
            maps.update(range(record.map_first, record.map_first + record.map_parts))
        elif contents.changed[number].slabs:
            needed.slabs.difference_update(slab_numbers(record))
    return {CONTENTS: set(contents.kept), STATES: plan.states, MAPS: maps, SLABS: needed.slabs}


def _added(changed: Iterable[Rebased], codec: Codec) -> int:
    """About what maps and digests of slabs of contents that are rebuilt add to an index."""
    bodies = [body for new in changed for body in (*encode_parts(new.extents), *new.slabs)]
    return len(codec.compress(b"".join(bodies))[1]) if bodies else 0
