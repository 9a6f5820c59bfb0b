"""What the tests stand on. Here: the plain model, a tree on disk as a dict of values.

It knows nothing of ibtfs: `snapshot` reads a tree through the ordinary system calls and
`differences` compares two of them. `trees` builds trees (and gives these names, too),
`histories` and `random_source` change them at random, `realdata` makes large real ones.

`repositories`, `views`, `mounts`, `commands`, `deltas` and `toolkit` do with ibtfs what many tests
do; `faking` shows it a system that is not so, `fake_view` a mount a tree that is not there,
`spaces` runs scripts in a namespace of their own. `damage` and `killing` are the trials of
``scripts/campaign``, too. `fixtures` and `independent_reader` read the repositories of
``tests/data``, `documents` what people read.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

CHECKOUT = Path(__file__).resolve().parents[2]
AnyPath = Union[str, bytes, "os.PathLike[str]"]

TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "char", stat.S_IFBLK: "block",
}  # fmt: skip


# ---- reading a tree ------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """Everything that a program can see of one entry; times in ns, *blocks* of 512 bytes."""

    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    nlink: int
    rdev: int
    blocks: int  # regular files and directories only, else 0
    target: bytes | None
    sha256: str | None  # regular files only, when contents were asked for
    xattrs: Mapping[str, bytes]
    links: frozenset[bytes]  # all the paths of the same inode, if there is more than one
    ctime_ns: int | None = None


def snapshot(
    path: AnyPath, *, contents: bool = True, skip_ctime: bool = True
) -> dict[bytes, Entry]:
    """Return the tree at *path* by relative path; the root is b"". Follows no link."""
    root = os.fsencode(path)
    found = {relative: os.lstat(_join(root, relative)) for relative in _walk(root)}
    groups: dict[tuple[int, int], set[bytes]] = {}  # also of nlink 1: no two may share an inode
    for relative, st in found.items():
        groups.setdefault((st.st_dev, st.st_ino), set()).add(relative)
    shared = {key: frozenset(paths) for key, paths in groups.items() if len(paths) > 1}
    hashed: dict[tuple[int, int], str] = {}  # a hard link group is read once
    tree = {}
    for relative, st in found.items():
        full, key = _join(root, relative), (st.st_dev, st.st_ino)
        digest = hashed.get(key)
        if contents and digest is None and stat.S_ISREG(st.st_mode):
            digest = file_digest(full)
            if key in shared:
                hashed[key] = digest
        links = shared.get(key, frozenset())
        tree[relative] = _entry(full, st, digest, links, None if skip_ctime else st.st_ctime_ns)
    return tree


def _walk(root: bytes) -> Iterator[bytes]:
    yield b""
    if not stat.S_ISDIR(os.lstat(root).st_mode):
        return
    pending = [b""]
    while pending:
        folder = pending.pop()
        with os.scandir(_join(root, folder)) as listing:
            for item in sorted(listing, key=lambda item: item.name):
                relative = os.path.join(folder, item.name)
                yield relative
                if item.is_dir(follow_symlinks=False):
                    pending.append(relative)


def _join(root: bytes, relative: bytes) -> bytes:
    return os.path.join(root, relative) if relative else root


def _entry(
    full: bytes, st: os.stat_result, digest: str | None, links: frozenset[bytes], ctime: int | None
) -> Entry:
    kind = TYPES[stat.S_IFMT(st.st_mode)]
    return Entry(
        type=kind,
        mode=stat.S_IMODE(st.st_mode),
        uid=st.st_uid,
        gid=st.st_gid,
        size=st.st_size,
        mtime_ns=st.st_mtime_ns,
        nlink=st.st_nlink,
        rdev=st.st_rdev if kind in {"char", "block"} else 0,
        blocks=st.st_blocks if kind in {"file", "directory"} else 0,
        target=os.readlink(full) if kind == "symlink" else None,
        sha256=digest,
        xattrs={
            name: os.getxattr(full, name, follow_symlinks=False)
            for name in sorted(os.listxattr(full, follow_symlinks=False))
        },
        links=links,
        ctime_ns=ctime,
    )


def file_digest(path: AnyPath) -> str:
    """Return the SHA-256 of a regular file's bytes, in hex."""
    digest, buffer = hashlib.sha256(), bytearray(1 << 20)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


# ---- comparing -----------------------------------------------------------------------------

ALWAYS = (
    "type", "mode", "uid", "gid", "size", "mtime_ns", "nlink", "rdev", "target", "sha256",
    "xattrs", "links", "ctime_ns",
)  # fmt: skip
ON_REQUEST = frozenset({"blocks", "directory_size"})
IGNORABLE = frozenset(ALWAYS) | ON_REQUEST | {"directory_nlink"}


def differences(
    expected: Mapping[bytes, Entry],
    actual: Mapping[bytes, Entry],
    *,
    ignore: Collection[str] = (),
    also: Collection[str] = (),
    limit: int = 40,
) -> list[str]:
    """Return what differs, a line each: at most *limit*, and a line that counts the rest.

    Every field counts except those in *ignore* ("directory_nlink": nlink of directories only).
    *also* asks for "blocks" (of regular files: their holes) and "directory_size" (st_size, and
    st_blocks loosely). ctime counts where both sides have it. Raises ValueError for other names.
    """
    unknown = (set(ignore) - IGNORABLE) | (set(also) - ON_REQUEST)
    if unknown:
        raise ValueError(f"No such field: {', '.join(sorted(unknown))}")
    wanted = (set(ALWAYS) | {"directory_nlink"} | set(also)) - set(ignore)
    lines = [
        line
        for path in sorted(expected.keys() | actual.keys())
        for line in _path_differences(path, expected.get(path), actual.get(path), wanted)
    ]
    if len(lines) > limit:
        lines[limit:] = [f"... and {len(lines) - limit} more differences"]
    return lines


def _path_differences(
    path: bytes, expected: Entry | None, actual: Entry | None, wanted: set[str]
) -> Iterator[str]:
    if expected is None or actual is None:
        yield f"{path!r}: {'not expected' if expected is None else 'missing'}"
        return
    if expected.type != actual.type:  # then nothing else means anything
        if "type" in wanted:
            yield f"{path!r}: type: expected {expected.type}, found {actual.type}"
        return
    for name in _fields(expected, actual, wanted):
        one, other = getattr(expected, name), getattr(actual, name)
        if one != other and not (name == "blocks" and _same_holes(expected, actual)):
            yield f"{path!r}: {name}: {_contrast(name, one, other)}"


def _fields(expected: Entry, actual: Entry, wanted: set[str]) -> list[str]:
    names = wanted - ON_REQUEST - {"directory_nlink"}
    if expected.type == "directory":
        names -= {"size"}
        names |= {"size", "blocks"} if "directory_size" in wanted else set()
        names -= set() if "directory_nlink" in wanted else {"nlink"}
    elif "blocks" in wanted:
        names.add("blocks")
    if expected.ctime_ns is None or actual.ctime_ns is None:
        names.discard("ctime_ns")
    return sorted(names)


def _same_holes(expected: Entry, actual: Entry) -> bool:
    """Tell whether as much is allocated, but for what file systems add (extents, xattrs)."""
    one, other = (min(entry.blocks * 512, entry.size) for entry in (expected, actual))
    return abs(one - other) <= 8192 + one // 64


def _contrast(name: str, expected: object, actual: object) -> str:
    if name == "mode":
        return f"expected {expected:#o}, found {actual:#o}"
    if isinstance(expected, dict) and isinstance(actual, dict):
        keys = sorted(key for key in expected | actual if expected.get(key) != actual.get(key))
        expected, actual = ({k: d[k] for k in keys if k in d} for d in (expected, actual))
    if isinstance(expected, frozenset) and isinstance(actual, frozenset):
        expected, actual = sorted(expected), sorted(actual)
    return f"expected {_short(expected)}, found {_short(actual)}"


def _short(value: object) -> str:
    text = repr(value)
    if len(text) <= 160:
        return text
    return f"{text[:120]}... ({len(text)} characters, crc {zlib.crc32(text.encode()):08x})"
