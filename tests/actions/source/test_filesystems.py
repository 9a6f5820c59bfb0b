"""What is known of file systems: how coarse their times are."""

from __future__ import annotations

import os

import pytest

from ibtfs.actions.source.filesystems import COARSE_GRANULARITY_NS, GRANULARITY_NS, FileSystems


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_full_seconds_may_hide_a_change(kind: str) -> None:
    device = os.makedev(7, 1)
    systems = FileSystems(b"1 1 7:1 / / rw - %b /dev/x rw\n" % kind.encode())
    assert systems.granularity_ns(device, 5_000_000_000) == COARSE_GRANULARITY_NS
    assert systems.granularity_ns(device, 5_000_000_001) == GRANULARITY_NS
