"""Keeping the node table small: the kernel is asked to let go of names nobody uses any more.

The kernel keeps the name and attributes of whatever it was shown until it needs the memory, and a
node must be held here for as long; a walk through ten points of 100,000 files would cost a
gigabyte.  So when there are more nodes than MOST, the files of the folders that were asked about
longest ago are taken back, by name.  What is open goes on to be readable, and what is asked for
again is given again, under the same inode number.  Folders stay: somebody may be inside.
"""

from __future__ import annotations

import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from ibtfs.errors import PartlyDamaged
from ibtfs.fuse.fuse3.nodes import NodeTable
from ibtfs.view.node import Node

MOST = 120_000
"""So many nodes, of about 800 bytes each, are held before some are taken back."""
LEFT = 0.7
"""This part of them is to be left afterwards."""
SPARE = 1000
"""So many more folders than nodes, twice, are remembered before those that are gone are dropped."""
PAUSE_SECONDS = 1.0
"""The kernel's answers to one round come in meanwhile."""


class Reclaimer:
    """Takes back what the kernel holds; *take_back* tells it, by the folder's number and a name.

    :meth:`used` may be called from any thread, :meth:`run` is for one of its own: the kernel may
    let *take_back* wait for a request that another thread answers.
    """

    def __init__(self, nodes: NodeTable, take_back: Callable[[int, bytes], bool]) -> None:
        self._nodes, self._take_back = nodes, take_back
        self._lock = threading.Lock()
        self._folders: OrderedDict[int, None] = OrderedDict()
        self._wanted, self._ended = threading.Event(), threading.Event()

    def used(self, folder: int) -> None:
        """The kernel was shown names in the stable directory numbered *folder*."""
        with self._lock:
            self._folders[folder] = None
            self._folders.move_to_end(folder)
            if len(self._folders) > 2 * len(self._nodes) + SPARE:
                # numbers are never used again: of a mount that stands for months most are gone
                for number in [n for n in self._folders if self._nodes.held(n) is None]:
                    del self._folders[number]
        if len(self._nodes) > MOST:
            self._wanted.set()

    def run(self) -> None:
        """Take back what is too much, until :meth:`end`."""
        while not self._ended.is_set():
            self._wanted.wait()
            self._wanted.clear()
            surplus = len(self._nodes) - int(MOST * LEFT)
            if surplus <= MOST - int(MOST * LEFT):
                continue
            for folder, name in self._names():
                if self._ended.is_set():
                    return
                surplus -= self._take_back(folder, name)
                if surplus <= 0:
                    break
            self._ended.wait(PAUSE_SECONDS)

    def end(self) -> None:
        """Let :meth:`run` return."""
        self._ended.set()
        self._wanted.set()

    def _names(self) -> Iterator[tuple[int, bytes]]:
        """What is not a folder, in the folders that were used longest ago; these are then done."""
        while True:
            with self._lock:
                if not self._folders:
                    return
                number = self._folders.popitem(last=False)[0]
            for name in _files(self._nodes.held(number)):
                yield number, name


def _files(folder: Node | None) -> list[bytes]:
    """The names in *folder* of what is not a folder; none if it is gone, or damaged."""
    if folder is None:
        return []
    found = []
    try:
        for name, child in _children(folder):
            if not stat.S_ISDIR(child.attributes().mode):
                found.append(name)
    except Exception:  # whoever reads it is told what is wrong
        return found
    return found


def _children(folder: Node) -> Sequence[tuple[bytes, Node]]:
    """What can be read of what *folder* holds."""
    try:
        return folder.children()
    except PartlyDamaged as error:
        return error.found
