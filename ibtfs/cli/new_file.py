"""A file that a command makes: whole or not at all, and never over another by accident."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from ibtfs.errors import IbtfsError, UsageError

STANDARD_OUTPUT = b"-"


def check_new_file(path: bytes, *, force: bool) -> bytes:
    """Where the file is to be made: *path*, or where its symbolic link leads.

    Raises UsageError if something is there that must not be replaced.
    """
    path = os.path.realpath(path)
    shown = os.fsdecode(path)
    if os.path.lexists(path):
        if not os.path.isfile(path):
            raise UsageError(
                f"{shown!r} is not a file that could be replaced; - is standard output"
            )
        if not force:
            raise UsageError(f"{shown!r} exists: name another file, or say --force")
    return path


def write_new_file(
    path: bytes, pieces: Iterable[bytes | bytearray | memoryview], *, force: bool
) -> None:
    """Make the file *path*, absolute, of *pieces*: under a name of its own, then moved into place.

    Raises UsageError if *path* exists by then and *force* is not said, IbtfsError.
    """
    folder, name = os.path.split(path)
    part = os.path.join(folder, b"." + name[:200] + b"." + os.urandom(6).hex().encode() + b".part")
    try:
        with open(part, "xb") as file:
            try:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
                check_new_file(path, force=force)
                os.rename(part, path)
            except BaseException:
                os.unlink(part)
                raise
    except OSError as error:
        raise IbtfsError(f"Cannot write {os.fsdecode(path)!r}: {error.strerror}") from error


def write_standard_output(pieces: Iterable[bytes | bytearray | memoryview]) -> None:
    """Write *pieces* to standard output."""
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
