"""What was listed last, for where listing is all that tells of a change."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ibtfs.store.storage.objects.client import Found

LOOK_SECONDS = 5.0
"""Looks at a folder within so long after another one ask nothing."""
Names = Mapping[str, Found | None]


class _Listed(NamedTuple):
    at: float
    token: int
    changed_ns: int
    names: Names


class Listings:
    """The folders that *list_folder* lists, as they were last; threads may share it."""

    def __init__(self, list_folder: Callable[[str], Names]) -> None:
        self._list = list_folder
        self._lock = threading.Lock()
        self._listed: dict[str, _Listed] = {}

    def fresh(self, folder: str) -> Names:
        """What lies in *folder*, which is remembered for those at the top."""
        asked = time.monotonic()
        names = self._list(folder)
        if "/" not in folder:
            with self._lock:
                self._remember(folder, names, asked)
        return names

    def take(self, folder: str, names: Names, asked: float) -> None:
        """Remember what lies in *folder*, at the top, as it was told when it was *asked* for."""
        with self._lock:
            self._remember(folder, names, asked)

    def _remember(self, folder: str, names: Names, asked: float) -> None:
        digest = hashlib.blake2b("\0".join(sorted(names)).encode("utf-8", "surrogateescape"))
        token = int.from_bytes(digest.digest()[:7], "big") + 1
        known = self._listed.get(folder)
        is_same = known is not None and known.token == token
        changed_ns = known.changed_ns if known is not None and is_same else time.time_ns()
        self._listed[folder] = _Listed(asked, token, changed_ns, names)

    def _recent(self, folder: str) -> _Listed:
        known = self._listed.get(folder)
        if known is None or time.monotonic() - known.at > LOOK_SECONDS:
            self.fresh(folder)
            known = self._listed[folder]
        return known

    def token(self, folder: str) -> int:
        """A number that changes when names in *folder*, which is at the top, do; never 0."""
        return self._recent(folder).token

    def changed_ns(self, folder: str) -> int:
        """When names in it were seen to have changed, in ns since 1970."""
        return self._recent(folder).changed_ns

    def found(self, folder: str, name: str) -> Found | None:
        """What was told of *name* when its folder was last listed; None if nothing was."""
        known = self._listed.get(folder)
        return known.names.get(name) if known is not None else None

    def forget(self, folder: str) -> None:
        """Something in *folder* is changed by this process."""
        with self._lock:
            known = self._listed.get(folder)
            if known is not None:
                self._listed[folder] = known._replace(at=float("-inf"))
