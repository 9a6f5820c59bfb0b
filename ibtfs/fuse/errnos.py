"""The one table of which error of a view becomes which errno, for both adapters.

Owns also what is said about errors in the log: damage and unreachable storage in one line, once
each; what nobody expected with its traceback.  A name that is not there says nothing.
And it owns what is answered for an extended attribute that is not there.
"""

from __future__ import annotations

import errno
import logging
import os
import threading

from ibtfs import errors

log = logging.getLogger(__name__)

# The first line that fits counts, so subclasses come before their bases.
ERRNOS: tuple[tuple[type[BaseException], int], ...] = (
    (errors.NotADirectory, errno.ENOTDIR),
    (errors.NotAFile, errno.EISDIR),
    (errors.NotFound, errno.ENOENT),
    (errors.PointGone, errno.ESTALE),
)
# EIO, and one line in the log is enough to know why.
TROUBLES = (errors.IbtfsError, OSError)
MOST_REMEMBERED = 1000


SELINUX_FILES = "/sys/fs/selinux"
SELINUX_LABEL = b"security.selinux"


class AbsentAttributes:
    """What to answer for an extended attribute that a file does not have.

    Where no SELinux runs, a label is said to be unsupported, not absent: ``ls -l`` then asks for
    one file, not for each of 100,000. A label that was stored is given all the same.
    """

    def __init__(self) -> None:
        self._labels = os.path.isdir(SELINUX_FILES)

    def number(self, name: bytes) -> int:
        """The errno for the attribute *name*."""
        unsupported = name == SELINUX_LABEL and not self._labels
        return errno.EOPNOTSUPP if unsupported else errno.ENODATA


class Refused(Exception):
    """An answer that is nothing but a number, where a protocol has no other way to say it."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.number = number


class ErrorNumbers:
    """Turns errors into errno numbers, and logs those that an operator should know of.

    One object for each mount; may be used from several threads.  The same line is logged once:
    a reader that tries again, or one request for each page, would repeat it a hundred times.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged: dict[str, None] = {}

    def number(self, error: BaseException) -> int:
        """The errno to answer for *error*."""
        if isinstance(error, Refused):
            return error.number
        for kind, number in ERRNOS:
            if isinstance(error, kind):
                return number
        if not isinstance(error, TROUBLES):
            log.error("Unexpected error in a mount", exc_info=error)
        elif self._is_new(str(error)):
            log.error("%s", error)
        return errno.EIO

    def _is_new(self, line: str) -> bool:
        with self._lock:
            if line in self._logged:
                return False
            if len(self._logged) >= MOST_REMEMBERED:
                del self._logged[next(iter(self._logged))]
            self._logged[line] = None
            return True
