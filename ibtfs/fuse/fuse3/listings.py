"""Answers to readdir and readdirplus: as many entries as fit, from an offset on.

Owns the bounded cache of listings under way: the kernel opens no directories (see
:mod:`.adapter`), so there is no handle that could hold one.  Offset 0 is ``.``, 1 is ``..``, and
the entry at *n* of a listing is at offset *n* + 2.
"""

from __future__ import annotations

import stat
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from ibtfs.errors import PartlyDamaged
from ibtfs.fuse.fuse3 import wire
from ibtfs.fuse.fuse3.nodes import NodeTable, identity_of
from ibtfs.view.node import Attributes, Node

Listing = Sequence[tuple[bytes, Node]]


class Held(NamedTuple):
    """A listing under way: its entries, and what ends it where others cannot be read."""

    entries: Listing
    error: Exception | None = None


DOTS = (b".", b"..")


class ListingCache:
    """The listings that readers are in the middle of, bounded by the number of entries.

    Thread-safe.  Offsets are positions in a listing, so they hold as long as it does: for ever
    where a directory is stable.  Elsewhere a listing lasts until someone reads the directory
    from its start, or until it is pushed out; a reader that is in the middle then may see a
    name twice or miss one, if at that moment a backup point came or went.
    """

    def __init__(self, most_entries: int = 500_000) -> None:
        self._lock = threading.Lock()
        self._most = most_entries
        self._held = 0
        self._listings: OrderedDict[int, Held] = OrderedDict()

    def get(self, nodeid: int, node: Node, offset: int) -> Held:
        """The listing of *node* for a reader at *offset*."""
        with self._lock:
            listing = self._listings.get(nodeid)
            if listing is not None and (offset or node.stable):
                self._listings.move_to_end(nodeid)
                return listing
        try:
            listing = Held(node.children())
        except PartlyDamaged as error:
            listing = Held(error.found, error)
        self._put(nodeid, listing)
        return listing

    def _put(self, nodeid: int, listing: Held) -> None:
        with self._lock:
            self._drop(nodeid)
            self._listings[nodeid] = listing
            self._held += len(listing.entries)
            while self._held > self._most and len(self._listings) > 1:
                self._drop(next(iter(self._listings)))

    def _drop(self, nodeid: int) -> None:
        self._held -= len(self._listings.pop(nodeid, Held(())).entries)

    def finished(self, nodeid: int) -> None:
        """A reader reached the end of a listing; the kernel keeps its own copy now."""
        with self._lock:
            self._drop(nodeid)


class Directories:
    """Reads directories for the kernel.  Thread-safe."""

    def __init__(self, nodes: NodeTable) -> None:
        self._nodes = nodes
        self._cache = ListingCache()

    def names(self, nodeid: int, size: int, offset: int) -> bytes:
        """Up to *size* bytes of entries without attributes."""
        node = self._nodes.node(nodeid)
        parts = [wire.dirent(*dot) for dot in _dots(node, offset)]
        room = size - (wire.DIRENT_SIZE + 8) * len(parts)
        chosen = self._chosen(nodeid, node, offset, room, wire.DIRENT_SIZE)
        position = max(offset, 2)
        for (name, _), a in zip(chosen, _looked_at(chosen), strict=True):
            position += 1
            ino, mode = (a.ino, a.mode) if a else (nodeid, 0)
            parts.append(wire.dirent(name, ino, mode, position))
        return b"".join(parts)

    def plus(self, nodeid: int, size: int, offset: int) -> tuple[bytes, list[int]]:
        """Up to *size* bytes of entries with attributes, and the nodes given out with them."""
        node = self._nodes.node(nodeid)
        parts = [wire.dirent_only(*dot) for dot in _dots(node, offset)]
        room = size - (wire.DIRENT_PLUS_SIZE + 8) * len(parts)
        chosen = self._chosen(nodeid, node, offset, room, wire.DIRENT_PLUS_SIZE)
        chosen = [(name, self._nodes.handled(nodeid, name) or child) for name, child in chosen]
        stable, looks = node.stable, _looked_at(chosen)
        granted = self._grant(stable, chosen, looks)
        numbers = iter(granted)
        keep = wire.times(stable, stable)
        position = max(offset, 2)
        for (name, child), a in zip(chosen, looks, strict=True):
            position += 1
            if a is None:
                parts.append(wire.dirent_only(name, nodeid, 0, position))
                continue
            if not stable:
                keep = wire.times(False, child.stable)
            number = next(numbers)
            if stat.S_ISDIR(a.mode):
                self._nodes.put(number, nodeid, name)
            parts.append(wire.dirent_plus(name, a, number, position, keep))
        return b"".join(parts), granted

    def _grant(self, stable: bool, chosen: Listing, looks: list[Attributes | None]) -> list[int]:
        seen = [(child, a) for (_, child), a in zip(chosen, looks, strict=True) if a is not None]
        children = [child for child, _ in seen]
        if stable:  # and so is all below
            return self._nodes.remember(children, list(map(id, children)))
        return self._nodes.remember(children, [identity_of(child, a) for child, a in seen])

    def _chosen(self, nodeid: int, node: Node, offset: int, room: int, overhead: int) -> Listing:
        listing, error = self._cache.get(nodeid, node, offset)
        start = max(offset - 2, 0)
        if start >= len(listing) and offset > 0:
            self._cache.finished(nodeid)
            if error is not None:
                raise error  # behind all that can be read: readdir tells it to the program
        stop = start
        for name, _ in listing[start : start + room // overhead]:
            room -= overhead + (len(name) + 7 & ~7)
            if room < 0:
                break
            stop += 1
        return listing[start:stop]


def _dots(node: Node, offset: int) -> list[tuple[bytes, int, int, int]]:
    if offset >= len(DOTS):
        return []
    ino = node.attributes().ino  # nobody goes by the number of "..", and it is not known here
    return [(DOTS[i], ino, stat.S_IFDIR, i + 1) for i in range(offset, len(DOTS))]


def _looked_at(listing: Listing) -> list[Attributes | None]:
    # What is damaged is listed all the same; looking at it then says what is wrong with it.
    looks: list[Attributes | None] = []
    for _, node in listing:
        try:
            looks.append(node.attributes())
        except Exception:
            looks.append(None)
    return looks
