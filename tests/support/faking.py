"""A system that shows a backup what is not so: other stamps, another time, sudden changes."""

from __future__ import annotations

import os
import stat
import subprocess
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.backup import entry as store_file
from ibtfs.actions.backup import tree as backup_tree
from ibtfs.actions.source.scan import Exclusions, Listing
from ibtfs.format.entry import MODE, Stamp

Patch = pytest.MonkeyPatch


# What happens between two looks at the source


def after_listing(patch: Patch, path: bytes, change: Callable[[], object]) -> None:
    """Make *change* just after the folder at *path* was listed, once."""
    listing, waiting = backup_tree.list_folder, [change]

    def list_folder(descriptor: int, folder: bytes, exclusions: Exclusions) -> Listing:
        found = listing(descriptor, folder, exclusions)
        if folder == path and waiting:
            waiting.pop()()
        return found

    patch.setattr(backup_tree, "list_folder", list_folder)


def change_stamps(patch: Patch, change: Callable[[Stamp], Stamp]) -> None:
    """Show regular files with other stamps, listed or opened."""
    listing, stamp_of = backup_tree.list_folder, store_file.stamp_of

    def changed(stamp: Stamp) -> Stamp:
        return change(stamp) if stat.S_ISREG(stamp[MODE]) else stamp

    def list_folder(descriptor: int, folder: bytes, exclusions: Exclusions) -> Listing:
        found = listing(descriptor, folder, exclusions)
        return found._replace(stamps=[changed(stamp) for stamp in found.stamps])

    patch.setattr(backup_tree, "list_folder", list_folder)
    patch.setattr(store_file, "stamp_of", lambda *given: changed(stamp_of(*given)))


# Order and time


def set_clock(patch: Patch, moment_ns: int) -> None:
    """Let runs begin at a moment; leases go by the clock of the disk, and are left alone."""
    began, gmtime = time.monotonic_ns(), time.gmtime

    def now() -> int:
        return moment_ns + time.monotonic_ns() - began

    patch.setattr(time, "time_ns", now)
    patch.setattr(time, "gmtime", lambda seconds=None: gmtime(seconds or now() / 1e9))


@contextmanager
def another_file_system(path: Path, patch: Patch) -> Iterator[None]:
    """A file system of its own on *path*; an ordinary user has to make do with a faked one."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(path)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", str(path)], check=True)
        return
    fstat, inode = os.fstat, path.stat().st_ino

    def show(descriptor: int) -> Any:
        found = fstat(descriptor)
        fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        other = found.st_ino == inode
        return types.SimpleNamespace(**{**fields, "st_dev": 4242}) if other else found

    patch.setattr(os, "fstat", show)
    yield
    patch.undo()
