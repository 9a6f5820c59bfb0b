"""Directory states, read: entries with absolute references, by page and by name."""

from __future__ import annotations

import bisect
import os
import stat
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ibtfs.errors import EntryNotFound, FormatDamaged, IntegrityError
from ibtfs.format.entry import (
    FLAGS,
    NAME,
    XATTRS,
    XATTRS_REF,
    Extras,
    Page,
    PageEntry,
    Stamp,
    decode_page,
    is_xattrs,
)
from ibtfs.format.frames import STATES
from ibtfs.format.index import Reference
from ibtfs.format.packing import unpack
from ibtfs.store import layout
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository

NO_EXTRAS: Extras = {}
XATTRS_LIMIT = 16 << 20
LARGE_STATE = 16 << 10
"""Packed bytes of a state from which on it is kept as it was decoded: writers make few of them."""
ROW_BYTES, EXTRA_BYTES = 420, 150
"""About what a row, and each thing that few rows have, take in memory."""


class StateRef(NamedTuple):
    """A directory state, and its location-free digest: 24 bytes in a row, 32 in a manifest."""

    ref: Reference
    digest: bytes


class Entry(NamedTuple):
    """One row of a directory; the first nine fields are its stamp."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    links: int
    content: Reference | None
    state: StateRef | None
    target: bytes
    rdev: int
    extras: Extras
    xattrs_content: Reference | None

    @property
    def stamp(self) -> Stamp:
        """The first nine fields."""
        return self[:9]

    @property
    def flags(self) -> int:
        """KEPT, UNSTABLE, NOT_READ."""
        value: int = self.extras.get(FLAGS, 0)
        return value


class StoredPage(NamedTuple):
    """A page as it was read: where it lies, the last name, and the archive that resolves it."""

    archive: ArchiveReader
    ref: Reference
    digest: bytes
    page: Page

    def entry(self, row: int) -> Entry:
        """Row *row* with absolute references.  Raises FormatDamaged."""
        page, header, where = self.page, self.archive.header, self.ref.archive
        stamp, ref, extras = page.stamps[row], page.refs[row], page.extras.get(row, NO_EXTRAS)
        mode = stamp[1]
        content = state = xattrs = None
        target, rdev = b"", 0
        if stat.S_ISREG(mode):
            content = header.reference(ref, where) if ref is not None else None
        elif stat.S_ISDIR(mode):
            state = StateRef(header.reference(ref[0], where), ref[1])
            # children are written before their parents; among archives a walk looks, see trail.py
            if state.ref.archive == self.ref.archive and state.ref.number >= self.ref.number:
                raise FormatDamaged(f"{layout.archive(where)}: a directory that holds itself")
        elif stat.S_ISLNK(mode):
            target = ref
        elif ref is not None:
            rdev = ref
        if XATTRS_REF in extras:
            xattrs = header.reference(extras[XATTRS_REF], where)
        # in place of Entry(...), which takes a third longer: every row of every listing comes by
        return tuple.__new__(Entry, (*stamp, content, state, target, rdev, extras, xattrs))

    def reference(self, packed: Any) -> Reference:
        """The record that a number in one of its rows names.  Raises FormatDamaged."""
        return self.archive.header.reference(packed, self.ref.archive)

    def entries(self) -> Iterator[Entry]:
        """All rows, in order of name."""
        return map(self.entry, range(len(self.page.stamps)))

    def folders(self) -> list[Entry]:
        """The rows that are directories, in order of name.  Raises FormatDamaged."""
        # only those lead to a pair
        return [self.entry(n) for n, ref in enumerate(self.page.refs) if type(ref) is tuple]


class Gap(NamedTuple):
    """Entries of a directory that cannot be read: those behind *after*, up to *last*; and why."""

    after: bytes
    last: bytes
    error: IntegrityError


def is_missing(name: bytes, gaps: Sequence[Gap]) -> bool:
    """Whether *name* would lie in one of the *gaps* of a directory, which are in order."""
    row = bisect.bisect_left(gaps, name, key=lambda gap: gap.last)
    return row < len(gaps) and gaps[row].after < name


class Directory:
    """One directory state; its pages are read when they are needed.  Threads may share it.

    What is read has the checksums of its frames, and those cover its place.  The location-free
    digests of pages are compared by ``check`` alone: they need the record of every content, which
    a listing never reads, and 69 bytes hashed a file (3.5 % of a restore of files of 2 KB).
    """

    def __init__(self, repository: Repository, ref: Reference) -> None:
        self._repository = repository
        self._archive = repository.archive(ref.archive)
        state = self._state(ref)
        if isinstance(state, Page):
            self._only: StoredPage | None = StoredPage(self._archive, ref, b"", state)
            self._pages: tuple[Any, ...] = ()
        else:
            self._only = None
            self._pages = state
            self._lasts = [entry.last for entry in state]

    def _state(self, ref: Reference) -> Page | tuple[PageEntry, ...]:
        """The state, decoded; large ones are kept, for they may be asked for name by name."""
        number = ref.number
        if self._archive.state_bytes(number) < LARGE_STATE:
            return self._archive.state(number)
        return self._repository.cache.get(
            ("state", ref), lambda: self._archive.state(number), weight_of
        )

    @property
    def size(self) -> int:
        """How many entries it has."""
        if self._only is not None:
            return len(self._only.page.stamps)
        return sum(entry.rows for entry in self._pages)

    @property
    def page_digests(self) -> frozenset[bytes]:
        """The digests of its pages, if there are several: equal pages have equal rows."""
        return frozenset(entry.digest for entry in self._pages)

    def pages(self, without: Container[bytes] = frozenset()) -> Iterator[StoredPage]:
        """Its pages, in order, those with digests in *without* not read and left out."""
        if self._only is not None:
            yield self._only
        else:
            wanted = (n for n, entry in enumerate(self._pages) if entry.digest not in without)
            yield from map(self._load, wanted)

    def readable(
        self, gaps: list[Gap], without: Container[bytes] = frozenset()
    ) -> Iterator[StoredPage]:
        """As :meth:`pages`, those that can be read; what is missing goes to *gaps*."""
        if self._only is not None:
            yield self._only
        for number, entry in enumerate(self._pages):
            if entry.digest in without:
                continue
            try:
                page = self._load(number)
            except IntegrityError as error:
                gaps.append(self._gap(number, error))
                continue
            yield page

    def _gap(self, number: int, error: IntegrityError) -> Gap:
        entry, after = self._pages[number], self._lasts[number - 1] if number else b""
        told = f"after {os.fsdecode(after)!r} " if after else ""
        message = (
            f"{error}: {entry.rows:,} of {self.size:,} entries cannot be read, {told}up to "
            f"{os.fsdecode(entry.last)!r}"
        )
        return Gap(after, entry.last, type(error)(message))

    @classmethod
    def cached(cls, repository: Repository, ref: Reference) -> Directory:
        """The directory at *ref*, kept in the repository's cache for the next who asks."""
        return repository.cache.get(
            ("directory", ref), lambda: cls(repository, ref), lambda found: found.memory_size
        )

    @property
    def memory_size(self) -> int:
        """About how many bytes it holds in memory."""
        return 300 + weight_of(self._pages if self._only is None else self._only.page)

    def _load(self, number: int) -> StoredPage:
        entry = self._pages[number]
        where = layout.archive_object(self._archive.id, layout.INDEX)
        ref = self._archive.header.reference(entry.ref, where)
        # by where it lies: directories of many points share it
        page = self._repository.cache.get(
            ("page", ref, entry.digest, entry.rows, entry.last),
            lambda: self._read(ref, entry),
            lambda found: weight_of(found.page),
        )
        if number and page.page.stamps[0][NAME] <= self._lasts[number - 1]:
            raise FormatDamaged(f"{where}: pages that overlap")
        return page

    def _read(self, ref: Reference, entry: PageEntry) -> StoredPage:
        archive = self._repository.archive(ref.archive)
        index = layout.archive_object(ref.archive, layout.INDEX)
        where = f"{index}: state {ref.number}"
        page = decode_page(archive.body(STATES, ref.number), where)
        if len(page.stamps) != entry.rows or page.stamps[-1][0] != entry.last:
            raise FormatDamaged(f"{where}: is not the page that is listed")
        return StoredPage(archive, ref, entry.digest, page)

    def entries(self) -> Iterator[Entry]:
        """All entries, in order of name."""
        for page in self.pages():
            yield from page.entries()

    def find(self, name: bytes) -> Entry:
        """The entry called *name*.  Raises EntryNotFound."""
        page = self._only
        if page is None:
            number = bisect.bisect_left(self._lasts, name)
            if number == len(self._lasts):
                raise EntryNotFound(f"No entry {name!r}")
            page = self._load(number)
        stamps = page.page.stamps
        row = bisect.bisect_left(stamps, name, key=_name_of)
        if row == len(stamps) or stamps[row][0] != name:
            raise EntryNotFound(f"No entry {name!r}")
        return page.entry(row)


def weight_of(state: Page | Sequence[PageEntry]) -> int:
    """About how many bytes a decoded state takes in memory."""
    if not isinstance(state, Page):
        return ROW_BYTES * len(state)
    weight = ROW_BYTES * len(state.stamps)
    for extra in state.extras.values():
        weight += EXTRA_BYTES * (1 + len(extra))
        for name, value in extra.get(XATTRS, {}).items():
            weight += EXTRA_BYTES + len(name) + len(value)
    return weight


def _name_of(stamp: Stamp) -> bytes:
    return stamp[0]


def child_path(folder: bytes, name: bytes) -> bytes:
    """The path of what is called *name* in *folder*; that of the root is ``b""``."""
    return folder + b"/" + name if folder else name


def entry_xattrs(entry: Entry, contents: Contents) -> Mapping[bytes, bytes]:
    """The extended attributes of *entry*.  Raises IntegrityError."""
    inline: Mapping[bytes, bytes] = entry.extras.get(XATTRS, {})
    if entry.xattrs_content is None:
        return inline
    record = contents.record(entry.xattrs_content)
    if record.size > XATTRS_LIMIT:
        raise FormatDamaged(f"{entry.name!r}: extended attributes of {record.size} bytes")
    data = contents.read(entry.xattrs_content, 0, record.size)
    contents.verify(entry.xattrs_content, data, record)
    return decode_xattrs(data, f"xattrs of {entry.name!r}")


def decode_xattrs(data: bytes, where: str) -> Mapping[bytes, bytes]:
    """The xattrs stored as a content.  Raises FormatDamaged."""
    value = unpack(data, where, containers=1)
    if not is_xattrs(value):
        raise FormatDamaged(f"{where}: not extended attributes")
    checked: Mapping[bytes, bytes] = value
    return checked
