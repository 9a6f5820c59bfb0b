"""Are two trees the same? And what does a folder take on its disk?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

PIECE = 1 << 20
SHOWN = 5


def allocated(folder: Path) -> int:
    """Return the bytes that the file system has allocated for *folder* and all that is in it."""
    if not folder.exists():
        return 0
    total, seen = folder.lstat().st_blocks * 512, set()
    pending = [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as listing:
            for item in listing:
                st = item.stat(follow_symlinks=False)
                if stat.S_ISDIR(st.st_mode):
                    pending.append(item.path)
                elif st.st_nlink > 1 and st.st_ino in seen:
                    continue
                seen.add(st.st_ino)
                total += st.st_blocks * 512
    return total


def differences(expected: Path, found: Path, precision_ns: int = 1) -> list[str]:
    """Return how *found* differs, at most a few lines: names, types, modes, times, contents, links.

    Times of modification are compared to *precision_ns*; those of symbolic links, and of the top
    itself, are not.
    """
    lines = []
    try:
        for line in _folder(os.fsencode(expected), os.fsencode(found), b"", precision_ns):
            lines.append(line)
            if len(lines) == SHOWN:
                break
    except OSError as error:
        lines.append(f"cannot be compared: {error}")
    return lines


def count(folder: Path) -> tuple[int, int]:
    """Return the number of files below *folder*, and the sum of their sizes."""
    files = size = 0
    for top, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            files, size = files + 1, size + os.lstat(os.path.join(top, name)).st_size
    return files, size


def shown_entries(folder: Path) -> int:
    """Return how many entries there are below *folder* that ``ls -R`` shows: none with a dot."""
    count = 0
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += len(folders) + sum(not name.startswith(".") for name in names)
    return count


def same(one: Path, other: Path) -> bool:
    """Tell whether two files have the same contents."""
    return _same(os.fsencode(one), os.fsencode(other))


def _folder(expected: bytes, found: bytes, path: bytes, precision_ns: int) -> Iterator[str]:
    one, other = ({item.name: item for item in os.scandir(top)} for top in (expected, found))
    for name in sorted(one.keys() ^ other.keys()):
        yield f"{os.path.join(path, name)!r}: {'missing' if name in one else 'not expected'}"
    for name in sorted(one.keys() & other.keys()):
        inner = os.path.join(path, name)
        a, b = one[name].stat(follow_symlinks=False), other[name].stat(follow_symlinks=False)
        if a.st_mode != b.st_mode:
            yield f"{inner!r}: mode {b.st_mode:o}, not {a.st_mode:o}"
        elif stat.S_ISLNK(a.st_mode):
            if os.readlink(one[name].path) != os.readlink(other[name].path):
                yield f"{inner!r}: another link target"
        elif a.st_mtime_ns // precision_ns != b.st_mtime_ns // precision_ns:
            yield f"{inner!r}: time {b.st_mtime_ns}, not {a.st_mtime_ns}"
        elif stat.S_ISDIR(a.st_mode):
            yield from _folder(one[name].path, other[name].path, inner, precision_ns)
        elif a.st_size != b.st_size or not _same(one[name].path, other[name].path):
            yield f"{inner!r}: other contents"


def _same(one: bytes, other: bytes) -> bool:
    with open(one, "rb", buffering=0) as first, open(other, "rb", buffering=0) as second:
        while piece := first.read(PIECE):
            if piece != second.read(len(piece)):
                return False
        return not second.read(1)
