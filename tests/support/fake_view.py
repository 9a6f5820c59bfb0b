"""A tree made up in memory, to be mounted: every kind of node, and every kind of trouble."""

from __future__ import annotations

import gc
import os
import random
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from ibtfs import errors
from ibtfs.fuse.fuse3.nodes import NodeTable
from ibtfs.view.node import Attributes, Node, Statistics

GIB = 1 << 30
BLOB = random.Random(1).randbytes(3_000_000)
SPARSE = {0: b"start" * 1000, GIB: b"middle" * 1000, 2 * GIB: b"end" * 1000}
SPARSE_SIZE = 2 * GIB + 4 * 1000
STRANGE = [b"not utf-8 \xff\xfe", b"l" * 255, b"new\nline", b" ", "caf\u00e9".encode(), b"a,b\\c"]


class FakeNode:
    """A node made of plain values."""

    def __init__(self, mode: int, data: bytes = b"", **values: int) -> None:
        self.stable = True
        self.data = data
        self.entries: dict[bytes, Node] = {}
        self.values = {"ino": id(self) & 0xFFFFFFFF, "nlink": 1, "size": len(data)} | values
        self.mode = mode
        self.attrs: dict[bytes, bytes] = {}

    def attributes(self) -> Attributes:
        v = self.values
        get = v.get
        times = (get("mtime_ns", 10**18 + 7), get("ctime_ns", 10**18 + 9))
        owner = (get("uid", 0), get("gid", 0), get("rdev", 0))
        blocks = (v["size"] + 511) // 512
        return Attributes(v["ino"], self.mode, v["nlink"], *owner, v["size"], blocks, *times)

    def lookup(self, name: bytes) -> Node:
        if name not in self.entries:
            raise errors.EntryNotFound(f"No {name!r}")
        return self.entries[name]

    def children(self) -> Sequence[tuple[bytes, Node]]:
        return list(self.entries.items())

    def target(self) -> bytes:
        return self.data

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]

    def next_data(self, offset: int) -> int:
        return offset

    def next_hole(self, offset: int) -> int:
        return self.values["size"]

    def xattrs(self) -> Mapping[bytes, bytes]:
        return self.attrs


class SparseNode(FakeNode):
    """Three runs of data with holes of a gibibyte between them."""

    def read(self, offset: int, size: int) -> bytes:
        out = bytearray(min(size, SPARSE_SIZE - offset))
        for start, data in SPARSE.items():
            low, high = max(start, offset), min(start + len(data), offset + len(out))
            if low < high:
                out[low - offset : high - offset] = data[low - start : high - start]
        return bytes(out)

    def next_data(self, offset: int) -> int:
        after = [max(offset, s) for s, data in SPARSE.items() if offset < s + len(data)]
        return min(after, default=-1)

    def next_hole(self, offset: int) -> int:
        ends = [s + len(data) for s, data in SPARSE.items() if s <= offset < s + len(data)]
        return ends[0] if ends else offset


class DamagedNode(FakeNode):
    """A file whose second megabyte cannot be read."""

    def read(self, offset: int, size: int) -> bytes:
        if offset + size > 1 << 20:
            raise errors.FormatDamaged("Point p, path /damaged, archive a: frame 3 is damaged")
        return super().read(offset, size)


class GoneNode(FakeNode):
    """A directory whose backup point was removed."""

    def children(self) -> Sequence[tuple[bytes, Node]]:
        raise errors.PointGone("Point p was removed")

    def lookup(self, name: bytes) -> Node:
        raise errors.PointGone("Point p was removed")


class BrokenNode(FakeNode):
    """A file whose attributes cannot be had."""

    def attributes(self) -> Attributes:
        raise errors.FormatDamaged("Page 7 is damaged")


class ChangingNode(FakeNode):
    """A directory that shows what is in a real one at the moment, and where its newest is."""

    def __init__(self, place: Path) -> None:
        super().__init__(stat.S_IFDIR | 0o755, size=0)
        self.stable = False
        self.place = place
        self.made: dict[bytes, Node] = {}
        self.newest = link(b"")
        self.newest.stable = False

    def attributes(self) -> Attributes:
        return super().attributes()._replace(mtime_ns=self.place.stat().st_mtime_ns)

    def children(self) -> Sequence[tuple[bytes, Node]]:
        names = sorted(os.listdir(os.fsencode(self.place)))
        self.newest.data = names[-1] if names else b"nothing"
        self.newest.values["size"] = len(self.newest.data)
        made = [(name, self.made.setdefault(name, directory({}))) for name in names]
        return [*made, (b"latest", self.newest)]

    def lookup(self, name: bytes) -> Node:
        found = dict(self.children()).get(name)
        if found is None:
            raise errors.EntryNotFound(f"No {name!r}")
        return found


class CountingNode(FakeNode):
    """The root, which tells how many nodes the adapter holds."""

    def xattrs(self) -> Mapping[bytes, bytes]:
        held = sum(len(o) for o in gc.get_objects() if isinstance(o, NodeTable))
        return {b"user.held": str(held).encode()}


class FakeView:
    def __init__(self, root: Node) -> None:
        self.root = root

    def statistics(self) -> Statistics:
        return Statistics(4096, 1000, 600, 500, 2000, 1500)


def file(data: bytes = b"", **values: int) -> FakeNode:
    return FakeNode(stat.S_IFREG | 0o644, data, **values)


def link(target: bytes) -> FakeNode:
    return FakeNode(stat.S_IFLNK | 0o777, target)


def directory(entries: Mapping[bytes, Node]) -> FakeNode:
    below = sum(isinstance(e, FakeNode) and stat.S_ISDIR(e.mode) for e in entries.values())
    node = FakeNode(stat.S_IFDIR | 0o755, nlink=2 + below)
    node.entries = dict(entries)
    return node


def acl_of(uid: int, permissions: int) -> bytes:
    # version, then (tag, permissions, id): owner, one user, group, mask, others
    rows = [(1, 6, -1), (2, permissions, uid), (4, 4, -1), (16, 6, -1), (32, 0, -1)]
    packed = b"".join(
        t.to_bytes(2, "little") + p.to_bytes(2, "little") + (i & 0xFFFFFFFF).to_bytes(4, "little")
        for t, p, i in rows
    )
    return (2).to_bytes(4, "little") + packed


def build(control: Path) -> FakeView:
    twin = file(b"one content", ino=4711, nlink=2)
    tagged = file(b"tagged")
    tagged.attrs = {b"user.text": b"value", b"user.empty": b"", b"user.bin": bytes(range(256))}
    guarded = FakeNode(stat.S_IFREG | 0o660, b"secret")
    guarded.attrs = {b"system.posix_acl_access": acl_of(65534, 4)}
    private = FakeNode(stat.S_IFREG | 0o600, b"secret")
    times = {
        b"before": file(mtime_ns=-1_500_000_001, ctime_ns=-1),
        b"after": file(mtime_ns=5_000_000_000_123_456_789),
        b"ancient": file(mtime_ns=-2_000_000_000_000_000_000),
    }
    point = directory(
        {
            b"blob": file(BLOB),
            b"sparse": SparseNode(stat.S_IFREG | 0o600, size=SPARSE_SIZE),
            b"damaged": DamagedNode(stat.S_IFREG | 0o644, BLOB),
            b"gone": GoneNode(stat.S_IFDIR | 0o755),
            b"twin1": twin,
            b"sub": directory({b"twin2": twin, b"deep": directory({b"x": file(b"x")})}),
            b"many": directory({b"entry%05d" % i: file(b"%d" % i) for i in range(5000)}),
            b"strange": directory({name: file(name) for name in STRANGE}),
            b"link": link(b"sub/deep/x"),
            b"dangling": link(b"/nowhere/\xff"),
            b"fifo": FakeNode(stat.S_IFIFO | 0o600),
            b"socket": FakeNode(stat.S_IFSOCK | 0o600),
            b"device": FakeNode(stat.S_IFBLK | 0o660, rdev=os.makedev(259, 70_000), gid=6),
            b"odd": FakeNode(stat.S_IFREG | 0o4751, b"odd", uid=12345, gid=54321),
            b"tagged": tagged,
            b"guarded": guarded,
            b"private": private,
            b"times": directory(times),
        }
    )
    root = CountingNode(stat.S_IFDIR | 0o755, nlink=4)
    root.stable = False
    newest = link(b"point")
    newest.stable = False
    shaky = directory({b"fine": file(b"fine"), b"broken": BrokenNode(stat.S_IFREG)})
    root.entries = {
        b"point": point,
        b"changing": ChangingNode(control),
        b"latest": newest,
        b"shaky": shaky,
    }
    return FakeView(root)
