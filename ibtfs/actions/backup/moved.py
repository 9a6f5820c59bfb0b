"""Folders that were moved since the last backup: which old directory to compare them with.

It is a hint and no more: what is taken from there is still compared entry by entry, so a wrong
one costs nothing but the comparison.
"""

from __future__ import annotations

from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef
from ibtfs.store.trees.reach import reach


class MovedFolders:
    """The directories of the last backup by inode; read when a folder first asks.

    *since_ns* is when that backup was made, *root* its tree (None: there is none).
    """

    def __init__(self, repository: Repository, root: StateRef | None, since_ns: int) -> None:
        self._repository, self._root, self._since_ns = repository, root, since_ns
        self._states: dict[int, StateRef] | None = None

    def find(self, inode: int, mtime_ns: int) -> StateRef | None:
        """What a folder with a new name may have been; *mtime_ns* is its time of modification.

        A folder whose listing has changed since the last backup is most likely new.
        """
        if self._root is None or mtime_ns >= self._since_ns:
            return None
        if self._states is None:
            self._states = self._read(self._root)
        return self._states.get(inode)

    def _read(self, root: StateRef) -> dict[int, StateRef]:
        states: dict[int, StateRef] = {}
        for visit in reach(self._repository, root, seen=set()):
            for folder in visit.known_folders():  # no hint from what is damaged
                if folder.state is not None:
                    states.setdefault(folder.inode, folder.state)
        return states
