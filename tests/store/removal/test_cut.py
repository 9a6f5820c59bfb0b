"""What is freed of a file is measured, not taken for its share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.format.compression import Codec
from ibtfs.format.frames import SMALL
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.removal import payloads_cut
from ibtfs.store.removal.payloads_cut import payloads_freed
from ibtfs.store.repository import Repository
from tests.support.removal import forget
from tests.support.repositories import back_up, create, reopened, the_point


def only_data_file(repository: Repository) -> FrameFileReader:
    (name,) = repository.archive_ids()
    return repository.archive(name).file("data")


def test_bytes_that_take_no_room_free_none(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a-noise").write_bytes(os.urandom(100_000))
    (source / "b-zeros").write_bytes(bytes(100_000))
    repository = create(tmp_path / "repository")
    back_up(repository, source)
    file, codec = only_data_file(repository), Codec()
    noise = payloads_freed(file, {SMALL: [(100_000, 200_000)]}, codec)
    zeros = payloads_freed(file, {SMALL: [(0, 100_000)]}, codec)
    assert noise.lost == zeros.lost == 100_000
    assert noise.freed == pytest.approx(100_000, abs=500)
    assert abs(zeros.freed) < 500
    assert payloads_freed(file, {SMALL: [(0, 200_000)]}, codec) == (0, 0)
    assert payloads_freed(file, {}, codec).lost == 200_000


def test_a_file_is_not_written_anew_to_grow(tmp_path: Path) -> None:
    """What stays was stored as a repetition of what goes."""
    source, other = tmp_path / "source", tmp_path / "other"
    source.mkdir()
    other.mkdir()
    noise = os.urandom(100_000)
    (source / "a").write_bytes(noise)
    (source / "b").write_bytes(noise + b"!")
    repository = create(tmp_path / "repository")
    point = the_point(back_up(repository, source))
    (other / "b").write_bytes(noise + b"!")
    back_up(repository, other)
    name = f"{point.id}.0"
    file = reopened(repository).archive(name).file("data")
    before = file.size
    assert before < 150_000  # the second is a repetition, or a delta
    forget(repository, [point])
    prune(reopened(repository), PruneOptions(), Observer())
    assert reopened(repository).archive(name).file("data").size <= before


def test_many_frames_are_told_by_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(60):
        (source / f"{number:02}").write_bytes(os.urandom(60_000) + bytes(60_000))
    repository = create(tmp_path / "repository")
    back_up(repository, source)
    file, codec = only_data_file(repository), Codec()
    needed = {SMALL: [(at, at + 120_000) for at in range(0, 120_000 * 60, 240_000)]}
    exact = payloads_freed(file, needed, codec)
    monkeypatch.setattr(payloads_cut, "MEASURED", 2)
    some = payloads_freed(file, needed, codec)
    assert len(file.table(SMALL).starts) > 6
    assert some.lost == exact.lost == 30 * 120_000
    assert some.freed == pytest.approx(exact.freed, rel=0.05)
    assert exact.freed == pytest.approx(30 * 60_000, rel=0.02)
