"""Listing the source: one pass over each folder, what is excluded left out."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import NamedTuple

from ibtfs.actions.source.opening import source_error
from ibtfs.errors import SourceError
from ibtfs.format.entry import MODE, NAME, SIZE, Stamp
from ibtfs.format.patterns import Patterns

CACHE_TAG = b"CACHEDIR.TAG"
CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
EXCLUDE_FILE = b".exclude"
EXCLUDE_LIMIT = 1 << 20
"""Whoever owns a source must not fill the memory of who backs it up."""
_NO_PATTERNS = Patterns.from_lines([])


@dataclass(frozen=True)
class Exclusions:
    """What of a source is not backed up.

    *patterns* by git's rules; *if_present* names files that exclude the folder they lie in;
    *larger_than* in bytes, 0 for no limit; *identities* are (device, inode) of folders never
    entered: the repository's own.
    """

    patterns: Patterns = _NO_PATTERNS
    caches: bool = False
    if_present: tuple[bytes, ...] = ()
    larger_than: int = 0
    one_file_system: bool = False
    identities: frozenset[tuple[int, int]] = frozenset()


class Listing(NamedTuple):
    """What a folder holds: stamps sorted by name, names that could not be looked at, and how
    many were left out."""

    stamps: list[Stamp]
    failed: dict[bytes, SourceError]
    excluded: int


def list_folder(descriptor: int, path: bytes, exclusions: Exclusions) -> Listing:
    """The entries of the open folder at *path*, relative to the source.  Raises SourceError."""
    stamps: list[Stamp] = []
    failed: dict[bytes, SourceError] = {}
    encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    add = stamps.append
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name.encode(encoding, errors)
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    failed[name] = source_error(error)
                    continue
                add((
                    name, found.st_mode, found.st_uid, found.st_gid, found.st_size,
                    found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_nlink,
                ))  # fmt: skip
    except OSError as error:
        raise source_error(error) from error
    stamps.sort()
    kept = _filter(stamps, descriptor, path, exclusions)
    return Listing(kept, failed, len(stamps) - len(kept))


def _filter(
    stamps: list[Stamp], descriptor: int, path: bytes, exclusions: Exclusions
) -> list[Stamp]:
    """*stamps* without what is excluded."""
    tag = _excluding_tag(stamps, descriptor, exclusions)
    if tag is not None:
        return [stamp for stamp in stamps if stamp[NAME] == tag]
    patterns, larger = exclusions.patterns, exclusions.larger_than
    if larger:
        stamps = [s for s in stamps if s[SIZE] <= larger or not stat.S_ISREG(s[MODE])]
    if patterns:
        prefix = path + b"/" if path else b""
        match = patterns.match
        stamps = [s for s in stamps if not match(prefix + s[NAME], stat.S_ISDIR(s[MODE]))]
    return stamps


def _excluding_tag(stamps: list[Stamp], descriptor: int, exclusions: Exclusions) -> bytes | None:
    """The name of a file that excludes the rest of its folder, if there is one."""
    if not exclusions.caches and not exclusions.if_present:
        return None
    names = {stamp[NAME] for stamp in stamps}
    for name in exclusions.if_present:
        if name in names:
            return name
    if exclusions.caches and CACHE_TAG in names and _is_cache_tag(descriptor):
        return CACHE_TAG
    return None


def _is_cache_tag(descriptor: int) -> bool:
    """Whether the folder's CACHEDIR.TAG begins as the specification says."""
    try:
        tag = os.open(CACHE_TAG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
    except OSError:
        return False
    try:
        return os.read(tag, len(CACHE_SIGNATURE)) == CACHE_SIGNATURE
    except OSError:
        return False
    finally:
        os.close(tag)


def exclude_lines(root: int) -> list[bytes]:
    """The lines of the ``.exclude`` file at the source's root; none if there is none.

    Raises SourceError if it is larger than EXCLUDE_LIMIT, or cannot be read to its end.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(EXCLUDE_FILE, flags, dir_fd=root)
    except OSError:
        return []
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return []
    with os.fdopen(descriptor, "rb") as file:
        try:
            data = file.read(EXCLUDE_LIMIT + 1)
        except OSError as error:
            raise source_error(error) from error
    if len(data) > EXCLUDE_LIMIT:
        name = os.fsdecode(EXCLUDE_FILE)
        raise SourceError(f"holds a file {name} of more than {EXCLUDE_LIMIT:,} bytes: no patterns")
    return data.split(b"\n")
