"""How each tool is told to do each step: its commands, its environment, what it restores where.

Settings are those that a user who reads the manual would take; nothing is encrypted where that can
be had. Each tool has a folder of its own with the repository, its cache and its home.
"""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from benchmark.measure import Command, Failure

SOURCE = "source"
"""What a source is called in repositories that want a name for it."""


class Tool(ABC):
    """One tool and its folder *place*, which is new and empty; *program* is an absolute path."""

    name: str
    precision_ns = 1
    """To what times of modification are kept."""
    gap = 0.0
    """Seconds that must lie between two backups."""

    def __init__(self, program: Path, place: Path) -> None:
        self.program, self.place = program, place
        self.repository, self.cache = place / "repository", place / "cache"
        self.address = str(self.repository)
        """What its commands call the repository: of one on another machine, that alone counts."""
        self.more: dict[str, str] = {}
        """What its environment holds besides."""
        self.taken = 0

    def environment(self) -> dict[str, str]:
        """Return the environment of its commands; everything goes into its folder."""
        home, scratch = self.place / "home", self.place / "tmp"
        for folder in (self.cache, home, scratch):
            folder.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(home),
            "TMPDIR": str(scratch), "XDG_CACHE_HOME": str(self.cache), **self.more,
        }  # fmt: skip

    def version(self) -> str:
        """Return its version, as it tells it. Raises Failure."""
        words = [str(self.program), *self.version_words()]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failure(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip().splitlines()[0]

    def version_words(self) -> Sequence[str]:
        """Return what makes the program tell its version."""
        return ("--version",)

    def create(self) -> list[Command]:
        """Return what makes the repository."""
        return []

    @abstractmethod
    def backup(self, source: Path) -> list[Command]:
        """Return what backs up the folder *source*; nothing if the tool has no such step."""

    @abstractmethod
    def restore(self, source: Path, destination: Path) -> list[Command]:
        """Return what restores the newest backup to *destination*, which does not exist yet."""

    def restored(self, source: Path, destination: Path) -> Path:
        """Return where the restored source lies."""
        return destination


class Ibtfs(Tool):
    """ibtfs as it is installed."""

    name = "ibtfs"

    def backup(self, source: Path) -> list[Command]:
        return [Command([self.program, "backup", source, self.address])]

    def restore(self, source: Path, destination: Path) -> list[Command]:
        return [Command([self.program, "restore", self.address, "latest", destination])]


class Restic(Tool):
    """restic, with the compression that it has by itself; it always encrypts."""

    name = "restic"

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(), "RESTIC_PASSWORD": "benchmark",
            "RESTIC_REPOSITORY": self.address, "RESTIC_CACHE_DIR": str(self.cache),
        }  # fmt: skip

    def version_words(self) -> Sequence[str]:
        return ("version",)

    def create(self) -> list[Command]:
        return [Command([self.program, "init"])]

    def backup(self, source: Path) -> list[Command]:
        return [Command([self.program, "backup", "-q", source])]

    def restore(self, source: Path, destination: Path) -> list[Command]:
        return [Command([self.program, "restore", "-q", "latest", "--target", destination])]

    def restored(self, source: Path, destination: Path) -> Path:
        return destination / source.relative_to("/")


class Borg(Tool):
    """BorgBackup without encryption, with a compression like that of the others."""

    name = "borg"

    def environment(self) -> dict[str, str]:
        folders = {f"BORG_{kind}_DIR": str(self.place / kind.lower())
                   for kind in ("CACHE", "CONFIG", "SECURITY")}  # fmt: skip
        return {
            **super().environment(), **folders, "BORG_REPO": str(self.repository),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }  # fmt: skip

    def create(self) -> list[Command]:
        return [Command([self.program, "init", "--encryption", "none"])]

    def backup(self, source: Path) -> list[Command]:
        self.taken += 1
        words = ["create", "--compression", "zstd,1", f"::point-{self.taken}", source.name]
        return [Command([self.program, *words], source.parent)]

    def restore(self, source: Path, destination: Path) -> list[Command]:
        destination.mkdir()
        words = ["extract", "--sparse", f"::point-{self.taken}"]
        return [Command([self.program, *words], destination)]

    def restored(self, source: Path, destination: Path) -> Path:
        return destination / source.name


class Bup(Tool):
    """bup; its index of the source counts as a cache, and the time for it as backup."""

    name = "bup"

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "BUP_DIR": str(self.repository)}

    def create(self) -> list[Command]:
        return [Command([self.program, "init"])]

    def backup(self, source: Path) -> list[Command]:
        index = ("-f", self.cache / "index")
        return [
            Command([self.program, "index", *index, source]),
            Command([self.program, "save", "-q", *index, "-n", SOURCE, "--strip", source]),
        ]

    def restore(self, source: Path, destination: Path) -> list[Command]:
        point = f"/{SOURCE}/latest/."
        return [Command([self.program, "restore", "-q", "--sparse", "-C", destination, point])]


class RdiffBackup(Tool):
    """rdiff-backup, which keeps whole seconds of times, and names points by them."""

    name = "rdiff-backup"
    precision_ns = 10**9
    gap = 1.2

    def backup(self, source: Path) -> list[Command]:
        return [Command([self.program, "backup", source, self.repository])]

    def restore(self, source: Path, destination: Path) -> list[Command]:
        return [Command([self.program, "restore", self.repository, destination])]


class Native(Tool):
    """What the system's own programs take: tar and zstd, cp -a. The floor, not a peer."""

    name = "native"

    def version(self) -> str:
        return "tar | zstd -1, cp -a"

    def backup(self, source: Path) -> list[Command]:
        if self.taken:
            return []  # it cannot do increments
        self.taken += 1
        self.repository.mkdir()
        line = f"tar -C '{source}' -S -c . | zstd -q -1 -o '{self.repository}/source.tar.zst'"
        return [Command(["sh", "-c", line])]

    def restore(self, source: Path, destination: Path) -> list[Command]:
        return [Command(["cp", "-a", source, destination])]


TOOLS: dict[str, type[Tool]] = {
    tool.name: tool for tool in (Ibtfs, Restic, Borg, Bup, RdiffBackup, Native)
}
PEERS = tuple(name for name in TOOLS if name not in ("ibtfs", "native"))
