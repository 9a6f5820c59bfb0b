"""Protected repositories: made, damaged as disks and tools do it, healed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ibtfs.actions.observer import Observer
from ibtfs.actions.protect import protect
from ibtfs.actions.repair.run import RepairOptions, RepairResult, repair
from ibtfs.store.protection.healing import Healer
from ibtfs.store.repository import Repository
from tests.support.repositories import HOST, reopened

Damage = Callable[[Path], None]


def protected(repository: Repository, share: int = 10) -> list[str]:
    """Protect *repository*; what could not be."""
    return protect(reopened(repository), share, Observer()).kept.failed


def repaired(repository: Repository, **options: Any) -> RepairResult:
    """Repair by a repository opened anew."""
    return repair(reopened(repository), RepairOptions(**{"host": HOST, **options}), Observer())


def assert_protected(repository: Repository) -> None:
    """All that counts has parity that fits, and there is no other."""
    assert Healer(reopened(repository)).find() == []
    root = Path(os.fsdecode(repository.path))
    names = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    archives = {name for name in names if name.startswith("archives/")}
    files = {name for name in archives if ".parity." not in name}
    assert {name.partition(".parity.")[0] for name in archives - files} == files
    assert len(archives) == 2 * len(files)
    assert len([name for name in names if name.startswith("protection/points.")]) == 1


def files_of(repository: Repository) -> dict[str, bytes]:
    """Every file of a repository, by its name."""
    root = Path(os.fsdecode(repository.path))
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def flips(path: Path) -> None:
    """Some bytes of a file are changed."""
    data = bytearray(path.read_bytes())
    for at in random.Random(7).sample(range(len(data)), 2):
        data[at] ^= 0x55
    path.write_bytes(data)


def zeroed_page(path: Path) -> None:
    """A page, or a tenth of a small file, reads as zeros."""
    data = bytearray(path.read_bytes())
    size = min(4096, len(data) // 12 + 1)
    at = len(data) // 2 // size * size
    data[at : at + size] = bytes(size)
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    """The last twentieth of a file is gone."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 19 // 20)


def appended(path: Path) -> None:
    """Something wrote behind the end."""
    with path.open("ab") as file:
        file.write(b"\n\n\n")


def deleted(path: Path) -> None:
    """A file is gone."""
    path.unlink()


def overwritten(path: Path) -> None:
    """A third of a file is something else."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 3)
        file.write(os.urandom(size // 3))
