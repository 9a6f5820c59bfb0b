"""What a server that only appends has to know, looked at when it is asked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection

from ibtfs.errors import IbtfsError, StorageFailed
from ibtfs.format.config import CONFIG_LIMIT, decode_config
from ibtfs.store import layout
from ibtfs.store.storage.base import whole
from ibtfs.store.storage.bundles import Bundles
from ibtfs.store.storage.durable import failed
from ibtfs.store.storage.ssh.parts import ServedStorage


class DiskFacts:
    """The Facts of *storage*; threads may share it."""

    def __init__(self, storage: ServedStorage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._bundles: Bundles | None = None

    def names(self, folder: str) -> Collection[str]:
        """As Facts says."""
        return self._storage.list(folder)

    def repository_id(self) -> bytes:
        """The id of the repository.  Raises IbtfsError."""
        return decode_config(whole(self._storage, layout.CONFIG, CONFIG_LIMIT), layout.CONFIG).id

    def is_bundled(self, archive_id: str) -> bool:
        """As Facts says."""
        if not self._storage.list(layout.BUNDLES):
            return False
        with self._lock:
            try:
                if self._bundles is None:
                    self._bundles = Bundles(self._storage, self.repository_id())
                self._bundles.look_again()
                return bool(self._bundles.damaged()) or archive_id in self._bundles.archives()
            except IbtfsError:
                return True

    def is_claimed(self, run_id: str, *, may_begin: bool) -> bool:
        """As Facts says.

        A lock that is held names it from then on, so that it is known to the next process, too.
        """
        with self._lock:
            leases = list(self._storage.held.values())
            if any(run_id in lease.runs for lease in leases):
                return True
            runs = map(layout.run_of, self._storage.list(layout.ARCHIVES))
            is_new = may_begin and run_id not in runs
            if not leases or not is_new or run_id in self._storage.list(layout.TAGS):
                return False
            try:
                leases[-1].claim(run_id)
            except OSError as error:
                raise failed(error, layout.LOCKS) from error
            return True


def shared_of(storage: ServedStorage) -> bool:
    """Whether the repository that is there is its group's, too."""
    with contextlib.suppress(IbtfsError, StorageFailed):
        text = whole(storage, layout.CONFIG, CONFIG_LIMIT)
        return decode_config(text, layout.CONFIG).shared
    return False
