"""What check names: every point and path that a damage hit."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer
from ibtfs.format.frames import STATES
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.repository import Repository
from tests.support.repositories import back_up, reopened
from tests.support.trees import make_tree


@pytest.mark.damaged
def test_check_names_every_point_that_lost_a_folder(tmp_path: Path, repository: Repository) -> None:
    source = tmp_path / "source"
    make_tree(source, {"a": {"b": {"c": b"1"}}, "n": b""})
    time.sleep(0.3)  # no longer young: the folders are shared by all points
    for number in range(3):
        (source / "n").write_bytes(b"%d" % number)
        assert back_up(repository, source).point
    first = repository.points.all().points[0]
    assert first.state
    archive = ArchiveReader.file(repository.archive(first.state.archive), "index")
    table = archive.table(STATES)
    path = (
        Path(os.fsdecode(repository.path))
        / "archives"
        / first.state.archive
        / archive.name.rpartition("/")[2]
    )
    data = bytearray(path.read_bytes())
    data[table.offsets[0] + 30] ^= 1
    path.write_bytes(data)
    found = check(reopened(repository), read_data=False, observer=Observer()).damages
    hit = {(point, name) for damage in found for point in damage.points for name in damage.paths}
    assert {point for point, _ in hit} == {point.id for point in repository.points.all().points}
