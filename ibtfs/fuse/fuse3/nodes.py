"""The nodes that the kernel holds, and their numbers.

Owns the node table, whose lookup counts the kernel and this side keep in step: whatever the
kernel was told of stays here until it forgets it, and what it forgot last for a while longer.
"""

from __future__ import annotations

import stat
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from ibtfs import errors
from ibtfs.fuse.fuse3 import wire
from ibtfs.view.node import Attributes, Node

Identity = int | tuple[int, bytes]
Place = tuple[int, bytes]
FORGOTTEN = 10_000
"""So many nodes that the kernel forgot last are kept: file handles lead to them."""


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
        self._places: dict[int, Place] = {}  # of directories
        self._handled: dict[Place, int] = {}  # of those that file handles led to
        self._forgotten: OrderedDict[int, tuple[Node, Place | None]] = OrderedDict()
        self._former: dict[int, int] = {}  # the numbers of forgotten nodes, by id()

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
        former = self._former.get(id(node)) if isinstance(identity, int) else None
        if former is not None:
            self._revive(former)
            return former
        nodeid = self._numbers[identity] = self._next
        self._next += 1
        self._nodes[nodeid] = node
        if isinstance(identity, tuple):
            self._links[nodeid] = identity
        return nodeid

    def put(self, nodeid: int, above: int, name: bytes) -> None:
        """The directory numbered *nodeid* is *name* in the one numbered *above*."""
        with self._lock:
            if nodeid in self._nodes:
                self._places[nodeid] = above, name

    def above(self, nodeid: int) -> int:
        """The number of the directory that holds the one numbered *nodeid*; of the root, its own.

        Raises PointGone.
        """
        place = self._places.get(nodeid)
        if place is None and nodeid != wire.ROOT_ID:
            raise errors.PointGone(f"Nobody knows what holds the node {nodeid}")
        return place[0] if place else wire.ROOT_ID

    def handled(self, above: int, name: bytes) -> Node | None:
        """The directory at a place, if the kernel came to it by a file handle.

        It must be given under the same number there, or the kernel takes it for another.
        """
        number = self._handled.get((above, name)) if self._handled else None
        return None if number is None else self._nodes.get(number)

    def again(self, nodeid: int) -> Node:
        """The node numbered *nodeid*, of which the kernel will be told once more.

        It may have forgotten it, but not the number: file handles last longer than what the kernel
        holds.  Raises PointGone if that was too long ago.
        """
        with self._lock:
            if nodeid in self._nodes:
                self._counts[nodeid] = self._counts.get(nodeid, 1) + 1
            elif nodeid in self._forgotten:
                self._revive(nodeid)
            else:
                raise errors.PointGone(f"No node has the number {nodeid}")
            place = self._places.get(nodeid)
            if place is not None:
                self._handled[place] = nodeid
            return self._nodes[nodeid]

    def _revive(self, nodeid: int) -> None:
        node, place = self._forgotten.pop(nodeid)
        del self._former[id(node)]
        self._nodes[nodeid], self._numbers[id(node)] = node, nodeid
        if place is not None:
            self._places[nodeid] = place

    def forget(self, counts: Iterable[tuple[int, int]]) -> None:
        """Take back (nodeid, count) pairs; a node at zero is let go, in a while."""
        gone: list[Node] = []  # freed outside the lock: a view may do much when a node goes
        with self._lock:
            for nodeid, count in counts:
                if nodeid not in self._nodes or nodeid == wire.ROOT_ID:
                    continue
                left = self._counts.get(nodeid, 1) - count
                if left > 0:
                    self._counts[nodeid] = left
                else:
                    gone += self._remove(nodeid)

    def _remove(self, nodeid: int) -> list[Node]:
        """Let go of a node, in a while; those to be freed now."""
        node, place = self._nodes.pop(nodeid), self._places.pop(nodeid, None)
        self._counts.pop(nodeid, None)
        link = self._links.pop(nodeid, None)
        del self._numbers[id(node) if link is None else link]
        if place is not None and self._handled.get(place) == nodeid:
            del self._handled[place]
        if link is not None:
            return [node]  # it may lead elsewhere by now
        self._forgotten[nodeid], self._former[id(node)] = (node, place), nodeid
        if len(self._forgotten) <= FORGOTTEN:
            return []
        gone = self._forgotten.popitem(last=False)[1][0]
        del self._former[id(gone)]
        return [gone]


def identity_of(node: Node, attributes: Attributes) -> Identity:
    """What makes *node* one that the kernel knows already.  Raises what its target() raises.

    The kernel keeps where a link points for as long as it has the same number, so a link that
    may change has another number for each target.
    """
    if stat.S_ISLNK(attributes.mode) and not node.stable:
        return id(node), node.target()
    return id(node)
