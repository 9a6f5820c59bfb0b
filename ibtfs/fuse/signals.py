"""Which signals end a mount, and who handles them meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


@contextmanager
def ending_signals(handler: Handler) -> Iterator[bool]:
    """Let *handler* have SIGTERM, SIGINT and SIGHUP; yields whether that is possible here.

    It is in the main thread only.  A signal that is ignored (nohup, a job of a shell) stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    numbers = [signal.SIGTERM]
    numbers += [n for n in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield True
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
