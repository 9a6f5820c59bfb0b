"""Mounts of the tree that is made up in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.fuse import MountOptions
from tests.support.mounts import Mounted, Mounting


@pytest.fixture
def mounting(tmp_path: Path) -> Iterator[Mounting]:
    done: list[Mounted] = []

    def mount(options: MountOptions) -> Mounted:
        done.append(Mounted(tmp_path, options))
        return done[-1]

    yield mount
    for mounted in done:
        mounted.clean_up()
