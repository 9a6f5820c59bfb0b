"""Storing one entry that is not a directory: contents, target, number, xattrs."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from typing import NamedTuple

from ibtfs.actions.backup.large import LargeFile
from ibtfs.actions.backup.small import SMALL_LIMIT, store_bytes
from ibtfs.actions.observer import Tally
from ibtfs.actions.source.chunks import FileSource
from ibtfs.actions.source.filesystems import FileSystems
from ibtfs.actions.source.holes import has_holes
from ibtfs.actions.source.leases import MARGIN, LeasePatience, break_seconds
from ibtfs.actions.source.opening import (
    changed,
    look,
    opened_file,
    read_all,
    read_as_listed,
    read_xattrs,
    source_error,
    stamp_of,
)
from ibtfs.errors import Replaced
from ibtfs.format.acl import named_numbers
from ibtfs.format.entry import (
    BLOCKS,
    CTIME,
    FLAGS,
    GROUP,
    INODE,
    LINKS,
    MODE,
    MTIME,
    SIZE,
    UID,
    UNSTABLE,
    XATTRS,
    Extras,
    Stamp,
    expected_blocks,
)
from ibtfs.format.index import Reference
from ibtfs.format.packing import pack
from ibtfs.store.trees import directory as states
from ibtfs.store.trees.directory import Entry
from ibtfs.store.writing.run import RunWriter

MEMORY_LIMIT = 4 << 20
"""Files up to this size are read whole."""
XATTRS_INLINE = 256
"""Extended attributes of more bytes than this become a content of their own."""
XATTRS_ROOT = 1 << 20
"""The root's extended attributes lie in the manifest, which is bounded."""
_XATTR_OVERHEAD = 10  # bytes that packing adds to each


class Place(NamedTuple):
    """Where an entry is met: its folder's descriptor and device, and its path for messages."""

    folder: int
    device: int
    ordinal: int
    path: bytes


class _ReadFile(NamedTuple):
    """What was stored of a file: *found* is the fstat that goes with it, *looked_ns* a moment
    before the last look, *stable* whether it held still."""

    content: Reference | None
    size: int
    found: os.stat_result
    stable: bool
    looked_ns: int


class FileStorer:
    """Turns what lies in the source into rows; one thread.

    *users* and *groups* are the numbers that ACLs named.
    """

    def __init__(self, writer: RunWriter, systems: FileSystems, tally: Tally) -> None:
        self._writer, self._systems, self._tally = writer, systems, tally
        self.users: set[int] = set()
        self.groups: set[int] = set()
        self._links: dict[tuple[int, int], Entry] = {}
        self._waits = True
        self._patience = LeasePatience(break_seconds() + MARGIN)

    def store_at_once(self, stamp: Stamp, old: Entry | None, place: Place) -> Entry:
        """As :meth:`store`, but raises Leased instead of waiting; the lease is asked for."""
        self._waits = False
        try:
            return self.store(stamp, old, place)
        finally:
            self._waits = True

    def store(self, stamp: Stamp, old: Entry | None, place: Place) -> Entry:
        """The row for the entry listed as *stamp*; *old* is what the name was before.

        Raises SourceError when it cannot be read or vanished.
        """
        try:
            return self._store(stamp, old, place)
        except Replaced:
            fresh = self._look_again(stamp, place)
            if stat.S_ISDIR(fresh[MODE]):
                raise
            return self._store(fresh, old, place)

    def quick(
        self, stamp: Stamp, place: Place, looked_ns: int, base: Reference | None = None
    ) -> Entry | None:
        """The row of a small file, stored; None if it is not so simple.

        Then nothing was stored, and :meth:`store` is to look closer.  *looked_ns* is a moment
        before this; the name of *place* does not matter.  *base* is what the name held before.
        """
        size = stamp[SIZE]
        if (
            stamp[LINKS] != 1
            or size > min(SMALL_LIMIT, MEMORY_LIMIT)
            or not stat.S_ISREG(stamp[MODE])
        ):
            return None
        read = read_as_listed(stamp, place.folder)
        if read is None or read.blocks * 512 < size:  # the latter: it may be sparse
            return None
        if read.xattrs and _packed_bytes(read.xattrs) > states.XATTRS_LIMIT:
            return None
        content = None
        if size:
            content, stored = store_bytes(self._writer, read.data, base)
            self._tally.counts["bytes_read"] += size
            self._tally.counts["bytes_added"] += stored
        extras: Extras = {}
        if read.xattrs:
            self._meet(read.xattrs)
            extras[XATTRS] = read.xattrs
        if read.blocks != (size + 4095) // 4096 * 8:
            extras[BLOCKS] = read.blocks
        fresh = self.settled(stamp, place.device, looked_ns)
        if extras:
            return self._entry(fresh, content, b"", 0, extras)
        return Entry._make((*fresh, content, None, b"", 0, extras, None))

    def _look_again(self, stamp: Stamp, place: Place) -> Stamp:
        try:
            return stamp_of(stamp[0], os.lstat(stamp[0], dir_fd=place.folder))
        except OSError as error:
            raise source_error(error) from error

    def _store(self, stamp: Stamp, old: Entry | None, place: Place) -> Entry:
        if stat.S_ISREG(stamp[MODE]):
            known = self._linked(stamp, place)
            entry = known or self._regular(stamp, old, place)
        else:
            entry = self._special(stamp, place)
        if stamp[LINKS] > 1 and known_racy(entry) is False:
            self._links[place.ordinal, stamp[INODE]] = entry
        return entry

    def _linked(self, stamp: Stamp, place: Place) -> Entry | None:
        """The row of another link to the same file, stored in this run, if it is still the same."""
        if stamp[LINKS] < 2:
            return None
        other = self._links.get((place.ordinal, stamp[INODE]))
        # not racy, so an inode that was freed and used again has another ctime
        if other is not None and other[MODE : LINKS + 1] == stamp[MODE:]:
            return other._replace(name=stamp[0])
        return None

    def settled(self, stamp: Stamp, device: int, looked_ns: int) -> Stamp:
        """*stamp*, its ctime zeroed if a later change could leave the same one.

        *looked_ns* is a moment not later than the last look at the file.
        """
        granularity = self._systems.granularity_ns(device, stamp[CTIME])
        limit = looked_ns - granularity
        # a time of modification beyond now was set by hand, and that set the ctime
        if stamp[CTIME] >= limit or limit <= stamp[MTIME] <= looked_ns + granularity:
            return (*stamp[:CTIME], 0, *stamp[INODE:])
        return stamp

    def _regular(self, stamp: Stamp, old: Entry | None, place: Place) -> Entry:
        base = old.content if old is not None else None

        def wait() -> bool:
            self._writer.beat()
            return self._waits and self._patience.wait(stamp[UID])

        with opened_file(stamp[0], place.folder, stamp[INODE], wait) as (descriptor, listed):
            read = self._contents(descriptor, listed, base)
            xattrs = read_xattrs(descriptor)
        fresh = self.settled(stamp_of(stamp[0], read.found), place.device, read.looked_ns)
        extras = self._extras(read.found, xattrs, place)
        fresh = (*fresh[:SIZE], read.size, *fresh[MTIME:])
        if not read.stable:
            fresh = (*fresh[:CTIME], 0, *fresh[INODE:])
            extras[FLAGS] = UNSTABLE
            self._tally.problem(place.path, "changed while it was read; stored as it was read")
        fresh = self._bounded(fresh, extras, place, states.XATTRS_LIMIT)
        return self._entry(fresh, read.content, b"", 0, extras)

    def _contents(
        self, descriptor: int, found: os.stat_result, base: Reference | None
    ) -> _ReadFile:
        """Store what the file holds.

        A file that moves is read once more, and then kept as it was read.
        """
        for attempt in range(2):
            ref, size = self._read(descriptor, found, base)
            looked_ns = time.time_ns()
            after = look(descriptor)
            stable = size == found.st_size and not changed(found, after)
            # a large file without a base would be stored twice: keep what was read
            if stable or attempt or (base is None and size > MEMORY_LIMIT):
                break
            found = after
        return _ReadFile(ref, size, found, stable, looked_ns)

    def _read(
        self, descriptor: int, found: os.stat_result, base: Reference | None
    ) -> tuple[Reference | None, int]:
        counts, observer = self._tally.counts, self._tally.observer
        sparse = has_holes(descriptor, found)
        if found.st_size > MEMORY_LIMIT or sparse:
            source = FileSource(descriptor, found.st_size, sparse=sparse)
            large = LargeFile(
                self._writer, source, found.st_size, base, lambda size: observer.progress(0, size)
            ).store()
            counts["bytes_read"] += large.size
            counts["bytes_added"] += large.added
            return large.ref, large.size
        data = read_all(descriptor, found.st_size)[: found.st_size + 1]
        counts["bytes_read"] += len(data)
        observer.progress(0, len(data))
        if not data:
            return None, 0
        ref, stored = store_bytes(self._writer, data, base)
        counts["bytes_added"] += stored
        return ref, len(data)

    def _special(self, stamp: Stamp, place: Place) -> Entry:
        """A symbolic link, device, FIFO or socket."""
        name, target, looked_ns = stamp[0], b"", time.time_ns()
        try:
            if stat.S_ISLNK(stamp[MODE]):
                target = os.readlink(name, dir_fd=place.folder)
            found = os.lstat(name, dir_fd=place.folder)
        except OSError as error:
            raise source_error(error) from error
        if stat.S_IFMT(found.st_mode) != stat.S_IFMT(stamp[MODE]):
            raise Replaced("was replaced while it was backed up")
        xattrs = read_xattrs(b"/proc/self/fd/%d/%b" % (place.folder, name), follow=False)
        fresh = self.settled(stamp_of(name, found), place.device, looked_ns)
        if target:  # some file systems say 0; pages are split by the lengths of targets
            fresh = (*fresh[:SIZE], len(target), *fresh[MTIME:])
        device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
        extras = self._extras(found, xattrs, place)
        fresh = self._bounded(fresh, extras, place, states.XATTRS_LIMIT)
        return self._entry(fresh, None, target, found.st_rdev if device else 0, extras)

    def _extras(self, found: os.stat_result, xattrs: dict[bytes, bytes], place: Place) -> Extras:
        """What the row has besides the common fields; xattrs as they are."""
        extras: Extras = {}
        if xattrs:
            self._meet(xattrs)
            extras[XATTRS] = xattrs
        if found.st_nlink > 1 and place.ordinal and not stat.S_ISDIR(found.st_mode):
            extras[GROUP] = place.ordinal
        # fewer than none: what some file systems in user space say
        if 0 <= found.st_blocks != expected_blocks(found.st_mode, found.st_size):
            extras[BLOCKS] = found.st_blocks
        return extras

    def _meet(self, xattrs: Mapping[bytes, bytes]) -> None:
        users, groups = named_numbers(xattrs)
        self.users |= users
        self.groups |= groups

    def _bounded(self, stamp: Stamp, extras: Extras, place: Place, limit: int) -> Stamp:
        """*stamp*; extended attributes that could not be read back leave *extras*, and are told.

        The stamp is zeroed then, so that the next run looks, and tells, again.
        """
        size = _packed_bytes(extras.get(XATTRS, {}))
        if size <= limit:
            return stamp
        del extras[XATTRS]
        self._tally.problem(
            place.path,
            f"has {size:,} bytes of extended attributes, and {limit:,} can be stored: without them",
        )
        return (*stamp[:CTIME], 0, *stamp[INODE:])

    def _entry(
        self, stamp: Stamp, content: Reference | None, target: bytes, rdev: int, extras: Extras
    ) -> Entry:
        """A row; extended attributes that are large are moved into a content."""
        xattrs = extras.get(XATTRS)
        ref = None
        if xattrs and sum(len(k) + len(v) for k, v in xattrs.items()) > XATTRS_INLINE:
            ref, _ = store_bytes(self._writer, pack(dict(sorted(xattrs.items()))), None)
            del extras[XATTRS]
        return Entry(*stamp, content, None, target, rdev, extras, ref)

    def folder(self, stamp: Stamp, descriptor: int, place: Place, *, inline: bool = False) -> Entry:
        """The row of an open directory, still without its state.

        With *inline* no content is made of its extended attributes, however large.
        """
        looked_ns = time.time_ns()
        found = look(descriptor)
        extras = self._extras(found, read_xattrs(descriptor), place)
        fresh = self.settled(stamp_of(stamp[0], found), place.device, looked_ns)
        is_root = inline and not place.path
        limit = XATTRS_ROOT if is_root else states.XATTRS_LIMIT
        fresh = self._bounded(fresh, extras, place, limit)
        if inline:
            return Entry(*fresh, None, None, b"", 0, extras, None)
        return self._entry(fresh, None, b"", 0, extras)


def _packed_bytes(xattrs: Mapping[bytes, bytes]) -> int:
    """How many bytes *xattrs* take when packed, at most."""
    return sum(len(name) + len(value) + _XATTR_OVERHEAD for name, value in xattrs.items())


def flagged(old: Entry, flag: int) -> Entry:
    """The row *old* of what could not be read, flagged, and sure to be looked at next time."""
    return old._replace(ctime_ns=0, extras={**old.extras, FLAGS: old.flags | flag})


def known_racy(entry: Entry) -> bool:
    """Whether an entry's change-detection stamp was zeroed."""
    return entry.ctime_ns == 0
