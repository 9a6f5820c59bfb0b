"""The mounted tree, looked at without mounting it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from ibtfs.view.entry_node import point_node
from ibtfs.view.node import Node
from ibtfs.view.tree import RepositoryView
from tests.support import TYPES, Entry

PIECE = 1 << 20


Known = dict[object, str]


def viewed_tree(
    repository: Repository, point: Point, known: Known | None = None
) -> dict[bytes, Entry]:
    """*point* as `snapshot` would show it mounted.

    *known* keeps the hashes of contents between calls; each is read once then.
    """
    view = RepositoryView(repository)
    root = point_node(view, b"point", point)
    nodes: dict[bytes, Node] = {}
    waiting = [(b"", root)]
    while waiting:
        path, node = waiting.pop()
        nodes[path] = node
        if TYPES[node.attributes().mode & 0o170000] == "directory":
            children = node.children()
            assert [name for name, _ in children] == sorted({name for name, _ in children})
            waiting += [(path + b"/" + name if path else name, child) for name, child in children]
    groups: dict[int, set[bytes]] = {}
    for path, node in nodes.items():
        groups.setdefault(node.attributes().ino, set()).add(path)
    known = {} if known is None else known
    return {path: _viewed(node, groups, known) for path, node in nodes.items()}


def _viewed(node: Node, groups: Mapping[int, set[bytes]], known: Known) -> Entry:
    found = node.attributes()
    kind = TYPES[found.mode & 0o170000]
    links = frozenset(groups[found.ino])
    return Entry(
        type=kind, mode=found.mode & 0o7777, uid=found.uid, gid=found.gid, size=found.size,
        mtime_ns=found.mtime_ns, nlink=found.nlink, rdev=found.rdev,
        blocks=found.blocks if kind in {"file", "directory"} else 0,
        target=node.target() if kind == "symlink" else None,
        sha256=_hash(node, found.size, known) if kind == "file" else None,
        xattrs={os.fsdecode(name): value for name, value in sorted(node.xattrs().items())},
        links=links if len(links) > 1 else frozenset(),
    )  # fmt: skip


def _hash(node: Node, size: int, known: Known) -> str:
    import hashlib

    content = node.entry.content  # type: ignore[attr-defined]
    if content not in known:
        digest = hashlib.sha256()
        for offset in range(0, size, PIECE):
            data = node.read(offset, PIECE)
            assert len(data) == min(PIECE, size - offset)
            digest.update(data)
        assert node.read(size, PIECE) == b""
        known[content] = digest.hexdigest()
    return known[content]


SECOND = 1_000_000_000


def node_at(node: Node, path: str | bytes) -> Node:
    for name in os.fsencode(path).split(b"/"):
        node = node.lookup(name)
    return node


def names_in(node: Node) -> list[str]:
    return [os.fsdecode(name) for name, _ in node.children()]
