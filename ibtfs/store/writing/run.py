"""What a run writes: one archive after another, and the contents that it may refer to.

An archive is closed when its data reaches 1 GiB, when it is 10 minutes old, or when it has 250,000
contents; so frame tables and memory are bounded, and a run that is cut off loses little: the next
one finds the contents of closed archives by digest.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Container, Iterable
from types import TracebackType
from typing import ParamSpec, TypeVar

from ibtfs.errors import IntegrityError
from ibtfs.format.compression import Codec
from ibtfs.format.entry import Page, PageEntry
from ibtfs.format.extents import HOLE, ExtentMap
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store.archives.writer import ArchiveWriter
from ibtfs.store.contents.holes import holes
from ibtfs.store.contents.reader import Contents
from ibtfs.store.contents.whole import is_whole
from ibtfs.store.repository import Repository
from ibtfs.store.writing.catalog import Catalog

ARCHIVE_BYTES = 1 << 30
ARCHIVE_SECONDS = 600
ARCHIVE_CONTENTS = 250_000

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Holes = tuple[tuple[int, int], ...]
"""Start and length of each hole of a content, in order."""


class RunWriter:
    """Writes the archives of one run; used by one thread.

    *epoch* is the run's: what it refers to has the same or a higher one.  *damaged* contents are
    never referred to.  *beat* is called often; it keeps the run's lock fresh.
    """

    def __init__(
        self,
        repository: Repository,
        run_id: str,
        *,
        epoch: int,
        catalog: Catalog,
        codec: Codec,
        pool: concurrent.futures.Executor,
        damaged: Container[Reference] = frozenset(),
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.beat = beat
        self.repository, self.run_id, self.epoch = repository, run_id, epoch
        self.contents = Contents(repository)
        self.digests = repository.keys.digests
        self.catalog = catalog
        self._codec, self._pool, self._damaged = codec, pool, damaged
        self._has_past = repository.has_archives()
        self._current: ArchiveWriter | None = None
        self._count = 0
        self._digests: list[bytes] = []
        self._by_digest: dict[bytes, int] = {}
        self.adopted: set[str] = set()
        self._read: dict[str, int] = {}
        """The generations of the indexes of those when they were first built upon."""
        self.holes: dict[Reference, Holes] = {}
        """The holes of contents in the open archive, whose maps cannot be read yet."""
        self.stored_bytes = 0
        self._written: dict[str, list[str]] = {}
        self.archive_bytes = ARCHIVE_BYTES

    @property
    def archive(self) -> ArchiveWriter:
        """The archive that is open for writing; begun when first needed."""
        own = self.repository.own
        if self._current is None:
            self._current = ArchiveWriter(
                self.repository.storage,
                self.repository.keys,
                f"{self.run_id}.{self._count}",
                epoch=self.epoch,
                codec=self._codec,
                pool=self._pool,
                kept=None if own is None else (own.storage, own.keys),
            )
            self._count += 1
        return self._current

    def submit(
        self, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> concurrent.futures.Future[Result]:
        """Have *work* done by one of the threads that compress."""
        return self._pool.submit(work, *args, **kwargs)

    @property
    def is_due(self) -> bool:
        """Whether the open archive should be closed."""
        open_archive = self._current
        return open_archive is not None and (
            open_archive.data_bytes >= self.archive_bytes
            or open_archive.age >= ARCHIVE_SECONDS
            or len(self._digests) >= ARCHIVE_CONTENTS
        )

    def close_archive(self) -> None:
        """Make the open archive durable and go on with a new one, if there is one."""
        if self._current is None:
            return
        if self._current.is_empty:
            self.abort()
            return
        self.stored_bytes += self._current.finish()
        self._written[self._current.id] = self._current.kinds
        self._current = None
        self._digests, self._by_digest, self.holes = [], {}, {}
        self._has_past = True
        self.catalog.feed()

    def settle(self) -> None:
        """Make durable what this run refers to, and see that all of it is there.

        Raises ObjectMissing if something was removed meanwhile.
        """
        self.repository.settle(self.adopted, self._written, self._read)

    def abort(self) -> None:
        """Drop the open archive; closed ones stay, for the next run to find."""
        if self._current is not None:
            self._current.abort()
            self._current = None

    def allows(self, ref: Reference) -> bool:
        """Whether this run may refer to *ref*: not damaged, and of no earlier epoch.

        Its archive is then one that has to be there, with all its files, when the run commits.
        """
        return self._may_refer(ref) and self._adopt(ref.archive)

    def _may_refer(self, ref: Reference) -> bool:
        if ref in self._damaged:
            return False
        try:
            archive = self.repository.archive(ref.archive)
            # what a machine says of its contents need not be so, but to itself
            return archive.header.epoch >= self.epoch and not archive.author
        except IntegrityError:
            return False

    def _adopt(self, archive_id: str) -> bool:
        """Build upon an archive; False if it cannot be read any more."""
        if archive_id not in self.adopted:
            try:
                self._read[archive_id] = self.repository.archive(archive_id).generation
            except IntegrityError:
                return False
            self.adopted.add(archive_id)
        return True

    def find(self, digest: bytes, size: int) -> Reference | None:
        """A content that is stored already, its record, bases and donors read and compared."""
        number = self._by_digest.get(digest)
        if number is not None and self._current is not None:
            return Reference(self._current.id, number)
        if not self._has_past:
            return None
        for ref in self.catalog.contents(digest, self.epoch):
            record = self.usable(ref)
            if record and record.digest == digest and record.size == size:
                return ref
        return None

    def heads(self, slab: bytes) -> list[Reference]:
        """Large contents that may begin with a slab of this digest, newest archive first."""
        return list(self.catalog.heads(slab, self.epoch)) if self._has_past else []

    def usable(self, ref: Reference) -> ContentRecord | None:
        """The record of *ref* if this run may build upon it and all that it needs is there."""
        if not self._may_refer(ref):
            return None
        try:
            record = self.contents.record(ref)
        except IntegrityError:
            return None
        is_there = is_whole(self.repository, ref, record) and self._adopt(ref.archive)
        return record if is_there else None

    def holes_of(self, ref: Reference) -> Holes:
        """Where the holes of a content are: equal ones may have other holes."""
        if self.is_open(ref):
            return self.holes.get(ref, ())
        try:
            return _joined(holes(self.contents, ref))
        except IntegrityError:
            return ()

    def is_open(self, ref: Reference) -> bool:
        """Whether *ref* lies in the archive being written, whose bytes cannot be read yet."""
        return self._current is not None and ref.archive == self._current.id

    def digest_of(self, ref: Reference) -> bytes:
        """The digest of a content, stored by this run or before."""
        archive, number = ref
        if self._current is not None and archive == self._current.id:
            return self._digests[number]
        return self.repository.archive(archive).content_digest(number)

    def knows(self, *refs: Reference | None) -> bool:
        """Whether the records of these contents can be read, so that a new state may have them."""
        try:
            for ref in filter(None, refs):
                self.digest_of(ref)
        except IntegrityError:
            return False
        return True

    def add_content(self, record: ContentRecord, extents: ExtentMap | None = None) -> Reference:
        """Add a content whose payload was appended to the open archive."""
        ref = self.archive.add_content(record, extents)
        self._digests.append(record.digest)
        if not record.is_shell:
            self._by_digest[record.digest] = ref.number
        return ref

    def add_whole(self, stream: int, digest: bytes, data: bytes) -> Reference:
        """Add a content with *digest*, not stored yet, whole, to a data stream."""
        archive = self.archive
        number = archive.add_whole(stream, digest, data)
        self._digests.append(digest)
        self._by_digest[digest] = number
        return Reference(archive.id, number)

    def packed(self, ref: Reference) -> int:
        """*ref* as the number by which the open archive refers to it."""
        return self.archive.packed(ref)

    def add_page(self, page: Page) -> Reference:
        """Add a page, its references packed by the open archive."""
        return self.archive.add_page(page)

    def add_pages(self, entries: list[PageEntry]) -> Reference:
        """Add the state of a directory of several pages."""
        return self.archive.add_pages(entries)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()


def holes_among(ranges: Iterable[tuple[int, int]]) -> Holes:
    """The holes among the ranges of a content, given as (code, length)."""
    found, position = [], 0
    for code, length in ranges:
        if code == HOLE:
            found.append((position, length))
        position += length
    return _joined(found)


def _joined(holes: Iterable[tuple[int, int]]) -> Holes:
    """*holes*, given as start and length, in order; those that touch are one."""
    found: list[tuple[int, int]] = []
    for start, length in holes:
        if found and sum(found[-1]) == start:
            found[-1] = (found[-1][0], found[-1][1] + length)
        else:
            found.append((start, length))
    return tuple(found)
