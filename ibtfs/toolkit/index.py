"""The state of a directory as a value."""

from __future__ import annotations

import functools
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from blake3 import blake3

from ibtfs.actions.source.filesystems import FileSystems
from ibtfs.actions.source.opening import source_error, stamp_of
from ibtfs.actions.source.scan import Exclusions, list_folder
from ibtfs.errors import (
    EntryNotFound,
    FormatDamaged,
    NotAFile,
    Replaced,
    SourceError,
    UnsupportedFormat,
    Vanished,
)
from ibtfs.format.entry import CTIME, INODE, MODE, NAME, NAME_LIMIT, Stamp, check_stamp
from ibtfs.format.packing import pack, unpack_map, unpack_tuple
from ibtfs.store.trees.old_directory import same_stamp
from ibtfs.toolkit.dirs import AnyPath, DirLike, Source, as_source
from ibtfs.toolkit.tree import Tree, naming

VERSION = 1
_EVERYTHING = Exclusions()


class Row(NamedTuple):
    """One entry: its stamp, whose name is its whole path, and what it leads to.

    *digest* is the BLAKE3 digest of a regular file, None while it is not read; *target* is that of
    a symbolic link, *device* the number of a device.  A ctime of 0 says that the entry was so young
    that a later change may have left the same stamp.
    """

    stamp: Stamp
    digest: bytes | None = None
    target: bytes | None = None
    device: int | None = None

    @property
    def leads_to(self) -> bytes | int | None:
        """Whichever of the three it has."""
        return self.digest or self.target if self.device is None else self.device

    @property
    def kind(self) -> int:
        """The type bits of the mode."""
        return stat.S_IFMT(self.stamp[MODE])

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.stamp[MODE])

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.stamp[MODE])


class DirIndex:
    """What a directory holds: a row for each entry, by path, sorted; the root is ``b""``.

    *directory* is a path or a dirtools2 ``Dir``, *patterns* are lines by git's rules, *known* an
    earlier index of the same directory, from which the digests of unchanged files are taken.
    Digests are read when first asked for, but for files so young that their stamp proves nothing;
    never by the indexes of a diff that was stored: who made it may have named any directory.
    Raises SourceError when the directory or a part of it cannot be listed, TypeError, UsageError.
    """

    path: bytes
    rows: dict[bytes, Row]

    def __init__(
        self,
        directory: AnyPath | DirLike,
        *,
        patterns: Iterable[str | bytes] = (),
        known: DirIndex | None = None,
    ) -> None:
        source = as_source(directory, patterns)
        self.path, self._may_read = source.path, True
        self.rows = _Scan(source, known.rows if known else {}).rows()

    @classmethod
    def _of(cls, path: bytes, rows: dict[bytes, Row], *, may_read: bool) -> DirIndex:
        index = cls.__new__(cls)
        index.path, index.rows, index._may_read = path, rows, may_read
        return index

    @property
    def files(self) -> list[bytes]:
        """The paths of the regular files."""
        return [path for path, row in self.rows.items() if row.is_file]

    @property
    def directories(self) -> list[bytes]:
        """The paths of the directories, parents first; the root is not among them."""
        return [path for path, row in self.rows.items() if row.is_dir and path]

    def digest(self, path: bytes) -> bytes:
        """The BLAKE3 digest of a regular file, 32 bytes; read from the disk if not known.

        Raises EntryNotFound, NotAFile, and SourceError if the file cannot be read or is not as
        it was when the index was made.
        """
        known = self._file(path).digest
        if known is None:
            for _ in self.pieces(path):
                pass  # reading to the end is what makes the digest known
            known = self.rows[path].digest
            assert known is not None
        return known

    def pieces(self, path: bytes) -> Iterator[bytes]:
        """The bytes of a regular file on the disk, piece by piece; raises as digest does."""
        row = self._file(path)
        if not self._may_read:
            raise SourceError(
                f"{os.fsdecode(path)}: not known, and of a stored diff nothing is read"
            )
        hasher = blake3()
        with Tree(self.path) as tree:
            for piece in tree.pieces(path, row.stamp):
                hasher.update(piece)
                yield piece
        if row.digest not in (None, hasher.digest()):
            raise Replaced(f"{os.fsdecode(path)}: has changed since it was listed")
        self.rows[path] = row._replace(digest=hasher.digest())

    def read_digests(self) -> dict[bytes, SourceError]:
        """Read all digests that are not known; the files that stay without, and why."""
        failed = {}
        for path in self.files:
            try:
                self.digest(path)
            except SourceError as error:
                failed[path] = error
        return failed

    def only(self, paths: Iterable[bytes]) -> DirIndex:
        """The index of just those of *paths* that this one has."""
        return self._of(
            self.path,
            {p: self.rows[p] for p in sorted(paths) if p in self.rows},
            may_read=self._may_read,
        )

    def data(self) -> dict[str, Any]:
        """The index as plain values, all digests read that can be."""
        self.read_digests()
        rows = [(*row.stamp, row.leads_to) for row in self.rows.values()]
        return {"directory": self.path, "rows": rows}

    def to_bytes(self) -> bytes:
        """The index, all digests read that can be, to be stored."""
        return seal("index", self.data())

    @classmethod
    def from_bytes(cls, data: bytes) -> DirIndex:
        """The index that to_bytes stored.  Raises FormatDamaged, UnsupportedFormat."""
        return cls.from_data(unseal("index", data))

    @classmethod
    def from_data(cls, values: Mapping[str, Any], *, may_read: bool = True) -> DirIndex:
        """The index that data told, its lists as tuples.  Raises FormatDamaged.

        Unless it *may_read*, it never opens a file of the directory that it names.
        """
        path, rows = values.get("directory"), values.get("rows")
        if type(path) is not bytes or not isinstance(rows, (tuple, list)):
            raise FormatDamaged("Directory index: not an index")
        checked = [_checked_row(row) for row in rows]
        found = {row.stamp[NAME]: row for row in sorted(checked, key=_path_of)}
        return cls._of(path, found, may_read=may_read)

    def _file(self, path: bytes) -> Row:
        row = self.rows.get(path)
        if row is None:
            raise EntryNotFound(f"No such path in the index: {os.fsdecode(path)!r}")
        if not row.is_file:
            raise NotAFile(f"{os.fsdecode(path)!r} is not a regular file")
        return row


def _path_of(row: Row) -> bytes:
    return row.stamp[NAME]


class _Scan:
    """One look at a directory."""

    def __init__(self, source: Source, known: Mapping[bytes, Row]) -> None:
        self._source, self._known = source, known
        self._systems = FileSystems()

    def rows(self) -> dict[bytes, Row]:
        """All rows, sorted by path.  Raises SourceError."""
        found: dict[bytes, Row] = {}
        with Tree(self._source.path) as tree:
            pending = [b""]
            while pending:
                path = pending.pop()
                try:
                    rows = self._folder(tree, path)
                except Vanished:
                    if not path:
                        raise
                    found.pop(path, None)
                    continue
                found.update((row.stamp[NAME], row) for row in rows)
                pending += [row.stamp[NAME] for row in rows if row.is_dir and row is not rows[0]]
        return dict(sorted(found.items()))

    def _folder(self, tree: Tree, path: bytes) -> list[Row]:
        """The row of a folder itself and those of what is in it."""
        with tree.folder(path) as descriptor, naming(path):
            looked_ns, own = time.time_ns(), os.fstat(descriptor)
            settled = functools.partial(_settled, self._systems, own.st_dev, looked_ns)
            inodes = self._systems.keeps_inodes(own.st_dev)
            rows = [Row(settled(stamp_of(path, own)))]
            if path and self._systems.is_virtual(own.st_dev):
                return rows  # made up by the kernel, and endless
            listing = list_folder(descriptor, path, _EVERYTHING)
            for name, error in listing.failed.items():
                raise type(error)(f"{os.fsdecode(name)}: {error}")
            stamps = [(os.path.join(path, stamp[NAME]), *stamp[1:]) for stamp in listing.stamps]
        for stamp in stamps:
            if not self._source.excludes(stamp[NAME], stat.S_ISDIR(stamp[MODE])):
                rows.extend(self._row(tree, stamp, settled(stamp), inodes))
        return rows

    def _row(self, tree: Tree, stamp: Stamp, settled: Stamp, inodes: bool) -> Iterator[Row]:
        """The row of a listed entry; none if it vanished."""
        row, mode = Row(settled), stamp[MODE]
        try:
            if stat.S_ISLNK(mode):
                row = Row(settled, target=_target(tree, stamp[NAME]))
            elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                row = Row(settled, device=tree.look(stamp[NAME]).st_rdev)
            elif stat.S_ISREG(mode):
                row = Row(settled, digest=self._digest(tree, stamp, settled, inodes))
        except Vanished:
            return
        yield row

    def _digest(self, tree: Tree, stamp: Stamp, settled: Stamp, inodes: bool) -> bytes | None:
        """A digest that need not, or must not, be read later."""
        old = self._known.get(stamp[NAME])
        if old and old.is_file and same_stamp(stamp, old.stamp, inodes=inodes):
            return old.digest
        if settled[CTIME]:
            return None
        hasher = blake3()
        try:
            for piece in tree.pieces(stamp[NAME], stamp):
                hasher.update(piece)
        except Vanished:
            raise
        except SourceError:
            return None  # it is being written to, or may not be read: said when it is asked for
        return hasher.digest()


def _settled(systems: FileSystems, device: int, looked_ns: int, stamp: Stamp) -> Stamp:
    """*stamp*, its ctime zeroed if a later change could leave the same one."""
    # every change sets the ctime, whatever mtime was set by hand
    if stamp[CTIME] >= looked_ns - systems.granularity_ns(device, stamp[CTIME]):
        return (*stamp[:CTIME], 0, *stamp[INODE:])
    return stamp


def _target(tree: Tree, path: bytes) -> bytes:
    with tree.parent(path) as (folder, name), naming(path):
        try:
            return os.readlink(name, dir_fd=folder)
        except OSError as error:
            raise source_error(error) from error


def seal(kind: str, values: Mapping[str, Any]) -> bytes:
    """*values* with what they are, a version, and a checksum."""
    body = pack(values)
    return pack((f"ibtfs {kind}", VERSION, blake3(body).digest(), body))


def unseal(kind: str, data: bytes) -> dict[str, Any]:
    """The values that seal packed.  Raises FormatDamaged, UnsupportedFormat."""
    where = f"ibtfs {kind}"
    name, version, checksum, body = unpack_tuple(data, where, 4)[:4]
    if name != where or type(body) is not bytes or type(version) is not int:
        raise FormatDamaged(f"{where}: is something else")
    if version > VERSION:
        raise UnsupportedFormat(f"{where}: has version {version}, this ibtfs reads up to {VERSION}")
    if blake3(body).digest() != checksum:
        raise FormatDamaged(f"{where}: the checksum does not match")
    return unpack_map(body, where, containers=len(body))  # a whole tree


def _checked_row(values: Any) -> Row:
    """The row of an index that was stored.  Raises FormatDamaged."""
    if not isinstance(values, (tuple, list)):
        raise FormatDamaged("Directory index: not a row")
    stamp: Stamp = tuple(values[:9])
    check_stamp(stamp, "Directory index")
    path, mode = stamp[NAME], stamp[MODE]
    leads_to: Any = values[9] if len(values) == 10 else False
    if stat.S_ISREG(mode):
        row, good = Row(stamp, digest=leads_to), leads_to is None or _is_digest(leads_to)
    elif stat.S_ISLNK(mode):
        row, good = Row(stamp, target=leads_to), type(leads_to) is bytes
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        row, good = Row(stamp, device=leads_to), type(leads_to) is int
    else:
        row, good = Row(stamp), leads_to is None
    if not good or not is_relative(path):
        raise FormatDamaged(f"Directory index: {path!r} is no row of an index")
    return row


def _is_digest(value: Any) -> bool:
    return type(value) is bytes and len(value) == 32


def is_relative(path: bytes) -> bool:
    """Whether *path* stays inside the directory that it is relative to; ``b""`` does."""
    return not path or not any(
        name in (b"", b".", b"..") or b"\0" in name or len(name) > NAME_LIMIT
        for name in path.split(b"/")
    )
