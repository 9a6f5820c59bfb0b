"""What may be given as a directory: a path, or a dirtools2 ``Dir``; its only importer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeAlias

from ibtfs.actions.source.opening import open_source
from ibtfs.actions.source.scan import exclude_lines
from ibtfs.format.patterns import Patterns

AnyPath: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"


class DirLike(Protocol):
    """What is used of a dirtools2 ``Dir``."""

    path: str

    def is_excluded(self, path: str) -> object:
        """Whether to leave out *path*, which is absolute."""


class Source(NamedTuple):
    """A directory: its absolute path, and what of it is left out.

    *excludes* is asked with a relative path, and whether it is a directory's.
    """

    path: bytes
    excludes: Callable[[bytes, bool], bool]


def as_source(directory: AnyPath | DirLike, patterns: Iterable[str | bytes]) -> Source:
    """The directory that was given.

    *patterns* are lines by git's rules.  A path's own ``.exclude`` file is read by these rules
    too, as a backup does; a ``Dir`` decides by its own ones what else to leave out.
    Raises TypeError, SourceError, UsageError for a pattern that can match nothing.
    """
    if isinstance(directory, (str, bytes, os.PathLike)):
        path = os.path.abspath(os.fsencode(directory))
        return Source(path, Patterns.from_lines([*_own_lines(path), *patterns]).match)
    found = _expect_dir(directory)
    path = os.path.abspath(os.fsencode(found.path))
    mine = Patterns.from_lines(patterns)

    def excludes(below: bytes, is_dir: bool) -> bool:
        # join puts a name that begins with "/" on its own: relative paths never do
        whole = os.fsdecode(os.path.join(path, below))
        return mine.match(below, is_dir) or bool(found.is_excluded(whole))

    return Source(path, excludes)


def _own_lines(path: bytes) -> list[bytes]:
    root, _ = open_source(path)
    try:
        return exclude_lines(root)
    finally:
        os.close(root)


def _expect_dir(value: object) -> DirLike:
    """*value* if it is a dirtools2 ``Dir``.  Raises TypeError."""
    try:
        from dirtools2.dirtools2 import Dir
    except ImportError:
        known: tuple[type, ...] = ()  # then nobody can have made one
    else:
        known = (Dir,)
    if not isinstance(value, known):
        raise TypeError(f"{value!r} is neither a path nor a dirtools2 Dir")
    checked: Any = value  # dirtools2 has no annotations
    found: DirLike = checked
    return found
