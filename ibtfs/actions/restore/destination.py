"""The folder that is restored to: reached once, refused or made, and looked into."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ibtfs.actions.restore.territory import NOBODY_ELSE, NOT_OPEN, Held, Territory
from ibtfs.errors import RestoreFailed, UsageError
from ibtfs.store.trees.directory import Entry

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How folders below a destination are opened: never through a link."""
_JUST_IT = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40
"""As many links does the system follow on the way to a file."""


class Destination:
    """The folder at a path; once it is reached, the path is not used any more.

    A link on the way is followed if it is root's or ours, and lies in such a folder; that of
    somebody else only to a folder of his, for he could lead to any other at any moment.
    *descriptor* is -1 as long as there is no such folder.
    """

    def __init__(self, path: bytes, territory: Territory) -> None:
        """*path* is absolute.

        Raises UsageError if it is no folder, or is led to by somebody else; RestoreFailed.
        """
        self._path, self._shown = path, repr(os.fsdecode(path))
        self._territory = territory
        self._missing: list[bytes] = []
        self._linkers: set[int] = set()
        self.descriptor = -1
        self._at = os.open(b"/", _JUST_IT | os.O_DIRECTORY)
        with self._closing_what_fails("open"):
            self._walk(path)
            self._check_linkers()
            if not self._missing:
                self._open()

    def _walk(self, path: bytes) -> None:
        """Go along *path* as far as there is something."""
        waiting = path.split(b"/")[::-1]
        own = len(waiting)  # the parts of *path* itself; above them in the stack, those of a link
        links = 0
        while waiting:
            name = waiting.pop()
            is_own = len(waiting) < own
            own = min(own, len(waiting))
            if name in (b"", b"."):
                continue
            try:
                below = _folder_or_it(self._at, name)
            except FileNotFoundError:
                if not is_own:
                    raise NotADirectoryError(errno.ENOTDIR, "A link leads nowhere") from None
                self._missing = [part for part in [name, *waiting[::-1]] if part]
                return
            found = os.fstat(below)
            if stat.S_ISDIR(found.st_mode):
                self._move(below)
                continue
            links += 1
            if links > _LINKS:
                os.close(below)
                raise OSError(errno.ELOOP, "Too many links")
            waiting.extend(self._link(below, found)[::-1])

    def _link(self, link: int, found: os.stat_result) -> list[bytes]:
        """The parts of the path that an open link leads along; closes it."""
        try:
            target = os.readlink(b"", dir_fd=link)
        except FileNotFoundError:  # what the system answers for what is no link
            raise NotADirectoryError(errno.ENOTDIR, "Not a folder") from None
        finally:
            os.close(link)
        owners = {found.st_uid, os.fstat(self._at).st_uid}
        self._linkers |= owners - self._territory.trusted
        if target.startswith(b"/"):
            self._move(os.open(b"/", _JUST_IT | os.O_DIRECTORY))
        return target.split(b"/")

    def _move(self, folder: int) -> None:
        os.close(self._at)
        self._at = folder

    def _check_linkers(self) -> None:
        owner = os.fstat(self._at).st_uid
        for user in self._linkers - {owner}:
            raise UsageError(
                f"A link of user {user} leads from {self._shown} to a folder of user {owner}: "
                "name that folder itself, if it is meant"
            )

    def _open(self) -> None:
        self.descriptor = os.open(b".", FOLDER, dir_fd=self._at)

    def refuse_overwriting(self, paths: Sequence[bytes]) -> None:
        """Raise UsageError if the whole point, or *paths* of it, would overwrite something.

        Raises RestoreFailed if that cannot be seen.
        """
        if self.descriptor < 0:
            return
        with self._closing_what_fails("look into"):
            if not paths and os.listdir(self.descriptor):
                raise UsageError(
                    f"{self._shown} is not empty: name a new folder, or say --overwrite"
                )
            for base in _bases(paths):
                if existing(self.descriptor, base) is not None:
                    there = os.fsdecode(os.path.join(self._path, base))
                    raise UsageError(f"{there!r} exists: name another folder, or --overwrite")

    def make(self, *, private: bool) -> None:
        """Make the folder, and what is missing above it; *private* until it gets its metadata.

        Raises RestoreFailed.
        """
        if self.descriptor >= 0:
            return
        with self._closing_what_fails("make"):
            for name in self._missing:
                last = name is self._missing[-1]
                try:
                    os.mkdir(name, 0o700 if private and last else 0o777, dir_fd=self._at)
                except FileExistsError:
                    pass  # somebody was faster
                self._move(os.open(name, _JUST_IT | os.O_DIRECTORY, dir_fd=self._at))
            self._open()

    def held(self, opens: Callable[[os.stat_result], bool]) -> Held:
        """The open folder, and whose ground it is.

        *opens* tells whether its new metadata might let somebody at what is in it.
        Raises RestoreFailed.
        """
        if self.descriptor < 0:
            return NOT_OPEN
        with self._closing_what_fails("look into"):
            above = os.stat(b"..", dir_fd=self.descriptor).st_uid
            keeper = NOBODY_ELSE if above in self._territory.trusted else above
            held = self._territory.held(self.descriptor, keeper, opens, made=False)
            owner = os.fstat(self.descriptor).st_uid
        # what is in a folder of his own is left to him, whoever may rename that
        inner = keeper if owner in self._territory.trusted else owner
        return held._replace(keeper=inner)

    @contextmanager
    def _closing_what_fails(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.close()
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise UsageError(f"{self._shown} is not a folder") from error
            raise RestoreFailed(f"Cannot {verb} {self._shown}: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the descriptors."""
        for descriptor in (self._at, self.descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._at = self.descriptor = -1


def _folder_or_it(parent: int, name: bytes) -> int:
    """*name* in an open folder, a link not followed.  Raises OSError.

    As a folder first, for only so is mounted what is mounted when it is entered.
    """
    try:
        return os.open(name, _JUST_IT | os.O_DIRECTORY, dir_fd=parent)
    except NotADirectoryError:
        return os.open(name, _JUST_IT, dir_fd=parent)


def _bases(paths: Sequence[bytes]) -> list[bytes]:
    return [os.path.basename(path) or b"." for path in paths]


def refuse_equal_names(paths: Sequence[bytes]) -> None:
    """Raise UsageError if two of *paths* would have one name."""
    if len(set(_bases(paths))) != len(paths):
        raise UsageError("Two of the paths have the same name: restore them one after the other")


def opened_below(parent: int, path: bytes) -> int:
    """The folder at *path* below the open folder *parent*; no part of *path* may be a link.

    Whoever owns a folder on the way may put a link there while it is gone through.  *path* may be
    of any length.  Raises OSError.
    """
    descriptor = os.dup(parent)
    try:
        for name in filter(None, path.split(b"/")):
            below = os.open(name, FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def existing_folder(parent: int, name: bytes) -> int:
    """The descriptor of a folder that is there; -1 if none is."""
    if parent < 0:
        return -1
    try:
        return os.open(name, FOLDER, dir_fd=parent)
    except OSError:
        return -1


def existing(parent: int, name: bytes) -> os.stat_result | None:
    """What lies under *name* in an open folder; None if nothing does, or there is no folder."""
    if parent < 0:
        return None
    try:
        return os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return None


def is_unchanged(entry: Entry, old: os.stat_result, parent: int) -> bool:
    """Whether *old*, in the open folder *parent*, looks like *entry*: by type, size and time.

    A symbolic link has to point where it should, a file to have as many links.
    """
    if stat.S_IFMT(old.st_mode) != stat.S_IFMT(entry.mode) or old.st_nlink != entry.links:
        return False
    if (old.st_size, old.st_mtime_ns) != (entry.size, entry.mtime_ns):
        return False
    if stat.S_ISLNK(entry.mode):
        return os.readlink(entry.name, dir_fd=parent) == entry.target
    return stat.S_ISREG(entry.mode)
