"""Where a mount in the background says what is wrong: nobody reads its standard error."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from logging.handlers import SysLogHandler

SYSTEM_LOG = "/dev/log"

Work = Callable[[Callable[[], None]], None]


def logging_work(work: Work, path: bytes | None) -> Work:
    """*work*, whose messages go to the file *path* once it is ready; None: to the system's log.

    Raises OSError when *path* cannot be written.
    """
    handler = _handler(path)

    def logged(on_ready: Callable[[], None]) -> None:
        def ready() -> None:
            on_ready()
            if handler is not None:
                logging.basicConfig(handlers=[handler], level=logging.root.level, force=True)

        work(ready)

    return logged


def _handler(path: bytes | None) -> logging.Handler | None:
    if path is not None:
        # it names files of folders that are closed to others
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        to_file = logging.FileHandler(os.fsdecode(path), errors="backslashreplace")
        to_file.setFormatter(logging.Formatter("%(asctime)s ibtfs[%(process)d]: %(message)s"))
        return to_file
    try:
        to_system = SysLogHandler(SYSTEM_LOG, facility=SysLogHandler.LOG_DAEMON)
    except OSError:  # there is none
        return None
    to_system.setFormatter(logging.Formatter("ibtfs[%(process)d]: %(message)s"))
    return to_system
