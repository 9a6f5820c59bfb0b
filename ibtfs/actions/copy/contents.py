"""Contents of another repository: each read and verified once, and stored as a backup would."""

from __future__ import annotations

from collections import OrderedDict

from ibtfs.actions.backup.entry import MEMORY_LIMIT
from ibtfs.actions.backup.large import LargeFile
from ibtfs.actions.backup.small import store_bytes
from ibtfs.actions.copy.stored_source import StoredSource, holes_within
from ibtfs.actions.observer import Tally
from ibtfs.errors import IntegrityError, SourceError
from ibtfs.format.index import Reference
from ibtfs.store.contents.reader import Contents
from ibtfs.store.contents.whole import require_content
from ibtfs.store.repository import Repository
from ibtfs.store.writing.run import RunWriter

KNOWN_LIMIT = 200_000


def same_digests(one: Repository, other: Repository) -> bool:
    """Whether equal contents have equal digests in both: else all is found by its bytes.

    Nothing else here takes that for granted.  Sealed repositories have keys for them.
    """
    return one.keys.digests == other.keys.digests


class Known:
    """Where contents of one repository lie in the other: the last that were met; one thread."""

    def __init__(self) -> None:
        self._places: OrderedDict[Reference, Reference] = OrderedDict()

    def get(self, ref: Reference) -> Reference | None:
        """Where the content that is *ref* there lies here."""
        return self._places.get(ref)

    def add(self, ref: Reference, here: Reference) -> None:
        """The content that is *ref* there is *here*."""
        self._places[ref] = here
        if len(self._places) > KNOWN_LIMIT:
            self._places.popitem(last=False)

    def forget(self) -> None:
        """Forget all: some of it was not kept."""
        self._places.clear()


class ContentCopier:
    """Stores contents of *source* with *writer*; one thread.

    *by_digest*: both make digests in the same way, so that what is there already is not read.
    """

    def __init__(
        self, source: Repository, writer: RunWriter, known: Known, tally: Tally, *, by_digest: bool
    ) -> None:
        self._contents, self._writer = Contents(source), writer
        self._known, self._tally, self._by_digest = known, tally, by_digest

    def copy(self, ref: Reference, size: int | None, base: Reference | None) -> Reference:
        """The content that is *ref* in the source, stored here.

        *size* is what its row says, *base* what the same path held before, here.  Raises
        SourceError if it cannot be read; IbtfsError of the repository that is written to.
        """
        writer = self._writer
        here = self._known.get(ref)
        if here is not None and (writer.is_open(here) or writer.usable(here)):
            return here
        try:
            record = self._contents.record(ref)
            require_content(ref, record)
            holes = holes_within(self._contents, ref)
        except IntegrityError as error:
            raise unreadable(error) from error
        if size is not None and size != record.size:
            raise SourceError("cannot be read: its content is not as long as its row says")
        if self._by_digest:
            here = writer.find(record.digest, record.size)
            if here is not None and (not holes or holes == writer.holes_of(here)):
                self._known.add(ref, here)
                return here
        if holes or record.size > MEMORY_LIMIT:
            here = self._large(ref, record.size, record.digest, holes, base)
        else:
            here = self._small(ref, record.size, base)
        self._known.add(ref, here)
        return here

    def _small(self, ref: Reference, size: int, base: Reference | None) -> Reference:
        try:
            data = self._contents.whole(ref, size)
        except IntegrityError as error:
            raise unreadable(error) from error
        here, added = store_bytes(self._writer, data, base)
        self._count(size, added)
        return here

    def _large(
        self, ref: Reference, size: int, digest: bytes, holes: tuple[tuple[int, int], ...],
        base: Reference | None,
    ) -> Reference:  # fmt: skip
        observer = self._tally.observer
        source = StoredSource(self._contents, ref, size, digest, holes)
        try:
            stored = LargeFile(
                self._writer, source, size, base, lambda size: observer.progress(0, size)
            ).store()
        except SourceError:
            if source.has_failed or base is None:
                raise
            # what it was to be built upon cannot be read here
            return self._large(ref, size, digest, holes, None)
        assert stored.ref is not None  # no content is empty
        self._count(0, stored.added)
        self._tally.counts["bytes_read"] += size
        return stored.ref

    def _count(self, size: int, added: int) -> None:
        self._tally.counts["contents"] += 1
        self._tally.counts["bytes_read"] += size
        self._tally.counts["bytes_added"] += added
        if size:
            self._tally.observer.progress(0, size)


def unreadable(error: IntegrityError) -> SourceError:
    """*error* of the repository that is copied from, as a problem of one entry."""
    return SourceError(f"cannot be read: {error}")
