"""Source releases from PyPI, downloaded once by pip and kept in a folder."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmark.measure import Failure

AT_ONCE = 4
DJANGO = tuple(f"Django==4.2.{number}" for number in range(1, 13))
FILLING = (
    "ansible==9.5.1", "sympy==1.12", "Django==5.0.6", "Django==3.2.25", "Django==2.2.28",
    "Twisted==22.10.0", "Sphinx==7.1.2", "SQLAlchemy==1.4.52", "mypy==1.9.0", "salt==3006.8",
)  # fmt: skip
"""Packages with many files, for machines that have too few of their own."""


class Releases:
    """Source releases, kept in *folder*; *python* has pip, setuptools and wheel."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python

    def fetch(self, requirements: Sequence[str]) -> None:
        """Download those that are not here yet. Raises Failure."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._fetch, requirements))

    def unpack(self, requirement: str, destination: Path) -> None:
        """Make the new folder *destination* what the release holds."""
        self.fetch([requirement])
        with tempfile.TemporaryDirectory(dir=destination.parent) as scratch:
            shutil.unpack_archive(next((self.folder / requirement).iterdir()), scratch)
            (top,) = Path(scratch).iterdir()
            top.rename(destination)

    def _fetch(self, requirement: str) -> None:
        if (self.folder / requirement).exists():
            return
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            got = Path(scratch, "got")
            # without isolation: nothing is built, and the tools to do so need not come each time
            command = [str(self.python), "-m", "pip", "download", "-q", "--no-deps",
                       "--no-binary=:all:", "--no-build-isolation", "--dest", str(got),
                       requirement]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0 or not any(got.iterdir()):
                raise Failure(f"{requirement} cannot be had from PyPI: {done.stderr.strip()}")
            got.rename(self.folder / requirement)
