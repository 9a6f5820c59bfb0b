"""A directory on the disk: entries by relative path, never through a link."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ibtfs.actions.source.chunks import CHUNK, FileSource
from ibtfs.actions.source.holes import has_holes
from ibtfs.actions.source.opening import (
    open_folder,
    open_source,
    opened_file,
    source_error,
    stamp_of,
)
from ibtfs.errors import Replaced, SourceError, Vanished
from ibtfs.format.entry import CTIME, INODE, Stamp


class Tree:
    """The directory *path*, open; a context manager.  Raises SourceError."""

    def __init__(self, path: bytes) -> None:
        self._root, _ = open_source(path)

    @contextmanager
    def folder(self, path: bytes) -> Iterator[int]:
        """The descriptor of the folder at *path*.  Raises Vanished, Replaced, SourceError."""
        descriptor = os.dup(self._root)
        try:
            for name in path.split(b"/") if path else ():
                with naming(path):
                    below, _ = open_folder(name, descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The descriptor of the folder that *path* lies in, and its name there; raises as folder.

        The root is ``b"."`` in itself.
        """
        with self.folder(os.path.dirname(path)) as descriptor:
            yield descriptor, os.path.basename(path) or b"."

    def look(self, path: bytes) -> os.stat_result:
        """What lstat says of the entry.  Raises Vanished, Replaced, SourceError."""
        with self.parent(path) as (folder, name), naming(path):
            return lstat(name, folder)

    def find(self, path: bytes) -> os.stat_result | None:
        """As look; None if nothing is there."""
        try:
            return self.look(path)
        except (Vanished, Replaced):
            return None

    @contextmanager
    def opened(self, path: bytes) -> Iterator[tuple[int, os.stat_result]]:
        """The regular file at *path*, open for reading, and its fstat.

        Raises Vanished, Replaced, SourceError.
        """
        with (
            self.parent(path) as (folder, name),
            naming(path),
            opened_file(name, folder, lstat(name, folder).st_ino) as (descriptor, found),
        ):
            yield descriptor, found

    def pieces(self, path: bytes, stamp: Stamp) -> Iterator[bytes]:
        """The bytes of a regular file, 1 MiB at a time.

        Raises Replaced unless it has *stamp* before and afterwards; Vanished, SourceError.
        """
        with (
            self.parent(path) as (folder, name),
            naming(path),
            opened_file(name, folder, stamp[INODE]) as (descriptor, found),
        ):
            _expect(found, stamp)
            sparse = has_holes(descriptor, found)
            source = FileSource(descriptor, found.st_size, sparse=sparse)
            position = 0
            while (chunk := source.chunk(position)).length:
                if chunk.is_hole:  # of whole chunks
                    yield from itertools.repeat(bytes(CHUNK), chunk.length // CHUNK)
                else:
                    yield chunk.data
                position += chunk.length
            _expect(os.fstat(descriptor), stamp)

    def close(self) -> None:
        """Release the descriptor."""
        os.close(self._root)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lstat(name: bytes, folder: int) -> os.stat_result:
    """What lstat says of *name*.  Raises Vanished, Replaced, SourceError."""
    try:
        return os.lstat(name, dir_fd=folder)
    except OSError as error:
        raise source_error(error) from error


@contextmanager
def held(name: bytes, folder: int) -> Iterator[tuple[bytes, os.stat_result]]:
    """What is called *name*, be it a link: a path that leads to just that, and its fstat.

    Whoever owns the folder may put something else in its place at any moment; the path goes by a
    descriptor.  Raises OSError.
    """
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield b"/proc/self/fd/%d" % descriptor, os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _expect(found: os.stat_result, stamp: Stamp) -> None:
    """Raise Replaced unless an open file has *stamp*; a ctime of 0 fits any."""
    now = stamp_of(stamp[0], found)
    if now != (*stamp[:CTIME], stamp[CTIME] or now[CTIME], *stamp[INODE:]):
        raise Replaced("has changed since it was listed")


@contextmanager
def naming(path: bytes) -> Iterator[None]:
    """Put *path* before the message of a SourceError."""
    try:
        yield
    except SourceError as error:
        raise type(error)(f"{os.fsdecode(path) or '.'}: {error}") from error
