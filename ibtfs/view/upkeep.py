"""What a mount sees to while nobody asks it for anything: that prune can free what it replaced."""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Final

from ibtfs.errors import IbtfsError
from ibtfs.store.repository import Repository

UPKEEP_SECONDS: Final = 3.0

log = logging.getLogger(__name__)


class Upkeep:
    """While it is entered, a thread of its own closes the files that were removed or replaced.

    An open file keeps its room on the disk.  To be entered in the process that serves.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def _run(self) -> None:
        while not self._ended.wait(UPKEEP_SECONDS):
            try:
                self._repository.drop_replaced()
            except IbtfsError as error:  # whoever reads is told; it may be there again later
                log.debug("Upkeep: %s", error)

    def __enter__(self) -> Upkeep:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
