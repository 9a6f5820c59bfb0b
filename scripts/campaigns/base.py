"""What a campaign is, and the folder that it works in."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from screen import say


class Campaign(Protocol):
    """A module of this package; its docstring is the help."""

    __doc__: str | None

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of this campaign to *parser*."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it all.  The exit code: 0, 1 if anything was wrong, 2 if it cannot be done here."""


def add_jobs(parser: argparse.ArgumentParser, jobs: Iterable[str], every: str) -> None:
    """Add the options of a campaign that does *jobs*; *every* is the help of ``--every N``."""
    names = list(jobs)
    told = f"only this one, of: {'; '.join(names)}"
    parser.add_argument("--command", action="append", choices=names, metavar="NAME", help=told)
    parser.add_argument("--every", type=int, default=1, help=every)
    parser.add_argument("--seed", type=int, default=1, help="of all that is random [1]")
    parser.add_argument("--work", help="folder to work in, best in memory [/dev/shm]")


@contextmanager
def until_stopped() -> Iterator[None]:
    """What is done in it may be ended by Ctrl-C (SIGINT): then what was counted by then is told."""
    try:
        yield
    except KeyboardInterrupt:
        say("Stopped; what was done by then:")


@contextmanager
def working_folder(name: str, parent: Path | str | None) -> Iterator[Path]:
    """A new folder in *parent* (by default where temporary files go), removed at the end."""
    path = Path(tempfile.mkdtemp(prefix=f"ibtfs-{name}-", dir=parent)).resolve()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
