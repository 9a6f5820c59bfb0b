"""Waiting for a server that is not reached: longer and longer, and not for ever."""

from __future__ import annotations

import logging
import random
import threading
import time
from types import TracebackType

RETRY_SECONDS = 15 * 60
"""So long a server is tried again: a router may be started anew meanwhile."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
QUIET_TRIES = 3
log = logging.getLogger(__name__)


class Waiting:
    """How long is waited for the server that *shown* names; threads may share it.

    Each request has *seconds* of its own: that others are answered meanwhile says nothing of it.
    Once they were in vain, each request is tried once until one succeeds.
    """

    def __init__(self, shown: str, seconds: float = RETRY_SECONDS) -> None:
        self.shown, self.seconds = shown, seconds
        self.gave_up = False
        self._lock = threading.Lock()
        self._teller: Tries | None = None

    def request(self) -> Tries:
        """The tries that one more request has."""
        return Tries(self)

    def tell(self, teller: Tries, why: str) -> None:
        """Tell that it is waited, unless another request does."""
        with self._lock:
            if self._teller is not None:
                return
            self._teller = teller
        text = "%s is not reached (%s); it is tried again for %d minutes"
        log.warning(text, self.shown, why, round(self.seconds / 60))

    def ended(self, tries: Tries, *, reached: bool) -> None:
        """A request has ended; *reached*: the server answered it."""
        if reached:
            self.gave_up = False
        if self._teller is tries:
            self._teller = None
            if reached:
                log.warning("%s is reached again", self.shown)


class Tries:
    """The tries of one request, of one thread; a context manager around all of them.

    Whatever ends it but that it waited in vain, or was broken off, is taken for an answer.
    """

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._began, self._tries, self._in_vain = 0.0, 0, False

    def wait(self, why: str) -> bool:
        """Wait before the next try, as *why* makes necessary; False if there is to be none.

        From the third time on it is told, once, that it is waited.
        """
        now = time.monotonic()
        self._began = self._began or now
        if now - self._began > self._waiting.seconds:
            self._waiting.gave_up = True
        if self._waiting.gave_up:
            return False
        self._tries += 1
        if self._tries == QUIET_TRIES:
            self._waiting.tell(self, why)
        pause = min(FIRST_WAIT * 2 ** min(self._tries - 1, 10), LONGEST_WAIT)
        time.sleep(pause * random.uniform(0.75, 1.0))  # so that not all come at once
        return True

    def in_vain(self) -> None:
        """The server was not reached at last."""
        self._in_vain = True

    def __enter__(self) -> Tries:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        answered = kind is None or issubclass(kind, Exception)
        self._waiting.ended(self, reached=answered and not self._in_vain)
