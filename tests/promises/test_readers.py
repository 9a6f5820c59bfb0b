"""Every reader of bytes from outside, with the inputs that ``scripts/campaign fuzz`` has kept.

They came from real repositories, and led somewhere new in the code: nearly all are damaged in some
way that no checksum tells.  Nothing but an error of ours may come out, soon, and in little memory.
"""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from ibtfs.errors import IbtfsError
from tests.support import CHECKOUT
from tests.support.commands import in_process
from tests.support.readers import READERS
from tests.support.readers.corpus import KEPT, kept
from tests.support.readers.seeds import seeds

SECONDS = 5.0
MEMORY = 32 << 20
ALL = kept()


def is_read(name: str, data: bytes) -> bool:
    """Whether it is read to its end; what is not ours is raised."""
    try:
        READERS[name].read(data)
    except IbtfsError:
        return False
    return True


@pytest.mark.parametrize("name", READERS)
def test_kept_inputs(name: str) -> None:
    assert ALL[name]
    tracemalloc.start()
    try:
        for data in ALL[name]:
            before, began = tracemalloc.get_traced_memory()[0], time.process_time()
            tracemalloc.reset_peak()
            is_read(name, data)
            assert time.process_time() - began < SECONDS
            assert tracemalloc.get_traced_memory()[1] - before < MEMORY
    finally:
        tracemalloc.stop()


def test_every_reader_reads_what_ibtfs_writes(tmp_path: Path) -> None:
    """So it is what lies behind the checksums that is tried."""
    read = {name for name, data in seeds(tmp_path) if is_read(name, data)}
    assert read == set(READERS)


def test_what_claims_to_be_huge_is_damage_in_little_memory(fast_path: Path) -> None:
    """A process that may have 256 MiB in addition: nothing is taken before it is known to be true.

    So a lack of memory is never a matter of what is stored, and is not told as damage of it.
    """
    done = in_process(
        [sys.executable, "-m", "tests.support.readers.lengths"], fast_path, cwd=CHECKOUT
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["failed"] == {}
    assert told["tried"] > 3000


def test_what_is_kept_is_small_and_of_readers_that_are() -> None:
    assert set(ALL) == set(READERS)
    assert KEPT.stat().st_size < 300_000
