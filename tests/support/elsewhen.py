"""ibtfs on a machine whose wall clock is off: ``python -m tests.support.elsewhen SECONDS WORD...``.

The clock of Python alone is moved, as far as ibtfs asks it: what libfaketime does to the waits of
its threads keeps a processor busy, and lets some fail.
"""

from __future__ import annotations

import sys
import time

from ibtfs.cli.main import main

Moment = float | None


def move(seconds: int) -> None:
    """From now on the wall clock goes *seconds* ahead; waits, and stamps of files, do not."""
    real, real_ns, gmtime, localtime = time.time, time.time_ns, time.gmtime, time.localtime

    def given(moment: Moment) -> float:
        return real() + seconds if moment is None else moment

    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + seconds * 1_000_000_000
    time.gmtime = lambda moment=None, /: gmtime(given(moment))
    time.localtime = lambda moment=None, /: localtime(given(moment))


if __name__ == "__main__":
    move(int(sys.argv.pop(1)))
    main()
