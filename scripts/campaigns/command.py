"""The real command, run as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import CHECKOUT


class Failure(Exception):
    """A command failed, or did something else than it says."""


class Ibtfs:
    """The command *program*, or by default this checkout's by the Python that runs this."""

    def __init__(self, program: Path | None = None) -> None:
        self._words = [str(program)] if program else [sys.executable, "-m", "ibtfs"]
        own = {} if program else {"PYTHONPATH": str(CHECKOUT)}
        self._environment = {**os.environ, **own}

    def run(self, *arguments: str | Path) -> str:
        """Return what the command prints. Raises Failure if it does not end with 0."""
        line = [*self._words, *map(str, arguments)]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            # files, not pipes: a mount in the background could hold a pipe open
            done = subprocess.run(line, stdout=out, stderr=err, env=self._environment, check=False)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        printed, told = texts
        if done.returncode != 0:
            said = (told or printed)[-2000:]
            raise Failure(f"{' '.join(line)}: exit code {done.returncode}: {said}")
        return printed

    def points(self, *arguments: str | Path) -> list[dict[str, str]]:
        """Return the points that the command's JSON tells of."""
        printed = self.run(*arguments, "--json")
        try:
            return [{key: point[key] for key in ("id", "name", "source")}
                    for point in json.loads(printed)["points"]]  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise Failure(f"{arguments[0]} --json printed {printed[:500]!r}") from error

    @contextmanager
    def mounted(self, repository: Path, mountpoint: Path) -> Iterator[None]:
        """*repository* mounted on *mountpoint*, by a mount in the background."""
        self.run("mount", repository, mountpoint)
        try:
            if not os.path.ismount(mountpoint):
                raise Failure("mount returned, and nothing is mounted")
            yield
        finally:
            self.run("umount", mountpoint)
        if os.path.ismount(mountpoint):
            raise Failure("umount returned, and the mount is still there")
