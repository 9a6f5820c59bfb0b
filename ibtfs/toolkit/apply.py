"""Turning the old tree into the new one.

A file is written under another name, compared with its digest, made durable and moved into place,
so at any moment it is the old one or the new one.  The steps leave alone what they find done:
after an interruption the same call goes on where it was cut off.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from blake3 import blake3

from ibtfs.actions.restore.dressing import SET_IDS
from ibtfs.actions.restore.entry import NEW_FILE, failed
from ibtfs.actions.source.opening import stamp_of
from ibtfs.errors import FormatDamaged, RestoreFailed, WrongBase
from ibtfs.format.entry import GID, MODE, MTIME, NAME, SIZE, UID
from ibtfs.format.rdelta import Data, patched
from ibtfs.toolkit.data import DiffBytes
from ibtfs.toolkit.diff import DiffIndex, digest_if_known
from ibtfs.toolkit.dirs import AnyPath
from ibtfs.toolkit.index import Row
from ibtfs.toolkit.tree import Tree, held

log = logging.getLogger(__name__)

PART = b".ibtfs-apply"
"""The name under which a file is written first; a leftover of that name is written over."""


def apply_diff(base_path: AnyPath, diff_index: DiffIndex, diff_data: DiffBytes) -> None:
    """Make the tree at *base_path*, which is the diff's old one, its new one.

    Contents, links, devices, modes and times become the new tree's, owners where that is allowed;
    hard links become files of their own.  What neither of the two states knows stays.
    Nothing is changed if it is seen at once that the tree is another.

    Raises WrongBase, SourceError if a file cannot be read, RestoreFailed if one cannot be written,
    FormatDamaged if the data are not what belongs to the diff, EntryNotFound if they lack a file.
    """
    with Tree(os.path.abspath(os.fsencode(base_path))) as tree:
        work = _Apply(tree, diff_index, diff_data)
        work.check()
        work.clear()
        work.fill()
        work.dress()


class _Apply:
    """One application; one thread."""

    def __init__(self, tree: Tree, diff: DiffIndex, data: DiffBytes) -> None:
        self._tree, self._diff, self._data = tree, diff, data
        self._new, self._old = diff.new.rows, diff.old.rows

    def check(self) -> None:
        """Raise WrongBase unless all that changes is as in the old state, as in the new, or gone.

        The last two are what an interruption leaves.
        """
        for path in {*self._diff.paths, *self._diff.folders}:
            found = self._tree.find(path)
            rows = [rows[path] for rows in (self._old, self._new) if path in rows]
            if found is not None and not any(_looks_like(found, row) for row in rows):
                raise WrongBase(f"{os.fsdecode(path)!r} is not as the diff expects it")

    def clear(self) -> None:
        """Make room: files in the way of directories, new directories, moves, what is gone."""
        ahead = [path for path in self._diff.deleted if path in self._new]
        for path in ahead:
            self._unlink(path)
        for path in self._diff.created_dirs:
            self._make_folder(path)
        for target, source in self._diff.moved.items():
            self._move(source, target)
        for path in self._diff.deleted:
            if path not in self._new:
                self._unlink(path)
        for path in self._diff.deleted_dirs:
            self._remove_folder(path)

    def fill(self) -> None:
        """Write what was created and updated."""
        for path in self._diff.created:
            if self._is_done(path):
                self._settle(path)
            elif self._new[path].is_file:
                self._write(path, self._data.pieces(path))
            else:
                self._make_special(path)
        for path in self._diff.updated:
            if self._new[path].is_file:
                self._update(path)
            else:
                self._make_special(path)

    def dress(self) -> None:
        """Set the metadata of the rest; directories last, what is in them before them."""
        folders = {*self._diff.folders, *self._diff.created_dirs}
        for path in self._diff.touched:
            if self._new[path].is_dir:
                folders.add(path)
            else:
                self._settle(path)
        for path in sorted(folders, reverse=True):
            with self._tree.folder(path) as descriptor, _failing(path):
                _dress(self._new[path], descriptor)
                os.fsync(descriptor)

    def _unlink(self, path: bytes) -> None:
        """Remove a file that the diff removes; a directory that took its place stays."""
        found = self._tree.find(path)
        if found is None or stat.S_ISDIR(found.st_mode):
            return
        with self._tree.parent(path) as (folder, name), _failing(path):
            os.unlink(name, dir_fd=folder)

    def _make_folder(self, path: bytes) -> None:
        with self._tree.parent(path) as (folder, name), _failing(path):
            try:
                os.mkdir(name, 0o700, dir_fd=folder)
            except FileExistsError:
                pass  # the checks have seen that it is a directory

    def _remove_folder(self, path: bytes) -> None:
        """Remove a directory unless it holds what the diff does not know."""
        found = self._tree.find(path)
        if found is None or not stat.S_ISDIR(found.st_mode):
            return
        with self._tree.parent(path) as (folder, name), _failing(path):
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if path in self._new:
                    shown = os.fsdecode(path)
                    raise WrongBase(f"{shown!r} holds what the diff does not know") from error
                log.warning("%r stays: it holds what the diff does not know", os.fsdecode(path))

    def _move(self, source: bytes, target: bytes) -> None:
        """Rename a file, unless that was done before."""
        if self._tree.find(source) is None:
            if not self._is_done(target):
                raise WrongBase(f"{os.fsdecode(source)!r} is missing")
            self._settle(target)
            return
        if self._digest(source) != self._diff.new.digest(target):
            raise WrongBase(f"{os.fsdecode(source)!r} has other bytes than the diff expects")
        with (
            self._tree.parent(source) as (old, name),
            self._tree.parent(target) as (new, wanted),
            _failing(target),
        ):
            os.rename(name, wanted, src_dir_fd=old, dst_dir_fd=new)
        self._unlink(source)  # renaming one link over another of the same file leaves both
        self._settle(target)

    def _update(self, path: bytes) -> None:
        """Apply the delta of a file, unless that was done before."""
        found = self._tree.find(path)
        if found is None:
            raise WrongBase(f"{os.fsdecode(path)!r} is missing")
        is_file, old = stat.S_ISREG(found.st_mode), None
        have = self._digest(path) if is_file else blake3(b"").digest()
        if is_file and have == self._diff.new.digest(path):
            self._settle(path)
            return
        if self._old[path].is_file:
            old = digest_if_known(self._diff.old, path)
        if old not in (None, have):
            raise WrongBase(f"{os.fsdecode(path)!r} has other bytes than the diff expects")
        delta = self._data.pieces(path)
        if not is_file:
            self._write(path, patched(lambda *_: b"", 0, delta))
            return
        with self._tree.opened(path) as (base, opened):
            read = functools.partial(_read, base)
            self._write(path, patched(read, opened.st_size, delta))

    def _settle(self, path: bytes) -> None:
        """Set the metadata of an entry whose contents are the new ones."""
        row = self._new[path]
        with (
            self._tree.parent(path) as (folder, name),
            _failing(path),
            held(name, folder) as (it, found),
        ):
            alone = found.st_nlink == 1  # else the other names may be meant to stay as they are
            if alone:
                _require(found, row)
                _dress(row, it)
        if not alone and row.is_file:
            self._write(path, self._pieces(path))
        elif not alone:
            self._make_special(path)

    def _is_done(self, path: bytes) -> bool:
        """Whether the entry has its new contents already."""
        row, found = self._new[path], self._tree.find(path)
        if found is None or not row.is_file or not _looks_like(found, row):
            return False
        return self._digest(path) == self._diff.new.digest(path)

    def _pieces(self, path: bytes) -> Iterator[bytes]:
        return self._tree.pieces(path, stamp_of(path, self._tree.look(path)))

    def _digest(self, path: bytes) -> bytes:
        hasher = blake3()
        for piece in self._pieces(path):
            hasher.update(piece)
        return hasher.digest()

    def _write(self, path: bytes, pieces: Iterable[Data]) -> None:
        """Put a regular file in place, whole and with its digest, or not at all."""
        row, wanted = self._new[path], self._diff.new.digest(path)
        with self._placed(path) as folder:
            descriptor = os.open(PART, NEW_FILE, 0o600, dir_fd=folder)
            with open(descriptor, "wb") as file:
                hasher = blake3()
                left = row.stamp[SIZE]
                for piece in pieces:
                    left -= len(piece)
                    if left < 0:  # however much more there is
                        raise FormatDamaged(f"{os.fsdecode(path)!r}: more bytes than the new file")
                    hasher.update(piece)
                    file.write(piece)
                if hasher.digest() != wanted:
                    raise FormatDamaged(f"{os.fsdecode(path)!r}: the bytes are not the new file's")
                file.flush()
                _dress(row, descriptor)
                os.fsync(descriptor)

    def _make_special(self, path: bytes) -> None:
        """Put a symbolic link, device, FIFO or socket in place."""
        row = self._new[path]
        with self._placed(path) as folder:
            if row.target is not None:
                os.symlink(row.target, PART, dir_fd=folder)
            else:
                os.mknod(PART, row.kind | 0o600, row.device or 0, dir_fd=folder)
            with held(PART, folder) as (it, found):
                _require(found, row)
                _dress(row, it)

    @contextmanager
    def _placed(self, path: bytes) -> Iterator[int]:
        """The folder where an entry is made as PART; moved to *path* when that went well."""
        with self._tree.parent(path) as (folder, name), _failing(path):
            _discard(folder)
            try:
                yield folder
                os.rename(PART, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                _discard(folder)
                raise


def _discard(folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(PART, dir_fd=folder)


def _looks_like(found: os.stat_result, row: Row) -> bool:
    """Whether what is there is of the kind, and a file of the size, that *row* tells."""
    same = stat.S_IFMT(found.st_mode) == row.kind
    return same and (not row.is_file or found.st_size == row.stamp[SIZE])


def _require(found: os.stat_result, row: Row) -> None:
    """Raise RestoreFailed unless what was looked at is of the kind of *row*, and has one name.

    Who owns the folder may have put something else there, or linked to a file of somebody else.
    """
    if stat.S_IFMT(found.st_mode) != row.kind or found.st_nlink > 1:
        raise RestoreFailed(f"{os.fsdecode(row.stamp[NAME])}: was replaced meanwhile")


def _read(descriptor: int, offset: int, size: int) -> bytes:
    return os.pread(descriptor, size, offset)


def _dress(row: Row, target: int | bytes) -> None:
    """Owner, mode and times of what is open, or of what a path by a descriptor leads to."""
    mode = _mode(row, target)
    if not stat.S_ISLNK(row.kind):
        os.chmod(target, mode)
    times = (row.stamp[MTIME], row.stamp[MTIME])
    with suppress(OverflowError):
        os.utime(target, ns=times)


def _mode(row: Row, target: int | bytes) -> int:
    """The permissions to set, after the owner; an ordinary user cannot give files away."""
    mode = stat.S_IMODE(row.stamp[MODE])
    try:
        os.chown(target, row.stamp[UID], row.stamp[GID])
    except (OSError, OverflowError):
        return mode & ~SET_IDS  # what ran as somebody else must not run as whoever applies
    return mode


@contextmanager
def _failing(path: bytes) -> Iterator[None]:
    """Raise RestoreFailed, naming *path*, for what the system refuses."""
    try:
        yield
    except OSError as error:
        problem = failed(error)
        raise type(problem)(f"{os.fsdecode(path) or '.'}: {problem}") from error
