"""The folder of what a user's machine remembers of repositories: it is no cache, and not remade."""

from __future__ import annotations

import os

from ibtfs.cli.cache_folder import is_private


def state_folder(*, make: bool) -> bytes:
    """The folder of what is remembered of repositories; empty if there can be none."""
    folder = os.path.realpath(state_path())
    base = os.path.dirname(state_path())
    home = os.path.expanduser(b"~")
    if make and os.path.isabs(base) and (os.path.isdir(base) or os.path.isdir(home)):
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError:
            return b""
    return folder if is_private(folder) else b""


def state_path() -> bytes:
    """Where it is to be, whether it can be there or not."""
    base = os.fsencode(os.environ.get("XDG_STATE_HOME", ""))
    if not os.path.isabs(base):  # as its specification says
        base = os.path.expanduser(b"~/.local/state")
    return os.path.join(base, b"ibtfs")
