"""The mounted tree, looked at without mounting it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping

from ibtfs.errors import IbtfsError
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from ibtfs.view.entry_node import point_node
from ibtfs.view.node import Node
from ibtfs.view.tree import RepositoryView
from tests.support import TYPES, Entry

PIECE = 1 << 16
SECOND = 1_000_000_000
Tree = dict[bytes, Entry]
Known = dict[object, str]


class WrongRead(AssertionError):
    """The mounted tree gives something that cannot be."""


def viewed_tree(repository: Repository, point: Point, known: Known | None = None) -> Tree:
    """*point* as `snapshot` would show it mounted.

    *known* keeps the hashes of contents between calls; each is read once then.
    """
    root = point_node(RepositoryView(repository), b"point", point)
    bad: dict[bytes, IbtfsError] = {}
    tree = viewed(root, bad, {} if known is None else known)
    for error in bad.values():
        raise error
    return tree


def viewed(root: Node, bad: dict[bytes, IbtfsError], known: Known) -> Tree:
    """The tree below *root* as `snapshot` would show it mounted; failures go to *bad*.

    Raises WrongRead.
    """
    nodes: dict[bytes, Node] = {}
    waiting = [(b"", root)]
    while waiting:
        path, node = waiting.pop()
        nodes[path] = node
        if not stat.S_ISDIR(node.attributes().mode):
            continue
        try:
            children = node.children()
        except IbtfsError as error:
            bad[path] = error
            continue
        names = [name for name, _ in children]
        if names != sorted(set(names)):
            raise WrongRead(f"{path!r} lists {names}")
        waiting += [(path + b"/" + name if path else name, child) for name, child in children]
    groups: dict[int, set[bytes]] = {}
    for path, node in nodes.items():
        groups.setdefault(node.attributes().ino, set()).add(path)
    tree = {}
    for path, node in nodes.items():
        try:
            tree[path] = _entry(node, groups, known)
        except IbtfsError as error:
            bad[path] = error
    return tree


def _entry(node: Node, groups: Mapping[int, set[bytes]], known: Known) -> Entry:
    found = node.attributes()
    kind = TYPES.get(found.mode & 0o170000, "nothing known")
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
    content = node.entry.content  # type: ignore[attr-defined]
    if content not in known:
        digest = hashlib.sha256()
        for offset in range(0, size, PIECE):
            data = node.read(offset, PIECE)
            if len(data) != min(PIECE, size - offset):
                raise WrongRead(f"{len(data)} bytes read at {offset} of {size}")
            digest.update(data)
            node.next_data(offset)
            node.next_hole(offset)
        if node.read(size, PIECE):
            raise WrongRead(f"bytes read at the end, {size}")
        known[content] = digest.hexdigest()
    return known[content]


def node_at(node: Node, path: str | bytes) -> Node:
    for name in os.fsencode(path).split(b"/"):
        node = node.lookup(name)
    return node


def names_in(node: Node) -> list[str]:
    return [os.fsdecode(name) for name, _ in node.children()]
