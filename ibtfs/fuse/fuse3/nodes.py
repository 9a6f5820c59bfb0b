"""The nodes that the kernel holds, and their numbers.

Owns the node table, whose lookup counts the kernel and this side keep in step: whatever the
kernel was told of stays here until it forgets it.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterable, Sequence

from ibtfs import errors
from ibtfs.fuse.fuse3 import wire
from ibtfs.view.node import Attributes, Node

Identity = int | tuple[int, bytes]


class NodeTable:
    """Numbers for nodes, with the lookup counts of the FUSE protocol.

    A node keeps its number as long as the kernel holds it, and no number is ever used twice.
    Thread-safe.
    """

    def __init__(self, root: Node) -> None:
        self._lock = threading.Lock()
        # Plain dicts of plain values: there may be millions, and the garbage collector would
        # look at objects of our own again and again.
        self._nodes = {wire.ROOT_ID: root}
        self._counts: dict[int, int] = {}  # of those that are not held once
        # Held nodes stay alive, so meanwhile an id() cannot come to mean another one.
        self._numbers: dict[Identity, int] = {id(root): wire.ROOT_ID}
        self._links: dict[int, Identity] = {}  # of the numbers that are for one target only
        self._next = wire.ROOT_ID + 1

    def __len__(self) -> int:
        return len(self._nodes)

    def node(self, nodeid: int) -> Node:
        """The node numbered *nodeid*.  Raises PointGone when the kernel cannot hold it."""
        try:
            return self._nodes[nodeid]
        except KeyError:
            raise errors.PointGone(f"No node has the number {nodeid}") from None

    def held(self, nodeid: int) -> Node | None:
        """The node numbered *nodeid*, if the kernel still holds it."""
        return self._nodes.get(nodeid)

    def remember(self, nodes: Sequence[Node], identities: Sequence[Identity]) -> list[int]:
        """The numbers of *nodes*, each of which the kernel will be told of once more."""
        numbers, counts = self._numbers, self._counts
        granted = []
        with self._lock:
            for node, identity in zip(nodes, identities, strict=True):
                nodeid = numbers.get(identity)
                if nodeid is None:
                    nodeid = self._add(node, identity)
                else:
                    counts[nodeid] = counts.get(nodeid, 1) + 1
                granted.append(nodeid)
        return granted

    def _add(self, node: Node, identity: Identity) -> int:
        nodeid = self._numbers[identity] = self._next
        self._next += 1
        self._nodes[nodeid] = node
        if isinstance(identity, tuple):
            self._links[nodeid] = identity
        return nodeid

    def forget(self, counts: Iterable[tuple[int, int]]) -> None:
        """Take back (nodeid, count) pairs; a node at zero is let go."""
        gone: list[Node] = []  # freed outside the lock: a view may do much when a node goes
        with self._lock:
            for nodeid, count in counts:
                if nodeid not in self._nodes or nodeid == wire.ROOT_ID:
                    continue
                left = self._counts.get(nodeid, 1) - count
                if left > 0:
                    self._counts[nodeid] = left
                else:
                    gone.append(self._remove(nodeid))

    def _remove(self, nodeid: int) -> Node:
        node = self._nodes.pop(nodeid)
        self._counts.pop(nodeid, None)
        del self._numbers[self._links.pop(nodeid, id(node))]
        return node


def identity_of(node: Node, attributes: Attributes) -> Identity:
    """What makes *node* one that the kernel knows already.  Raises what its target() raises.

    The kernel keeps where a link points for as long as it has the same number, so a link that
    may change has another number for each target.
    """
    if stat.S_ISLNK(attributes.mode) and not node.stable:
        return id(node), node.target()
    return id(node)
