"""Whether a content can be given back, by all of its bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.format.index import Reference
from ibtfs.store.mending import sound
from ibtfs.store.mending.sound import is_sound
from ibtfs.store.repository import Repository
from tests.support.repositories import Backup, reopened, the_point


@pytest.mark.damaged
def test_a_content_is_sound_until_a_byte_of_it_changed(
    tmp_path: Path, repository: Repository, backup_of: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "PIECE", 70_000)
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_bytes(os.urandom(200_000))
    archive = the_point(backup_of(source)).state.archive
    beats: list[None] = []

    def found() -> list[bool]:
        opened = reopened(repository)
        numbers = range(opened.archive(archive).header.contents)
        return [is_sound(opened, Reference(archive, n), lambda: beats.append(None))
                for n in numbers]  # fmt: skip

    assert found() == [True, True]
    assert len(beats) == 6
    path = Path(os.fsdecode(repository.path)) / "archives" / archive / "data.1"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    assert found() == [False, False]  # they share a frame
    path.unlink()
    assert found() == [False, False]
