"""Small files of this machine's system, copied with their folders and all their metadata."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from benchmark.measure import Failure

MIB = 1 << 20
SMALL = 128 << 10
"""The size of the largest file taken."""
ROOTS = ("/usr", "/var/lib", "/opt", "/etc")


def small_files(
    destination: Path, files: int, fill: Callable[[Path, int], bool], *, least: int | None = None
) -> list[Path]:
    """Copy *files* files of at most SMALL bytes to the new folder *destination*; return them.

    Where the machine has fewer, *fill* makes more at the path that it is given, until it says that
    there is no more. Raises Failure when there are fewer than *least*, by default *files*.
    """
    destination.mkdir(parents=True)
    _copy(list(islice(_system(destination), files)), destination)
    number, found = 0, sorted(_below(destination))
    while len(found) < files:
        if not fill(destination / f"more-{number}", number):
            break
        number, found = number + 1, sorted(_below(destination))
    if len(found) < (files if least is None else least):
        raise Failure(f"Only {len(found)} small files found, {files} wanted")
    for path in found[files:]:
        path.unlink()
    return found[:files]


def _system(destination: Path) -> Iterator[str]:
    """Yield files of the system that can be read, without entering other file systems."""
    for root in ROOTS:
        for top, folders, names in os.walk(root):
            folders.sort()
            if destination.resolve().is_relative_to(top) and top != root:
                folders.clear()
                continue
            folders[:] = [name for name in folders if not os.path.ismount(os.path.join(top, name))]
            yield from (path for path in (os.path.join(top, name) for name in sorted(names))
                        if _is_small(path))  # fmt: skip


def _is_small(path: str) -> bool:
    try:
        st = os.lstat(path)
        return stat.S_ISREG(st.st_mode) and st.st_size <= SMALL and os.access(path, os.R_OK)
    except OSError:
        return False


def _copy(paths: list[str], destination: Path) -> None:
    data = b"\0".join(os.fsencode(path.lstrip("/")) for path in paths)
    pack = ["tar", "-C", "/", "-c", "--null", "--no-recursion", "-T", "-"]
    unpack = ["tar", "-C", str(destination), "-x", "-p"]
    with subprocess.Popen(
        pack, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as packer:
        assert packer.stdin is not None
        assert packer.stdout is not None
        with subprocess.Popen(unpack, stdin=packer.stdout, stderr=subprocess.DEVNULL):
            packer.stdout.close()
            packer.stdin.write(data)
            packer.stdin.close()


def _below(folder: Path) -> Iterator[Path]:
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            st = path.lstat()
            if stat.S_ISREG(st.st_mode) and st.st_size <= SMALL:
                yield path
