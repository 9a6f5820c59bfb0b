"""Making one entry on the disk: contents first, then owner, mode, xattrs and ACLs, times."""

from __future__ import annotations

import errno
import functools
import os
import stat
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future

from blake3 import blake3

from ibtfs.actions.observer import Tally
from ibtfs.errors import DestinationFull, RestoreFailed
from ibtfs.format.acl import ACCESS_ACL, DEFAULT_ACL, renumbered
from ibtfs.format.entry import BLOCKS
from ibtfs.format.extents import HOLE
from ibtfs.format.index import Reference
from ibtfs.store.contents.reader import Contents
from ibtfs.store.trees.directory import Entry, entry_xattrs
from ibtfs.store.trees.paths import PIECE, check_digest, check_size

WHOLE_PIECE = 4 << 20
"""Files up to this size are checked before anything is written."""
READ_AHEAD = 4
"""Pieces of a large file that are read while others are written."""
NOBODY = 0xFFFFFFFF
SET_IDS = stat.S_ISUID | stat.S_ISGID
_JUST_IT = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
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


class EntryWriter:
    """Creates entries and sets their metadata.

    *users* and *groups* say which number a stored number is here.  What may not be set is counted
    in *unset* and is no failure: an ordinary user cannot set everything.  Threads may share it;
    *pool* reads large files ahead.
    """

    def __init__(
        self, contents: Contents, users: Mapping[int, int], groups: Mapping[int, int],
        pool: Executor,
    ) -> None:  # fmt: skip
        self._pool, self._lock = pool, threading.Lock()
        self._contents, self._users, self._groups = contents, users, groups
        self._self = (os.geteuid(), os.getegid())
        self.unset: Counter[str] = Counter()

    def file(self, entry: Entry, parent: int, name: bytes) -> int:
        """Write a regular file that does not exist yet; its size.

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
            raise failed(error) from error
        try:
            try:
                if first is not None:
                    _write(descriptor, first)
                else:
                    self._large(entry, descriptor)
                self.metadata(entry, descriptor)
            finally:
                os.close(descriptor)
        except BaseException as error:
            os.unlink(name, dir_fd=parent)
            if isinstance(error, OSError):
                raise failed(error) from error
            raise
        return entry.size

    def _large(self, entry: Entry, descriptor: int) -> None:
        """Write a file piece by piece, keeping its holes, and compare its digest.

        Threads read ahead: decompressing takes longer than writing and comparing together.
        """
        hasher = blake3()
        sparse = is_sparse(entry)
        assert entry.content is not None  # file has dealt with empty files
        check_size(self._contents, entry)
        read = functools.partial(self._contents.read, entry.content, size=PIECE)
        for offset, data in ahead(self._pool, read, range(0, entry.size, PIECE)):
            hasher.update(data)
            if not sparse:
                _write(descriptor, data)
            else:
                self._write_around_holes(entry.content, descriptor, offset, data)
        if sparse:
            os.ftruncate(descriptor, entry.size)
        check_digest(self._contents, entry, hasher.digest())

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

    def special(self, entry: Entry, parent: int, name: bytes) -> None:
        """Make a symbolic link, device, FIFO or socket.  Raises RestoreFailed, IntegrityError."""
        try:
            if stat.S_ISLNK(entry.mode):
                os.symlink(entry.target, name, dir_fd=parent)
            else:
                kind = stat.S_IFMT(entry.mode)
                os.mknod(name, kind | 0o600, entry.rdev, dir_fd=parent)
            self.metadata_at(entry, parent, name)
        except OSError as error:
            raise failed(error) from error

    def _owner(self, entry: Entry) -> tuple[int, int]:
        return self._users.get(entry.uid, entry.uid), self._groups.get(entry.gid, entry.gid)

    def metadata(self, entry: Entry, target: int | bytes) -> None:
        """Owner, mode, xattrs, times of a file or directory, by descriptor or a path to one.

        Raises OSError.
        """
        owner, mode = self._owner(entry), stat.S_IMODE(entry.mode)
        mine = owner == self._self and self._is_owned(target)
        if not mine and not self._try("owners", lambda: _give(owner, target)):
            mode &= ~SET_IDS  # what ran as somebody else must not run as whoever restores
        self._xattrs(entry, target, mode, follow=True)
        self._try("times", lambda: os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns)))

    def tell_unset(self, tally: Tally) -> None:
        """Count, and say, what metadata could not be set."""
        for what, count in self.unset.items():
            tally.counts[f"unset_{what.replace(' ', '_')}"] = count
            tally.observer.note(
                f"The {what} of {count} entries could not be set (restore as root to set them)"
            )

    def _is_owned(self, target: int | bytes) -> bool:
        """Whether it is ours already: to look is a quarter of the work of setting it.

        A new file may have the group of its folder.
        """
        found = os.stat(target)
        return (found.st_uid, found.st_gid) == self._self

    def metadata_at(
        self, entry: Entry, parent: int, name: bytes, old: os.stat_result | None = None
    ) -> None:
        """Owner, mode, xattrs, times of what is in an open folder, if it still is the *old* one.

        Raises OSError, RestoreFailed.
        """
        if stat.S_ISLNK(entry.mode):
            self._link_metadata(entry, parent, name)
            return
        # whoever owns the folder may put a link to anything in its place at any moment
        descriptor = os.open(name, _JUST_IT, dir_fd=parent)
        try:
            found = os.fstat(descriptor)
            same = old is None or (found.st_dev, found.st_ino) == (old.st_dev, old.st_ino)
            if not same or stat.S_IFMT(found.st_mode) != stat.S_IFMT(entry.mode):
                raise RestoreFailed("was replaced while it was restored")
            self.metadata(entry, b"/proc/self/fd/%d" % descriptor)
        finally:
            os.close(descriptor)

    def _link_metadata(self, entry: Entry, parent: int, name: bytes) -> None:
        """Owner, xattrs and times of a symbolic link; it has no mode."""
        owner, times = self._owner(entry), (entry.mtime_ns, entry.mtime_ns)
        self._try("owners", lambda: os.chown(name, *owner, dir_fd=parent, follow_symlinks=False))
        path = b"/proc/self/fd/%d/%b" % (parent, name)
        self._xattrs(entry, path, 0, follow=False)
        self._try("times", lambda: os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False))

    def _xattrs(self, entry: Entry, target: int | bytes, mode: int, *, follow: bool) -> None:
        """Set the mode and the extended attributes, and remove those that the entry does not have.

        What a user may set on a file that may be written comes before the mode, ACLs and
        capabilities after it, for a change of mode changes them.
        """
        listed = _listed(target, follow=follow)
        if not listed and not entry.extras and entry.xattrs_content is None:
            if not stat.S_ISLNK(entry.mode):
                self._try("modes", lambda: os.chmod(target, mode))
            return
        wanted = entry_xattrs(entry, self._contents)
        for text in listed:
            name = os.fsencode(text)
            if name not in wanted and name.startswith((b"user.", b"system.posix_acl_")):
                self._try("ACLs", lambda: os.removexattr(target, text, follow_symlinks=follow))  # noqa: B023
        late = sorted(wanted, key=lambda name: not name.startswith(b"user."))
        first = sum(name.startswith(b"user.") for name in late)
        for name in late[:first]:
            self._xattr(target, name, wanted[name], follow=follow)
        if not stat.S_ISLNK(entry.mode):
            self._try("modes", lambda: os.chmod(target, mode))
        for name in late[first:]:
            self._xattr(target, name, wanted[name], follow=follow)

    def _xattr(self, target: int | bytes, name: bytes, value: bytes, *, follow: bool) -> None:
        what = "extended attributes"
        if name in (ACCESS_ACL, DEFAULT_ACL):
            what, value = "ACLs", renumbered(value, self._users, self._groups)
        self._try(what, lambda: os.setxattr(target, name, value, follow_symlinks=follow))

    def _try(self, what: str, change: Callable[[], None]) -> bool:
        """Make a change that an ordinary user, or a simpler file system, may not be able to.

        Whether it was made.
        """
        try:
            change()
        except OverflowError:
            self._not_set(what)
            return False
        except OSError as error:
            allowed = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSPC,
                       errno.E2BIG, errno.ERANGE)  # fmt: skip
            if error.errno not in allowed:
                raise
            self._not_set(what)
            return False
        return True

    def _not_set(self, what: str) -> None:
        with self._lock:
            self.unset[what] += 1


def ahead(
    pool: Executor, read: Callable[[int], bytes], offsets: Iterable[int]
) -> Iterator[tuple[int, bytes]]:
    """Each of *offsets* with what *read* gives for it, some of it read by *pool* beforehand."""
    waiting: deque[tuple[int, Future[bytes]]] = deque()
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


def _give(owner: tuple[int, int], target: int | bytes) -> None:
    """Set the owner and the group.  Raises OSError."""
    if NOBODY in owner:  # the system would take it for "as it is", and say that all is well
        raise OSError(errno.EINVAL, "Not a number of a user or a group")
    os.chown(target, *owner)


def _listed(target: int | bytes, *, follow: bool) -> list[str]:
    try:
        return os.listxattr(target, follow_symlinks=follow)
    except OSError:
        return []


def is_sparse(entry: Entry) -> bool:
    """Whether the original had fewer blocks than its size needs."""
    blocks: int | None = entry.extras.get(BLOCKS)
    return blocks is not None and blocks * 512 < entry.size


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
