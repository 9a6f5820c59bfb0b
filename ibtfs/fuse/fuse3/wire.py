"""The structures of the kernel's FUSE protocol that answer requests, packed.

They are the same on every platform, unlike ``struct stat`` and libfuse's own structures, and
packing one costs a microsecond where filling a ctypes structure costs twenty; so answers are
packed here and handed to ``fuse_reply_buf``, which adds nothing but the header.
"""

from __future__ import annotations

import struct

from ibtfs.view.node import Attributes, Statistics

ROOT_ID = 1
# As good as for ever: nothing inside a backup point changes.
LONG_SECONDS = 30 * 24 * 3600
# Elsewhere, long enough that a program which goes through a directory does not ask for the names
# above it again for each file, and short enough that nobody is shown what was there before.
SHORT_NS = 20_000_000
NAME_MAX = 255
# What programs are told to read at a time; the kernel reads ahead much further by itself.
BLOCK_SIZE = 128 * 1024
_SECOND = 1_000_000_000

# ino size blocks | atime mtime ctime, signed | their ns | mode nlink uid gid rdev blksize flags
_ATTRIBUTES = "QQQqqqIIIIIIIIII"
# nodeid generation entry_valid attr_valid entry_valid_nsec attr_valid_nsec
_ENTRY = struct.Struct("=QQQQII" + _ATTRIBUTES)
_ATTR = struct.Struct("=QII" + _ATTRIBUTES)
# ino off namelen type
_DIRENT = struct.Struct("=QQII")
_DIRENT_PLUS = struct.Struct("=QQQQII" + _ATTRIBUTES + "QQII")
_STATFS = struct.Struct("=QQQQQIIII24x")
_SIZE = struct.Struct("=II")
_OFFSET = struct.Struct("=q")
_FORGET = struct.Struct("=QQ")
_NO_ENTRY = (0,) * 22
# A name is filled up with zeros to a multiple of eight.
_PADDING = tuple(b"\0" * (-length % 8) for length in range(8))

DIRENT_SIZE = _DIRENT.size
DIRENT_PLUS_SIZE = _DIRENT_PLUS.size
FORGET_SIZE = _FORGET.size


def times(name_stable: bool, node_stable: bool) -> tuple[int, int, int, int]:
    """How long the kernel may keep a name and a node: their seconds, then their nanoseconds."""
    return (
        *(LONG_SECONDS if name_stable else 0, LONG_SECONDS if node_stable else 0),
        *(0 if name_stable else SHORT_NS, 0 if node_stable else SHORT_NS),
    )


def _fields(a: Attributes) -> tuple[int, ...]:
    mtime, mtime_ns = divmod(a.mtime_ns, _SECOND)
    ctime, ctime_ns = divmod(a.ctime_ns, _SECOND)
    return (
        *(a.ino, a.size, a.blocks, mtime, mtime, ctime, mtime_ns, mtime_ns, ctime_ns),
        *(a.mode, a.nlink, a.uid, a.gid, a.rdev & 0xFFFFFFFF, BLOCK_SIZE, 0),
    )


def entry(nodeid: int, attributes: Attributes, name_stable: bool, node_stable: bool) -> bytes:
    """``fuse_entry_out``: a name leads to *nodeid*."""
    return _ENTRY.pack(nodeid, 0, *times(name_stable, node_stable), *_fields(attributes))


def no_entry() -> bytes:
    """``fuse_entry_out``: a name leads nowhere, and never will."""
    return _ENTRY.pack(0, 0, LONG_SECONDS, *_NO_ENTRY[3:])


def attr(attributes: Attributes, stable: bool) -> bytes:
    """``fuse_attr_out``: the attributes of a node."""
    seconds, ns = times(stable, stable)[1:3]
    return _ATTR.pack(seconds, ns, 0, *_fields(attributes))


def dirent(name: bytes, ino: int, mode: int, offset: int) -> bytes:
    """``fuse_dirent``: a name without its attributes; *offset* is that of the next entry."""
    return _DIRENT.pack(ino, offset, len(name), mode >> 12) + name + _PADDING[len(name) & 7]


def dirent_only(name: bytes, ino: int, mode: int, offset: int) -> bytes:
    """``fuse_direntplus`` that gives no node: for ``.`` and ``..``, and for what is damaged."""
    size = len(name)
    return _DIRENT_PLUS.pack(*_NO_ENTRY, ino, offset, size, mode >> 12) + name + _PADDING[size & 7]


def dirent_plus(
    name: bytes, a: Attributes, nodeid: int, offset: int, keep: tuple[int, int, int, int]
) -> bytes:
    """``fuse_direntplus``: a name with its node; *keep* says how long, as *times* does."""
    # Written out in full: this is what every listing goes through, for each entry.
    ino, mode, nlink, uid, gid, rdev, size, blocks, mtime_ns, ctime_ns = a
    name_s, node_s, name_ns, node_ns = keep
    mtime, mtime_ns = divmod(mtime_ns, _SECOND)
    ctime, ctime_ns = divmod(ctime_ns, _SECOND)
    length = len(name)
    return (
        _DIRENT_PLUS.pack(
            nodeid, 0, name_s, node_s, name_ns, node_ns,
            ino, size, blocks, mtime, mtime, ctime, mtime_ns, mtime_ns, ctime_ns,
            mode, nlink, uid, gid, rdev & 0xFFFFFFFF, BLOCK_SIZE, 0,
            ino, offset, length, mode >> 12,
        )
        + name
        + _PADDING[length & 7]
    )  # fmt: skip


def statfs(s: Statistics) -> bytes:
    """``fuse_statfs_out``."""
    return _STATFS.pack(
        *(s.blocks, s.blocks_free, s.blocks_available, s.files, s.files_free),
        *(s.block_size, NAME_MAX, s.block_size, 0),
    )


def size_only(size: int) -> bytes:
    """``fuse_getxattr_out``: how large a buffer is needed."""
    return _SIZE.pack(size, 0)


def position(offset: int) -> bytes:
    """``fuse_lseek_out``."""
    return _OFFSET.pack(offset)


def forgets(packed: bytes) -> list[tuple[int, int]]:
    """The (nodeid, count) pairs of an array of ``fuse_forget_data``."""
    return list(_FORGET.iter_unpack(packed))
