"""Making one entry on the disk: contents first, then its metadata."""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from typing import TypeVar

from ibtfs.actions.restore.causes import explained
from ibtfs.actions.restore.dressing import Dresser
from ibtfs.errors import DestinationFull, RestoreFailed
from ibtfs.format.digests import ContentHasher
from ibtfs.format.entry import BLOCKS
from ibtfs.format.extents import HOLE
from ibtfs.format.index import Reference
from ibtfs.store.contents.holes import Stretch, stretches
from ibtfs.store.contents.reader import Contents
from ibtfs.store.trees.directory import Entry
from ibtfs.store.trees.paths import PIECE, check_digest, check_size

WHOLE_PIECE = 4 << 20
"""Files up to this size are checked before anything is written."""
READ_AHEAD = 4
"""Pieces of a large file that are read while others are written."""
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a file is opened that must not exist yet."""


def failed(error: OSError) -> RestoreFailed:
    """*error* as one of ours.  Raises DestinationFull if all that follows would fail as well."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DestinationFull(
            "No space left where the files are restored to: free some room, then restore again "
            "with --overwrite if-changed"
        ) from error
    return RestoreFailed(f"cannot be restored: {error.strerror or error}")


def refused(error: OSError, parent: int, name: bytes) -> RestoreFailed:
    """The *error* of a change to *name* in an open folder as one of ours, by its true cause.

    Raises DestinationFull.
    """
    told = explained(error, parent, name)
    return told if isinstance(told, RestoreFailed) else failed(told)


class EntryWriter:
    """Creates entries and sets their metadata.

    *users* and *groups* say which number a stored number is here.  Threads may share it; *pool*
    reads large files ahead.  The *path* of an entry is how it is told of.
    """

    def __init__(
        self, contents: Contents, users: Mapping[int, int], groups: Mapping[int, int],
        pool: Executor,
    ) -> None:  # fmt: skip
        self._pool, self._contents = pool, contents
        self.dresser = Dresser(contents, users, groups)

    @property
    def unset(self) -> Counter[str]:
        """How many entries lack what, for it could not be set."""
        return self.dresser.unset.counts

    def file(
        self, entry: Entry, parent: int, name: bytes, path: bytes = b""
    ) -> os.stat_result | None:
        """Write a regular file that does not exist yet; how it is then, if it has more links.

        Nothing is left of it when its bytes turn out not to be what was stored.
        Raises RestoreFailed, IntegrityError.
        """
        first = None
        if entry.content is None:
            first = b""
        elif entry.size <= WHOLE_PIECE and not is_sparse(entry):
            first = self._contents.whole(entry.content, entry.size)
        try:
            descriptor = os.open(name, NEW_FILE, 0o600, dir_fd=parent)
        except OSError as error:
            raise refused(error, parent, name) from error
        try:
            try:
                if first is not None:
                    _write(descriptor, first)
                else:
                    self._large(entry, descriptor)
                self.dresser.dress(entry, descriptor, path or name)
                return os.fstat(descriptor) if entry.links > 1 else None
            finally:
                os.close(descriptor)
        except BaseException as error:
            os.unlink(name, dir_fd=parent)
            if isinstance(error, OSError):
                raise failed(error) from error
            raise

    def _large(self, entry: Entry, descriptor: int) -> None:
        """Write a file piece by piece, keeping its holes, and compare its digest.

        Threads read ahead: decompressing takes longer than writing and comparing together.
        """
        hasher = self._contents.digests.hasher()
        sparse = is_sparse(entry)
        assert entry.content is not None  # file has dealt with empty files
        check_size(self._contents, entry)
        if sparse:
            self._sparse(entry.content, descriptor, hasher)
            os.ftruncate(descriptor, entry.size)
            check_digest(self._contents, entry, hasher.finish())
            return
        read = functools.partial(self._contents.read, entry.content, size=PIECE)
        for _, data in ahead(self._pool, read, range(0, entry.size, PIECE)):
            hasher.update(data)
            _write(descriptor, data)
        check_digest(self._contents, entry, hasher.finish())

    def _sparse(self, content: Reference, descriptor: int, hasher: ContentHasher) -> None:
        """Write what is not a hole; *hasher* is given all of it."""

        def read(stretch: Stretch) -> bytes:
            start, length, is_hole = stretch
            return b"" if is_hole else self._contents.read(content, start, length)

        found = stretches(self._contents, content, PIECE)
        for (start, length, is_hole), data in ahead(self._pool, read, found):
            if is_hole:
                hasher.add_zeros(length)
                os.lseek(descriptor, length, os.SEEK_CUR)
            else:
                hasher.update(data)
                self._write_around_holes(content, descriptor, start, data)

    def _write_around_holes(
        self, content: Reference, descriptor: int, offset: int, data: bytes
    ) -> None:
        """Write a piece that begins at *offset*, but not its holes."""
        view = memoryview(data)
        begin = position = 0
        for segment in self._contents.segments(content, offset, offset + len(data)):
            if segment.owner is None and segment.offset == HOLE:
                _write(descriptor, view[begin:position])
                os.lseek(descriptor, segment.length, os.SEEK_CUR)
                begin = position + segment.length
            position += segment.length
        _write(descriptor, view[begin:])

    def special(self, entry: Entry, parent: int, name: bytes, path: bytes = b"") -> os.stat_result:
        """Make a symbolic link, device, FIFO or socket; how it is then.

        Raises RestoreFailed, IntegrityError.
        """
        try:
            if stat.S_ISLNK(entry.mode):
                os.symlink(entry.target, name, dir_fd=parent)
            else:
                kind = stat.S_IFMT(entry.mode)
                os.mknod(name, kind | 0o600, entry.rdev, dir_fd=parent)
            return self.dresser.dress_at(entry, parent, name, path or name)
        except OSError as error:
            raise refused(error, parent, name) from error

    def metadata_at(
        self, entry: Entry, parent: int, name: bytes, old: os.stat_result, path: bytes = b""
    ) -> os.stat_result:
        """Set the metadata of what is in an open folder, if it still is the *old* one.

        How it then is.
        Raises OSError, RestoreFailed, IntegrityError.
        """
        return self.dresser.dress_at(entry, parent, name, path or name, old)


Place = TypeVar("Place")


def ahead(
    pool: Executor, read: Callable[[Place], bytes], offsets: Iterable[Place]
) -> Iterator[tuple[Place, bytes]]:
    """Each of *offsets* with what *read* gives for it, some of it read by *pool* beforehand."""
    waiting: deque[tuple[Place, Future[bytes]]] = deque()
    try:
        for offset in offsets:
            waiting.append((offset, pool.submit(read, offset)))
            if len(waiting) > READ_AHEAD:
                first, found = waiting.popleft()
                yield first, found.result()
        while waiting:
            first, found = waiting.popleft()
            yield first, found.result()
    finally:
        for _, found in waiting:
            found.cancel()


def is_sparse(entry: Entry) -> bool:
    """Whether the original had fewer blocks than its size needs."""
    blocks: int | None = entry.extras.get(BLOCKS)
    return blocks is not None and blocks * 512 < entry.size


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
