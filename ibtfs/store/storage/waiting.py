"""Waiting for a server that is not reached: longer and longer, and not for ever."""

from __future__ import annotations

import logging
import random
import threading
import time

RETRY_SECONDS = 15 * 60
"""So long a server is tried again: a router may be started anew meanwhile."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
QUIET_TRIES = 3
NOT_REACHED = "%s is not reached (%s); it is tried again for %d minutes"
REACHED = "%s is reached again"
log = logging.getLogger(__name__)


class Waiting:
    """How long is waited for the server that *shown* names; threads may share it.

    Once *seconds* were in vain, each is tried once until one succeeds.
    """

    def __init__(self, shown: str, seconds: float = RETRY_SECONDS) -> None:
        self._shown, self._seconds = shown, seconds
        self._lock = threading.Lock()
        self._lost_at = 0.0
        self._tries = 0
        self._told = self._gave_up = False

    def succeeded(self) -> None:
        """The server was reached."""
        if not self._lost_at:
            return
        with self._lock:
            told, self._lost_at, self._tries = self._told, 0.0, 0
            self._told = self._gave_up = False
        if told:
            log.warning(REACHED, self._shown)

    def wait(self, why: str) -> bool:
        """Wait before the next try, as *why* makes necessary; False if there is to be none.

        From the third time on it is told, once, that it is waited.
        """
        with self._lock:
            now = time.monotonic()
            self._lost_at = self._lost_at or now
            self._tries += 1
            self._gave_up |= now - self._lost_at > self._seconds
            if self._gave_up:
                return False
            tell = self._tries >= QUIET_TRIES and not self._told
            self._told |= tell
            pause = min(FIRST_WAIT * 2 ** min(self._tries - 1, 10), LONGEST_WAIT)
        if tell:
            minutes = round(self._seconds / 60)
            log.warning(NOT_REACHED, self._shown, why, minutes)
        time.sleep(pause * random.uniform(0.75, 1.0))
        return True
