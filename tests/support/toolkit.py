"""What the tests of the building blocks share."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from ibtfs.actions.source.filesystems import GRANULARITY_NS
from ibtfs.toolkit import DiffIndex, DirIndex, SigVault
from tests.support import differences, snapshot

MIB = 1 << 20
NOT_KEPT = ("xattrs", "nlink", "links")
"""What a diff does not know; the docstring of the package says so."""


def settle() -> None:
    """Wait until what was changed last is older than the file system's granularity."""
    time.sleep(GRANULARITY_NS / 1e9 + 0.03)


def copy(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", "--", source, target], check=True)
    return target


def stored(index: DirIndex) -> DirIndex:
    return DirIndex.from_bytes(index.to_bytes())


def vault_of(file: Path, index: DirIndex) -> Path:
    with SigVault.create(file, index) as vault:
        vault.add_all(index.files)
    return file


def changes(diff: DiffIndex) -> dict[str, object]:
    """What a diff says, without what is empty; touched left out."""
    names = ("created", "updated", "deleted", "created_dirs", "deleted_dirs", "moved")
    found = {name: getattr(diff, name) for name in names}
    return {name: value for name, value in found.items() if value}


def same_trees(one: Path, other: Path) -> list[str]:
    return differences(snapshot(one), snapshot(other), ignore=NOT_KEPT)


def bytes_of(root: Path) -> dict[bytes, bytes]:
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[os.fsencode(path.relative_to(root))] = path.read_bytes()
    return found
