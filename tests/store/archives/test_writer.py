"""The lanes of an archive that is written: what they hold until a frame is full."""

from __future__ import annotations

import pytest

from ibtfs.format.frames import LARGE
from ibtfs.store.archives.writer import _Lane


def test_small_pieces_do_not_keep_what_they_were_cut_from() -> None:
    lane = _Lane(LARGE, lambda *_: None)
    for size, copied in ((4096, True), (64 << 10, False)):
        data = bytearray(1 << 20)
        lane.append(memoryview(data)[:size])
        if copied:
            data.clear()  # a view would forbid it
        else:
            with pytest.raises(BufferError):
                data.clear()
    assert lane.held == (4 << 10) + (64 << 10)
