"""Keys that were made since a repository was opened, for who reads on and holds no lock.

They are looked for when something needs them.  What the repository was opened by opens them, too,
with no passphrase tried; what a storage puts beside them is read once, and so much of it at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from ibtfs.errors import FormatDamaged, IntegrityError, ObjectMissing, UnsupportedFormat
from ibtfs.sealing.ring import (
    RING_LIMIT,
    Sealed,
    Secrets,
    decode_ring,
    is_signed_by,
    open_ring,
)
from ibtfs.store import layout
from ibtfs.store.keyring import NAMES_LIMIT, Unlocked
from ibtfs.store.storage.base import Storage, whole

AGAIN_SECONDS: Final = 30.0
SOUGHT_LIMIT: Final = 4096
LISTINGS: Final = 3
"""Keys may be changed once more while they are read."""


class NewerKeys:
    """The newest keys of the repository with the id *repository*, of which *found* was opened.

    Threads may share it.  *is_lost*: they were changed, and what it was opened by opens them no
    more.
    """

    def __init__(
        self, storage: Storage, repository: bytes, found: Unlocked,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._storage, self._repository, self._clock = storage, repository, clock
        self._opened, self._secrets, self._number = found.opened, found.secrets, found.number
        self._lock = threading.Lock()
        self._read: set[str] = set()
        self._sought: dict[bytes | str, float] = {}
        self.is_lost = False

    def seek(self, sought: bytes | str) -> Secrets:
        """The newest that are known, looked for if these lack what is *sought*.

        That is the id of a master key, or the tag of a machine that only writes; the same is not
        looked for again for a while.  Raises StorageFailed.
        """
        with self._lock:
            if sought in self._secrets.masters or sought in self._secrets.writers:
                return self._secrets
            now, before = self._clock(), self._sought.get(sought)
            if before is None or now - before >= AGAIN_SECONDS:
                self._look()
                if len(self._sought) >= SOUGHT_LIMIT:
                    self._sought.clear()
                self._sought[sought] = now
            return self._secrets

    def _look(self) -> None:
        for _ in range(LISTINGS):
            names = [
                name for name in self._storage.list(layout.KEYS)
                if layout.parse_numbered(name) > self._number and name not in self._read
            ]  # fmt: skip
            names.sort(key=layout.parse_numbered, reverse=True)
            most = NAMES_LIMIT - len(self._read)
            if not [name for name in names[:most] if self._has_gone(name)]:
                return

    def _has_gone(self, name: str) -> bool:
        """Take the keys in the object *name* if they are newer; whether it is not there any more.

        Raises StorageFailed.
        """
        number, where = layout.parse_numbered(name), f"{layout.KEYS}/{name}"
        if number <= self._number:
            return False
        try:
            data = whole(self._storage, where, RING_LIMIT)
        except ObjectMissing:
            return True
        except IntegrityError:
            data = b""
        self._read.add(name)
        try:
            ring = decode_ring(data, where)
            if (ring.number, ring.repository) == (number, self._repository):
                self._take(ring, where)
        except (IntegrityError, UnsupportedFormat):
            pass  # anybody can put it there
        return False

    def _take(self, ring: Sealed, where: str) -> None:
        """Raises FormatDamaged unless the owner made it."""
        if not is_signed_by(ring, self._opened.slot.owner):
            raise FormatDamaged(f"{where}: is not what the owner of the repository wrote")
        if all(slot != self._opened.slot for slot, _ in ring.slots):
            self.is_lost = True
            return
        secrets, before = open_ring(ring, self._opened, where), self._secrets
        if (secrets.identity, secrets.config) == (before.identity, before.config):
            self._secrets, self._number, self.is_lost = secrets, ring.number, False
