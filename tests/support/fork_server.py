"""A process that has imported all of ibtfs, and forks for each command; `forking` asks it to."""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import ibtfs
from tests.support.forking import LARGEST


def import_all() -> None:
    """Import what commands import, and what they import when they need it."""
    for found in pkgutil.walk_packages(ibtfs.__path__, "ibtfs."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    for name in ("_strptime", "difflib", "logging.handlers", "sqlite3", "traceback"):
        importlib.import_module(name)


def run_to_its_end(work: Callable[[], object]) -> None:
    """Do *work*, and end as Python does, but for taking apart all that was imported.

    That would take longer than many a command, for each page of it is copied then.
    """
    code: object = 0
    try:
        work()
    except SystemExit as end:
        code = end.code or 0
    if not isinstance(code, int):
        raise SystemExit(code)
    ends: Any = threading, atexit
    ends[0]._shutdown()
    ends[1]._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code & 0xFF)


def become(words: list[str], place: str, environment: dict[str, str], said: int, gate: int) -> Any:
    """Be the process that runs *words*: what is left is its end.

    It complains to *said*, and begins when *gate* is shut.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, descriptor in enumerate((nothing, nothing, said)):
        os.dup2(descriptor, number)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    os.read(gate, 1)
    for descriptor in (nothing, said, gate):
        os.close(descriptor)
    kind, program, *rest = words
    sys.argv = [kind, *rest]
    if kind == "-c":
        run_to_its_end(lambda: exec(compile(program, "<string>", "exec"), {"__name__": "__main__"}))
    from ibtfs.cli.main import main

    run_to_its_end(main)


def serve(asked: socket.socket) -> None:
    """Fork for each request, one after the other; tell who was made, and how he ended."""
    while True:
        message, descriptors, *_ = socket.recv_fds(asked, LARGEST, 2)
        if not message:
            return
        process = os.fork()
        if not process:
            break
        for descriptor in descriptors:
            os.close(descriptor)
        asked.send(b"%d" % process)
        _, status = os.waitpid(process, 0)
        asked.send(b"%d" % os.waitstatus_to_exitcode(status))
    asked.close()
    become(*json.loads(message), *descriptors)


if __name__ == "__main__":
    import_all()
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
