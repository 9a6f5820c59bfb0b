"""The metadata of one entry: owner, mode, xattrs and ACLs, times; by descriptor, never by name."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping

from ibtfs.actions.restore.causes import Cause, Unset, cause_of
from ibtfs.errors import RestoreFailed
from ibtfs.format.acl import ACCESS_ACL, DEFAULT_ACL, renumbered
from ibtfs.format.entry import XATTRS
from ibtfs.store.contents.reader import Contents
from ibtfs.store.trees.directory import Entry, entry_xattrs

NOBODY = 0xFFFFFFFF
SET_IDS = stat.S_ISUID | stat.S_ISGID
_JUST_IT = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAY_FAIL = frozenset({
    errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSPC, errno.E2BIG,
    errno.ERANGE,
})  # fmt: skip
"""What an ordinary user, or a simpler file system, answers to a change that it does not make."""

_SECOND = 10**9
_YOUNG = 60 * _SECOND
_DAY = 86_400 * _SECOND
_HELD_EVERYWHERE = range(315_532_800 * _SECOND + 2 * _DAY, 0x7FFFFFFF * _SECOND - 2 * _DAY)
"""Times (ns) that all file systems can hold: FAT begins in 1980, 32 bits end in 2038."""


class Dresser:
    """Sets metadata.

    *users* and *groups* say which number a stored number is here.  What may not be set is counted
    in *unset* and raises nothing: an ordinary user cannot set everything.  Threads may share it.
    """

    def __init__(
        self, contents: Contents, users: Mapping[int, int], groups: Mapping[int, int]
    ) -> None:
        self._contents, self._users, self._groups = contents, users, groups
        self._self = (os.geteuid(), os.getegid())
        self.unset = Unset()

    def owner(self, entry: Entry) -> tuple[int, int]:
        """Whom *entry* belongs to here: the numbers of the user and of the group."""
        return self._users.get(entry.uid, entry.uid), self._groups.get(entry.gid, entry.gid)

    def opens(self, entry: Entry, found: os.stat_result) -> bool:
        """Whether dressing what was *found* as *entry* might let somebody at what is in it."""
        if self.owner(entry) != (found.st_uid, found.st_gid):
            return True
        more = stat.S_IMODE(entry.mode) & ~stat.S_IMODE(found.st_mode)
        return bool(more) or XATTRS in entry.extras or entry.xattrs_content is not None

    def dress(
        self, entry: Entry, target: int | bytes, path: bytes, old: os.stat_result | None = None
    ) -> None:
        """Owner, mode, xattrs, times of what *target* is, a descriptor or a path to one.

        *path* is how it is told of.  Of *old*, as it was there before, only what differs is set:
        what may not be changed is then no problem, if there is nothing to change.
        Raises OSError, IntegrityError.
        """
        owner, mode = self.owner(entry), stat.S_IMODE(entry.mode)
        mine = self._is_owned(target, owner, old)
        if not mine and not self._try("owners", path, target, lambda: _give(owner, target)):
            mode &= ~SET_IDS  # what ran as somebody else must not run as whoever restores
        self._modes(entry, target, mode, path, old if mine else None)
        if old is None or old.st_mtime_ns != entry.mtime_ns:
            self._times(entry, target, path)

    def dress_at(
        self, entry: Entry, parent: int, name: bytes, path: bytes,
        old: os.stat_result | None = None,
    ) -> os.stat_result:  # fmt: skip
        """Dress what is in an open folder if it still is the *old* one, or the new *entry*.

        How it then is.  Whoever owns the folder may put anything else in its place at any moment.
        Raises OSError, RestoreFailed, IntegrityError.
        """
        descriptor = os.open(name, _JUST_IT, dir_fd=parent)
        try:
            found = os.fstat(descriptor)
            if old is not None:
                same = (found.st_dev, found.st_ino) == (old.st_dev, old.st_ino)
            else:
                same = _is_new(entry, found, descriptor)
            if not same or stat.S_IFMT(found.st_mode) != stat.S_IFMT(entry.mode):
                raise RestoreFailed("was replaced while it was restored")
            # the system leads from here to what is open, a symbolic link as well, not further
            self.dress(entry, b"/proc/self/fd/%d" % descriptor, path, found if old else None)
            return os.fstat(descriptor)
        except FileNotFoundError as error:
            raise RestoreFailed("gets no metadata, for /proc is not mounted here") from error
        finally:
            os.close(descriptor)

    def _is_owned(
        self, target: int | bytes, owner: tuple[int, int], old: os.stat_result | None
    ) -> bool:
        """Whether it is *owner*'s already: to look is a quarter of the work of setting it.

        A new file may have the group of its folder.
        """
        if old is None:
            if owner != self._self:
                return False
            old = os.stat(target)
        return (old.st_uid, old.st_gid) == owner

    def _times(self, entry: Entry, target: int | bytes, path: bytes) -> None:
        times = (entry.mtime_ns, entry.mtime_ns)
        if not self._try("times", path, target, lambda: os.utime(target, ns=times)):
            return
        if entry.mtime_ns in _HELD_EVERYWHERE:
            return
        # a date that it cannot hold becomes the next one that it can, and no error
        if abs(os.stat(target).st_mtime_ns - entry.mtime_ns) >= 2 * _SECOND:
            self.unset.add("times", Cause.NO_DATE, path)

    def _modes(
        self, entry: Entry, target: int | bytes, mode: int, path: bytes,
        old: os.stat_result | None,
    ) -> None:  # fmt: skip
        """Set the mode and the extended attributes, and remove those that the entry does not have.

        What a user may set on a file that may be written comes before the mode, ACLs and
        capabilities after it, for a change of mode changes them.  *old*: what is known of it, if
        its owner stayed.
        """
        as_it_was = old is not None
        listed = _listed(target)
        wanted: Mapping[bytes, bytes] = {}
        if listed or entry.extras or entry.xattrs_content is not None:
            wanted = entry_xattrs(entry, self._contents)
        for text in listed:
            name = os.fsencode(text)
            if name not in wanted and name.startswith((b"user.", b"system.posix_acl_")):
                self._try("ACLs", path, target, lambda: os.removexattr(target, text))  # noqa: B023
                as_it_was = False
        late = sorted(wanted, key=lambda name: not name.startswith(b"user."))
        first = sum(name.startswith(b"user.") for name in late)
        for name in late[:first]:
            self._xattr(target, name, wanted[name], path, look=old is not None)
        keeps = as_it_was and old is not None and stat.S_IMODE(old.st_mode) == mode
        if not keeps and not stat.S_ISLNK(entry.mode):
            self._try("modes", path, target, lambda: os.chmod(target, mode))
        for name in late[first:]:
            self._xattr(target, name, wanted[name], path, look=keeps)

    def _xattr(
        self, target: int | bytes, name: bytes, value: bytes, path: bytes, *, look: bool
    ) -> None:
        """Set an extended attribute; if *look*, only if it differs."""
        what = "extended attributes"
        if name in (ACCESS_ACL, DEFAULT_ACL):
            what, value = "ACLs", renumbered(value, self._users, self._groups)
        if not look or _value(target, name) != value:
            self._try(what, path, target, lambda: os.setxattr(target, name, value))

    def _try(self, what: str, path: bytes, target: int | bytes, change: Callable[[], None]) -> bool:
        """Make a change that an ordinary user, or a simpler file system, may not be able to.

        Whether it was made.
        """
        try:
            change()
        except OverflowError:
            self.unset.add(what, Cause.NO_VALUE, path)
            return False
        except OSError as error:
            if error.errno not in _MAY_FAIL:
                raise
            self.unset.add(what, cause_of(error, target), path)
            return False
        return True


def _is_new(entry: Entry, found: os.stat_result, descriptor: int) -> bool:
    """Whether *found* can be what was just made for *entry*: it has one name, and leads there.

    Nor was it moved here: that changes an old thing's ctime, and not its mtime.
    """
    if stat.S_ISLNK(found.st_mode) and os.readlink(b"", dir_fd=descriptor) != entry.target:
        return False
    is_young = found.st_ctime_ns - found.st_mtime_ns < _YOUNG
    return found.st_nlink <= 1 and found.st_rdev == entry.rdev and is_young


def _give(owner: tuple[int, int], target: int | bytes) -> None:
    """Set the owner and the group.  Raises OSError."""
    if NOBODY in owner:  # the system would take it for "as it is", and say that all is well
        raise OSError(errno.EINVAL, "Not a number of a user or a group")
    os.chown(target, *owner)


def _listed(target: int | bytes) -> list[str]:
    try:
        return os.listxattr(target)
    except OSError:
        return []


def _value(target: int | bytes, name: bytes) -> bytes | None:
    try:
        return os.getxattr(target, name)
    except OSError:
        return None
