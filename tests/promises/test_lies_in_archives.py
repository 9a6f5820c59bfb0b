"""Archives in which a machine that only writes lies: they cost it its own points, nobody time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.format.compression import Codec
from ibtfs.format.frames import HEADER
from ibtfs.format.index import IndexHeader
from ibtfs.format.packing import pack_bodies
from ibtfs.sealing.writers import WriterKeys
from ibtfs.store.archives.file import FrameFileWriter
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.storage.local import LocalStorage
from tests.promises.test_forgeries import begun, machine, owners, place, pruned, put_point, source
from tests.support.repositories import damages, restored, the_point
from tests.support.sealing import open_sealed
from tests.support.writers import Machine

__all__ = ["machine", "place", "source"]


def put_header(place: Path, keys: WriterKeys, header: IndexHeader) -> None:
    """An index that has its *header*, and nothing else."""
    storage, name = LocalStorage(os.fsencode(place)), f"archives/{header.archives[0]}/index"
    with compression_pool() as pool:
        writer = FrameFileWriter(storage, keys, name, Codec(1), pool)
        writer.add(HEADER, 0, 1, pack_bodies([header.encode()]))
        writer.finish()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_archives_that_lead_to_each_other(
    place: Path, source: Path, machine: Machine, size: int
) -> None:
    """Nothing is put in order by them, and the rest is pruned."""
    gone, kept = owners(place, source), the_point(machine.back_up(source))
    runs = [begun(machine) for _ in range(size)]
    for number, (keys, run) in enumerate(runs):
        other = runs[(number + 1) % size][1]
        header = IndexHeader((f"{run}.0", f"{other}.0"), 0, 0, 0, False, False)
        put_header(place, keys, header)
        if not number:
            state = kept.state._replace(archive=f"{run}.0")
            put_point(place, keys, run, kept, sequence=kept.sequence + 1, state=state)
    open_sealed(place).points.remove(gone.id)
    result = pruned(place)
    assert not result.failed
    assert any("refer to each other" in told for told in result.damages)
    assert not (place / "archives" / gone.state.archive).exists()
    restored(open_sealed(place), kept, place.parent / "back")
    assert damages(open_sealed(place))
