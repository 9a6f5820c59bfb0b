"""Where the local cache lies: the environment and the user's home say it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

# https://bford.info/cachedir/
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# A cache of ibtfs; it may be deleted.\n"


def cache_folder(*, make: bool = True) -> bytes:
    """The folder of the local cache, made when missing; empty if there can be none.

    Who only reads does not *make* it: the answer is empty where there is none.
    """
    base = os.fsencode(os.environ.get("XDG_CACHE_HOME", ""))
    if not os.path.isabs(base):  # as its specification says
        base = os.path.expanduser(b"~/.cache")
    folder = os.path.realpath(os.path.join(base, b"ibtfs"))
    # a home that does not exist is not ours to make
    if not os.path.isabs(base) or not os.path.isdir(os.path.dirname(base)):
        return b""
    if make:
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError:
            return b""
    if not is_private(folder) or not os.access(folder, os.W_OK | os.X_OK):
        return b""
    if make:
        _tag(os.path.join(folder, b"CACHEDIR.TAG"))
    return folder


def is_private(folder: bytes) -> bool:
    """Whether nobody else can put something in place of *folder*, a path without links.

    It and all above it must belong to this user or to root, and be closed to the writing of others:
    root with the HOME of somebody else would be led to files of its own by his links.
    """
    allowed = (0, os.geteuid())
    try:
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return False
        while folder != b"/":
            folder = os.path.dirname(folder)
            found = os.lstat(folder)
            shut = not found.st_mode & 0o022 or found.st_mode & stat.S_ISVTX
            if found.st_uid not in allowed or not shut:
                return False
    except OSError:
        return False
    return True


def _tag(path: bytes) -> None:
    """Mark the folder as a cache, so that backups can leave it out."""
    with suppress(OSError), open(path, "xb") as file:
        file.write(_TAG)
