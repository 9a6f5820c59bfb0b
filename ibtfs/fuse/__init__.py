"""A view as a FUSE file system: picks the binding that the machine has, and serves.

libfuse 3 is spoken to through its low-level interface (:mod:`.fuse3`); libfuse 2, through fusepy,
is the fall-back, correct but slow (:mod:`.fuse2`).  Mount points, and the process that serves in
the background, are in :mod:`.process`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ibtfs import errors
from ibtfs.fuse.options import MountOptions
from ibtfs.view.node import View

__all__ = ["MountOptions", "serve"]

_Serve = Callable[[View, bytes, MountOptions, Callable[[], None]], None]
DEVICE = "/dev/fuse"
ADVICE = "install libfuse 3 (Debian: apt install fuse3) and the Python package mfusepy"


def serve(
    view: View, mountpoint: bytes, *, options: MountOptions, on_ready: Callable[[], None]
) -> None:
    """Mount *view* read-only on *mountpoint*, and answer until it is unmounted.

    *on_ready* is called when the mount answers.  SIGTERM, SIGINT and SIGHUP unmount it; if
    someone still uses it, it is taken away all the same.  Raises MountError.
    """
    if not os.path.exists(DEVICE):
        raise errors.MountError(
            f"There is no {DEVICE}: load the kernel's fuse module, or let the container have it"
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise errors.MountError(f"{DEVICE} may not be used by this user")
    bindings = {"fuse3": (_fuse3,), "fuse2": (_fuse2,), "auto": (_fuse3, _fuse2)}
    missing: list[str] = []
    for binding in bindings[options.binding]:
        try:
            return binding(view, mountpoint, options, on_ready)
        except errors.LibraryMissing as error:
            missing.append(str(error))
    raise errors.MountError(f"FUSE is not installed: {ADVICE} ({'; '.join(missing)})")


def _fuse3(
    view: View, mountpoint: bytes, options: MountOptions, on_ready: Callable[[], None]
) -> None:
    from ibtfs.fuse.fuse3 import session

    session.serve(view, mountpoint, options, on_ready)


def _fuse2(
    view: View, mountpoint: bytes, options: MountOptions, on_ready: Callable[[], None]
) -> None:
    from ibtfs.fuse import fuse2

    fuse2.serve(view, mountpoint, options, on_ready)
