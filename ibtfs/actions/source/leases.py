"""Waiting for files that a program holds a lease on: no open gets round one.

The first try to open such a file asks for the lease, and the kernel takes away what is not given
back after 45 seconds.  So all files of a folder are asked for before the first of them is waited
for; and all of one owner, who may take leases again and again, get so much time together.
"""

from __future__ import annotations

import time
from contextlib import suppress

PAUSE = 0.05
MARGIN = 5.0
_BREAK_TIME = "/proc/sys/fs/lease-break-time"
BREAK_SECONDS = 45.0
"""After which the kernel takes leases away, where it does not tell."""


def break_seconds() -> float:
    """After how many seconds the kernel takes a lease away."""
    with suppress(OSError, ValueError), open(_BREAK_TIME, encoding="ascii") as file:
        return float(file.read())
    return BREAK_SECONDS


class LeasePatience:
    """How long is waited for leases: *seconds* for all files of one owner; used by one thread."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left: dict[int, float] = {}

    def wait(self, owner: int) -> bool:
        """Wait a moment for a file of the user *owner*; False, at once, if it was enough."""
        left = self._left.get(owner, self._seconds)
        if left <= 0:
            return False
        began = time.monotonic()
        time.sleep(PAUSE)
        self._left[owner] = left - (time.monotonic() - began)
        return True
