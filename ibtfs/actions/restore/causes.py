"""What of the metadata could not be set, on which entries, and why: the true cause, in words."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import threading
from collections import Counter
from enum import Enum

from ibtfs.actions.observer import Tally
from ibtfs.errors import RestoreFailed

_GET_FLAGS = 0x80086601 if struct.calcsize("l") == 8 else 0x80046601
"""FS_IOC_GETFLAGS."""
_APPEND_ONLY, _IMMUTABLE = 0x20, 0x10


class Cause(Enum):
    """Why something could not be set; the value is what people are told."""

    NOT_ROOT = "restore as root to set them"
    FLAGS = "immutable or append-only (chattr -i -a, then restore again)"
    REFUSED = "the system refuses it, to root as well"
    NOT_KEPT = "the file system there keeps no such thing"
    NO_ROOM = "the file system there has no room for them"
    NO_VALUE = "the system there takes no such value"
    NO_DATE = "the file system there cannot hold such a date"
    TOO_MANY = "the file system there takes no more links to one file; those after it share another"
    OTHER_DISK = "another file system lies between them"
    REPLACED = "the other name was replaced meanwhile"


_BY_NUMBER = {
    errno.EOPNOTSUPP: Cause.NOT_KEPT,
    errno.ENOSYS: Cause.NOT_KEPT,
    errno.ENOSPC: Cause.NO_ROOM,
    errno.E2BIG: Cause.NO_ROOM,
    errno.ERANGE: Cause.NO_ROOM,
    errno.EINVAL: Cause.NO_VALUE,
    errno.EMLINK: Cause.TOO_MANY,
    errno.EXDEV: Cause.OTHER_DISK,
}


def cause_of(error: OSError, target: int | bytes) -> Cause:
    """Why the system refused, with *error*, to change *target*: a descriptor, or a path to one."""
    known = _BY_NUMBER.get(error.errno or 0)
    if known is not None:
        return known
    if error.errno == errno.EPERM and is_locked(target):
        return Cause.FLAGS
    return Cause.NOT_ROOT if os.geteuid() else Cause.REFUSED


def is_locked(target: int | bytes) -> bool:
    """Whether a file or folder, by descriptor or a path to one, is immutable or append-only.

    False as well for what has no such flags, or does not tell.
    """
    path = b"/proc/self/fd/%d" % target if isinstance(target, int) else target
    answer = bytearray(8)
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _GET_FLAGS, answer)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return bool(int.from_bytes(answer[:4], "little") & (_APPEND_ONLY | _IMMUTABLE))


def explained(error: OSError, parent: int, name: bytes) -> OSError | RestoreFailed:
    """*error* of a change to *name* in the open folder *parent*; its true cause, if flags were."""
    if error.errno != errno.EPERM:
        return error
    if is_locked(parent):
        return RestoreFailed(f"its folder is {Cause.FLAGS.value}")
    try:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return error
    try:
        locked = is_locked(descriptor)
    finally:
        os.close(descriptor)
    return RestoreFailed(f"what is there is {Cause.FLAGS.value}") if locked else error


class Unset:
    """Counts what could not be set; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._causes: Counter[tuple[str, Cause]] = Counter()
        self._first: dict[tuple[str, Cause], bytes] = {}

    def add(self, what: str, cause: Cause, path: bytes) -> None:
        """The *what* (owners, times, ...) of *path* could not be set."""
        with self._lock:
            self._causes[what, cause] += 1
            self._first.setdefault((what, cause), path)

    @property
    def counts(self) -> Counter[str]:
        """How many entries there are, by what could not be set."""
        found: Counter[str] = Counter()
        for (what, _), count in self._causes.items():
            found[what] += count
        return found

    def tell(self, tally: Tally) -> None:
        """Count, and say, what could not be set.

        What an ordinary user may not set is a note: that was known before.  All else is a problem.
        """
        for what, count in self.counts.items():
            tally.counts[f"unset_{what.replace(' ', '_')}"] = count
        for (what, cause), count in self._causes.items():
            if cause is Cause.NOT_ROOT:
                tally.observer.note(
                    f"The {what} of {count} entries could not be set ({cause.value})"
                )
                continue
            more = f" (nor those of {count - 1:,} more)" if count > 1 else ""
            message = f"its {what} could not be set{more}: {cause.value}"
            tally.problem(self._first[what, cause], message)
