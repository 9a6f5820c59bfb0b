"""Opening what is backed up: never through a link, never blocking, and only what was listed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from ibtfs.actions.source.leases import LeasePatience
from ibtfs.errors import Leased, Replaced, SourceError, Vanished
from ibtfs.format.entry import NAME, SIZE, Stamp

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_XATTRS = (errno.EOPNOTSUPP, errno.ENODATA, errno.EPERM, errno.EACCES, errno.ENOENT,
              errno.ENOSYS, errno.EINVAL)  # fmt: skip
LEASE_SECONDS = 2.0
"""So long is waited for a file's lease by who does not say how long."""
_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


def source_error(error: OSError) -> SourceError:
    """*error* as one of ours."""
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return Vanished("vanished while it was backed up")
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EMLINK):
        return Replaced("was replaced while it was backed up")
    return SourceError(f"cannot be read: {error.strerror or error}")


def stamp_of(name: bytes, found: os.stat_result) -> Stamp:
    """What one lstat tells, as a row's stamp."""
    return (
        name, found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns,
        found.st_ctime_ns, found.st_ino, found.st_nlink,
    )  # fmt: skip


def look(descriptor: int) -> os.stat_result:
    """The fstat of an open file.  Raises SourceError."""
    try:
        return os.fstat(descriptor)
    except OSError as error:
        raise source_error(error) from error


def _open_file(name: bytes, parent: int, wait: Callable[[], bool]) -> int:
    """Open a file to be read; again and again, as *wait* allows, while it is leased.

    Raises Leased, OSError.
    """
    while True:
        try:
            return _open(name, parent, _FILE)
        except BlockingIOError:
            if not wait():
                raise Leased("is in use: a program holds a lease on it") from None


def _open(name: bytes, parent: int, flags: int) -> int:
    """Open without touching the access time, where that is allowed."""
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=parent)
    except PermissionError:
        return os.open(name, flags, dir_fd=parent)


@contextmanager
def opened_file(
    name: bytes, parent: int, inode: int, wait: Callable[[], bool] | None = None
) -> Iterator[tuple[int, os.stat_result]]:
    """A regular file in folder *parent*, open for reading, and its fstat.

    While a program holds a lease on it, *wait* is called; false: that was enough.
    Raises Replaced unless it is the regular file with *inode* that was listed; Vanished, Leased,
    SourceError.
    """
    if wait is None:
        wait = partial(LeasePatience(LEASE_SECONDS).wait, 0)
    try:
        descriptor = _open_file(name, parent, wait)
    except OSError as error:
        raise source_error(error) from error
    try:
        found = look(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_ino != inode:
            raise Replaced("was replaced while it was backed up")
        yield descriptor, found
    finally:
        os.close(descriptor)


class QuickRead(NamedTuple):
    """A small regular file as it was listed: its bytes, st_blocks, extended attributes."""

    data: bytes
    blocks: int
    xattrs: dict[bytes, bytes]


def read_as_listed(stamp: Stamp, parent: int) -> QuickRead | None:
    """The file listed as *stamp* in folder *parent*, in as few system calls as can be.

    None unless it is, after reading, in all just as it was listed; then it is for the caller to
    look closer.  Four calls and a close in place of eight: a fifth of a first backup's time.
    """
    name, size = stamp[NAME], stamp[SIZE]
    try:
        descriptor = os.open(name, _FILE | os.O_NOATIME, dir_fd=parent)
    except OSError:
        return None
    try:
        data = os.pread(descriptor, size + 1, 0)
        xattrs = read_xattrs(descriptor) if os.listxattr(descriptor) else {}
        found = os.fstat(descriptor)
    except (OSError, SourceError):
        return None
    finally:
        os.close(descriptor)
    if len(data) != size or stamp_of(name, found) != stamp:
        return None
    return QuickRead(data, found.st_blocks, xattrs)


def open_folder(name: bytes, parent: int) -> tuple[int, os.stat_result]:
    """A folder in *parent*, and its fstat.  Raises SourceError."""
    try:
        descriptor = _open(name, parent, _FOLDER)
        return descriptor, os.fstat(descriptor)
    except OSError as error:
        raise source_error(error) from error


def open_source(path: bytes) -> tuple[int, os.stat_result]:
    """The folder at *path*, reached through links if need be, and its fstat.

    Raises SourceError.
    """
    try:
        descriptor = os.open(path, _FOLDER & ~os.O_NOFOLLOW)
        return descriptor, os.fstat(descriptor)
    except OSError as error:
        raise SourceError(f"{os.fsdecode(path)}: {source_error(error)}") from error


def read_all(descriptor: int, size: int) -> bytes:
    """The file from its beginning: all of it, or one byte more than *size* if it grew.

    Less than was asked for is the end, if it is where the end should be.
    """
    try:
        data = os.pread(descriptor, size + 1, 0)
        while 0 < len(data) < size:
            more = os.pread(descriptor, size + 1 - len(data), len(data))
            if not more:
                break
            data += more
    except OSError as error:
        raise source_error(error) from error
    return data


def read_xattrs(target: int | bytes, *, follow: bool = True) -> dict[bytes, bytes]:
    """The extended attributes of a descriptor or a path; none where there are none to be had.

    ACLs are among them.  An attribute that vanishes meanwhile, or may not be read (trusted.* for
    an ordinary user), is left out.  Raises SourceError.
    """
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return {}
        raise source_error(error) from error
    values = {}
    for name in names:
        try:
            values[os.fsencode(name)] = os.getxattr(target, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                raise source_error(error) from error
    return values


def changed(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether a file changed between two looks at it."""
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
        after.st_size, after.st_mtime_ns, after.st_ctime_ns,
    )  # fmt: skip
