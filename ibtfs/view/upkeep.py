"""What a mount sees to while nobody asks it for anything.

That prune can free what it replaced; and far away, which points there are, so that nobody waits.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Final

from ibtfs.errors import IbtfsError
from ibtfs.store.repository import Repository

UPKEEP_SECONDS: Final = 3.0
FAR_SECONDS: Final = 30.0
"""Where each look is waited for, and may cost money."""

log = logging.getLogger(__name__)


class Upkeep:
    """While it is entered, a thread of its own closes the files that were removed or replaced.

    An open file keeps its room on the disk.  Far away, it looks around.  To be entered in the
    process that serves.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def _run(self) -> None:
        seconds = FAR_SECONDS if self._repository.is_far else UPKEEP_SECONDS
        while not self._ended.wait(seconds):
            try:
                self._repository.look_around()
                self._repository.drop_replaced()
            except IbtfsError as error:  # whoever reads is told; it may be there again later
                log.debug("Upkeep: %s", error)
            except Exception:  # it is told, and the next look may do better
                log.exception("What a mount sees to failed")

    def __enter__(self) -> Upkeep:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
