"""Literals that become a tree on disk: `make_tree`, and `nasty_tree`, the worst one that we know.

A tree is a dict of names to nodes; bytes stand for a file and a dict for a directory.
`Entry`, `snapshot` and `differences` (the model of the package) can be had from here, too.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from . import AnyPath, Entry, differences, file_digest, snapshot

__all__ = [
    "Device", "Directory", "Entry", "Fifo", "File", "Hardlink", "Node", "Socket", "Sparse",
    "Symlink", "differences", "file_digest", "make_tree", "nasty_tree", "posix_acl", "snapshot",
]  # fmt: skip

Name: TypeAlias = str | bytes
Literal: TypeAlias = "Node | Hardlink | bytes | Mapping[Any, Any]"


@dataclass(frozen=True, kw_only=True)
class Node:
    """The metadata that a node may ask for; what is None stays as the system makes it."""

    mode: int | None = None
    mtime_ns: int | None = None
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True)
class File(Node):
    content: bytes = b""


@dataclass(frozen=True)
class Sparse(Node):
    """A file of *size* bytes that is one hole but for *data*, bytes by offset."""

    size: int
    data: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Directory(Node):
    children: Mapping[Any, Literal] = field(default_factory=dict)


@dataclass(frozen=True)
class Symlink(Node):
    target: Name


@dataclass(frozen=True)
class Hardlink:
    """Another name of the entry *target*, a path relative to the root of the whole tree."""

    target: Name


@dataclass(frozen=True)
class Device(Node):
    kind: str  # "c" or "b"
    major: int
    minor: int


@dataclass(frozen=True)
class Fifo(Node):
    pass


@dataclass(frozen=True)
class Socket(Node):
    pass


def make_tree(
    path: AnyPath,
    children: Mapping[Any, Literal] | Directory,
    *,
    refused: list[str] | None = None,
) -> None:
    """Build the tree of *children* at *path*, which is made if missing.

    What the system refuses (no privilege, no xattrs, no room for them) raises OSError,
    or is told in *refused* and left out when that is given.
    """
    builder = _Builder(os.fsencode(path), refused)
    root = children if isinstance(children, Directory) else Directory(children)
    builder.make(builder.root, root)
    builder.finish()


class _Builder:
    """One run of make_tree: entries first, then hard links, then metadata from the leaves up."""

    def __init__(self, root: bytes, refused: list[str] | None) -> None:
        self.root = root
        self.refused = refused
        self.links: list[tuple[bytes, bytes]] = []
        self.made: list[tuple[bytes, Node]] = []  # children before their directory

    def make(self, full: bytes, literal: Literal) -> None:
        if isinstance(literal, Hardlink):
            self.links.append((os.path.join(self.root, os.fsencode(literal.target)), full))
            return
        node = _node(literal)
        if isinstance(node, Directory):
            os.makedirs(full, exist_ok=True)
            for name, child in node.children.items():
                self.make(os.path.join(full, os.fsencode(name)), child)
        elif not self.attempt(full, "create", lambda: _create(full, node)):
            return
        self.made.append((full, node))

    def finish(self) -> None:
        for target, full in self.links:
            os.link(target, full, follow_symlinks=False)
        for full, node in self.made:
            self.dress(full, node)

    def dress(self, full: bytes, node: Node) -> None:
        if node.uid is not None or node.gid is not None:
            owner = (-1 if node.uid is None else node.uid, -1 if node.gid is None else node.gid)
            self.attempt(full, "owner", lambda: os.chown(full, *owner, follow_symlinks=False))
        mode = node.mode
        if mode is not None:
            self.attempt(full, "mode", lambda: os.chmod(full, mode))
        for name, value in node.xattrs.items():
            self.attempt(full, name, partial(_set_xattr, full, name, value))
        if node.mtime_ns is not None:
            os.utime(full, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)

    def attempt(self, full: bytes, what: str, action: Callable[[], object]) -> bool:
        try:
            action()
        except OSError as error:
            if self.refused is None or error.errno not in REFUSALS:
                raise
            self.refused.append(f"{os.path.relpath(full, self.root)!r}: {what}: {error.strerror}")
            return False
        return True


REFUSALS = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSPC, errno.E2BIG, errno.ERANGE}


def _node(literal: Node | bytes | Mapping[Any, Literal]) -> Node:
    if isinstance(literal, bytes):
        return File(literal)
    return literal if isinstance(literal, Node) else Directory(literal)


def _create(full: bytes, node: Node) -> None:
    if isinstance(node, File):
        _write(full, {0: node.content}, len(node.content))
    elif isinstance(node, Sparse):
        _write(full, node.data, node.size)
    elif isinstance(node, Symlink):
        os.symlink(os.fsencode(node.target), full)
    elif isinstance(node, Fifo):
        os.mkfifo(full)
    elif isinstance(node, Socket):
        os.mknod(full, stat.S_IFSOCK | 0o777)
    elif isinstance(node, Device):
        kind = {"c": stat.S_IFCHR, "b": stat.S_IFBLK}[node.kind]
        os.mknod(full, kind | 0o600, os.makedev(node.major, node.minor))
    else:
        raise TypeError(f"Not a node: {node!r}")


def _write(full: bytes, pieces: Mapping[int, bytes], size: int) -> None:
    with open(full, "xb", buffering=0) as file:
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)
        file.truncate(size)


def _set_xattr(full: bytes, name: str, value: bytes) -> None:
    os.setxattr(full, name, value, follow_symlinks=False)


def posix_acl(*entries: tuple[int, int, int]) -> bytes:
    """Return the value of a system.posix_acl_* xattr; entries are (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


# ---- the nasty tree ------------------------------------------------------------------------

NOBODY = 0xFFFFFFFF  # the id in ACL entries that have none
ACL = posix_acl(
    (0x01, 6, NOBODY), (0x02, 4, 1234), (0x04, 4, NOBODY), (0x08, 6, 4321), (0x10, 6, NOBODY),
    (0x20, 0, NOBODY),
)  # fmt: skip
FOLDER_ACL = posix_acl(
    (0x01, 7, NOBODY), (0x02, 1, 4321), (0x04, 5, NOBODY), (0x10, 5, NOBODY), (0x20, 0, NOBODY)
)
DEFAULT_ACL = posix_acl(
    (0x01, 7, NOBODY), (0x02, 5, 1234), (0x04, 5, NOBODY), (0x10, 5, NOBODY), (0x20, 1, NOBODY)
)
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep
BEFORE_1970 = -123_456_789_012_345_679
AFTER_2106 = 4_300_000_000_987_654_321
TICK = 1_600_000_000_000_000_001


def nasty_tree(path: AnyPath) -> list[str]:
    """Build at *path* a fixed tree of all that a backup tool can lose (invariant 6 of DESIGN.md).

    Returns what this system refused, a line each: nothing for root on ext4.
    """
    refused: list[str] = []
    parts: dict[Name, Literal] = {
        "names": _names(), "xattrs": _xattrs(), "special": _special(), "modes": _modes(),
        "times": _times(), "empty": {"a": {}, "b": {"c": {}}}, "links": _links(),
        "symlinks": _symlinks(), "sparse": _sparse(), "sizes": _sizes(),
    }  # fmt: skip
    make_tree(path, Directory(parts, mode=0o1777, mtime_ns=TICK), refused=refused)
    for size in (60_000, 30_000, 14_000, 7_000, 3_900, 3_000, 1_500):  # as large as it goes
        largest = os.path.join(os.fsencode(path), b"xattrs", b"largest")
        try:
            os.setxattr(largest, "user.largest", b"\x00\xff" * (size // 2))
        except OSError:
            continue
        return refused
    return [*refused, "b'xattrs/largest': user.largest: no size goes"]


def _names() -> dict[Name, Literal]:
    names = [
        b"new\nline", b"n" * 255, b"\xff\xfe not utf-8", b"\x80", "caf\u00e9".encode(),
        "cafe\u0301".encode(), b"-rf", b"--", b"trailing ", b" leading", b"tab\there", b"\x01\x7f",
        b"back\\slash", b"*", b"[a]?", b"!not", b"#comment", b"'\"$(x)`", b"%s%n", b"c:colon", b"~",
        b"...", b".hidden", b"latest", b"@yesterday", b".versions", b"CON", "\U0001f600".encode(),
        b"UPPER", b"upper", b"\xe4\xb8" * 127,
    ]  # fmt: skip
    inside: dict[Name, Literal] = {name: b"in " + name for name in names}
    return {**{name: name for name in names}, b"dir \n\xff": inside, b"d" * 255: inside}


def _xattrs() -> dict[Name, Literal]:
    some = {"user.empty": b"", "user.binary": bytes(range(256)), "user.caf\u00e9": b"x"}
    hidden = {"trusted.hidden": b"\x00\x01"}
    return {
        "file": File(b"x", xattrs=some), "large": File(b"x", xattrs={"user.l": b"\xfe" * 2500}),
        "many": File(b"x", xattrs={f"user.{n:03}": b"%d" % n for n in range(60)}),
        "largest": b"x", "directory": Directory({"in": b""}, xattrs=some | hidden),
        "trusted": File(b"x", xattrs=hidden), "symlink": Symlink("file", xattrs=hidden),
        "fifo": Fifo(xattrs=hidden), "device": Device("c", 1, 3, xattrs=hidden),
        "acl": File(b"x", mode=0o640, xattrs={"system.posix_acl_access": ACL}),
        "acl-dir": Directory({"in": b""}, xattrs={"system.posix_acl_access": FOLDER_ACL,
                                                  "system.posix_acl_default": DEFAULT_ACL}),
        "default": Directory({"a": {}}, xattrs={"system.posix_acl_default": DEFAULT_ACL}),
        "capable": File(b"\x7fELF", mode=0o755, uid=0, xattrs={"security.capability": CAPABILITY}),
        "capable-other": File(b"x", uid=1234, gid=4321, xattrs={"security.capability": CAPABILITY}),
        "read-only": File(b"x", mode=0o444, xattrs=some),
    }  # fmt: skip


def _special() -> dict[Name, Literal]:
    return {
        "null": Device("c", 1, 3, mode=0o666), "big": Device("b", 511, 1_000_000, mode=0o660),
        "loop": Device("b", 7, 0), "fifo": Fifo(mode=0o622), "socket": Socket(mode=0o755),
        "old fifo": Fifo(mtime_ns=BEFORE_1970, uid=1234, gid=4321),
        "old socket": Socket(mtime_ns=BEFORE_1970), "late device": Device("c", 1, 5, mtime_ns=1),
    }  # fmt: skip


def _modes() -> dict[Name, Literal]:
    least = 0o500 if os.geteuid() else 0  # only root can read the others, the model included
    bits = (0o4755, 0o2755, 0o6711, 0o1644, 0o7777, 0o400, 0o044, 0o001, 0o200, 0o000)
    folder_bits = (0o2775, 0o1777, 0o000, 0o700, 0o7755)
    return {
        **{f"{mode:04o}": File(b"m", mode=mode | least) for mode in bits},
        **{f"dir {mode:04o}": Directory({"in": b""}, mode=mode | least) for mode in folder_bits},
        "owned": File(b"o", uid=1234, gid=4321, mode=0o4750), "numbers": File(uid=4_000_000_000),
        "dir owned": Directory({"a": b""}, uid=1234, gid=4321),
    }  # fmt: skip


def _times() -> dict[Name, Literal]:
    moments = {"past": BEFORE_1970, "one before": -1, "zero": 0, "future": AFTER_2106, "tick": TICK}
    return {
        **{n: File(b"t", mtime_ns=t) for n, t in moments.items()},
        **{f"dir {n}": Directory({"in": b""}, mtime_ns=t) for n, t in moments.items()},
        **{f"link {n}": Symlink("x", mtime_ns=t) for n, t in moments.items()},
    }


def _links() -> dict[Name, Literal]:
    return {
        "a": {"one": File(b"shared", mtime_ns=TICK, xattrs={"user.x": b"1"}), "alone": b"shared"},
        "b": {"two": Hardlink("links/a/one"), "deep": {"three": Hardlink("links/a/one")}},
        "before": Hardlink("links/z/after"), "z": {"after": b"another group"},
        "symlink": Symlink("nowhere"), "same symlink": Hardlink("links/symlink"),
        "fifo": Fifo(), "c": {"same fifo": Hardlink("links/fifo")},
        "hole": Sparse(300_000), "same hole": Hardlink("links/hole"),
        "empty": b"", "same empty": Hardlink("links/empty"),
    }  # fmt: skip


def _symlinks() -> dict[Name, Literal]:
    return {
        "dangling": Symlink("no/such/thing"), "absolute": Symlink("/etc/passwd"),
        "long": Symlink(b"d/" * 1999 + b"xy"), "loop": Symlink("loop"), "up": Symlink("../.."),
        "odd": Symlink(b"new\nline \xff"), "dir": Symlink("../names"), "dot": Symlink("."),
        "owned": Symlink("x", uid=1234, gid=4321, mtime_ns=TICK),
    }  # fmt: skip


def _sparse() -> dict[Name, Literal]:
    block = bytes(range(1, 256)) * 257
    return {
        "start": Sparse(1 << 20, {(1 << 20) - 65536: block[:65536]}),
        "middle": Sparse((1 << 20) + 5, {0: block, (1 << 20) - 4091: block[:4096]}),
        "end": Sparse(1 << 20, {0: block}), "whole": Sparse((1 << 20) + 1),
        "many": Sparse(4 << 20, {n << 17: block[: 4096 + n] for n in range(32)}),
        "huge": Sparse(64 << 20, {12_345_678: b"x"}),
        "zeros": bytes(1 << 20), "zeros inside": block + bytes(200_000) + block,
        "zeros at end": block + bytes(131072), "mixed": Sparse(1 << 20, {4096: bytes(65536)}),
    }  # fmt: skip


def _sizes() -> dict[Name, Literal]:
    edges = (0, 1, 511, 512, 4095, 4096, 4097, 65535, 65536, 65537, 131071, 131072, 131073)
    pattern = bytes(b ^ n for n in range(7) for b in range(251)) * 76
    return {f"{size}": pattern[:size] for size in edges}
