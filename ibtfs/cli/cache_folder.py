"""Where the local cache lies: the environment and the user's home say it."""

from __future__ import annotations

import os
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
    folder = os.path.join(base, b"ibtfs")
    if not os.path.isabs(folder):
        return b""
    if not make:
        return folder if os.path.isdir(folder) else b""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:
        return b""
    if not os.access(folder, os.W_OK | os.X_OK):
        return b""
    _tag(os.path.join(folder, b"CACHEDIR.TAG"))
    return folder


def _tag(path: bytes) -> None:
    """Mark the folder as a cache, so that backups can leave it out."""
    with suppress(OSError), open(path, "xb") as file:
        file.write(_TAG)
