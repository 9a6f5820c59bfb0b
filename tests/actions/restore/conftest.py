"""Disks that tests of restores need: a real file system in a file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Disk = Callable[..., Path]


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Disk]:
    """A function that mounts a new ext4, made with the words given; how large, in bytes."""
    assert os.geteuid() == 0, "only root can mount a disk: run the suite as root"
    mounted: list[Path] = []

    def make(*words: str, size: int = 16 << 20) -> Path:
        place = tmp_path / f"disk-{len(mounted)}"
        place.mkdir()
        image = place.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", *words, image], check=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", place], check=True)
