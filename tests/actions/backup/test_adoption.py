"""What a run that died leaves to the next."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.backup import entry as store_file
from ibtfs.actions.source.chunks import Chunk, FileSource
from ibtfs.errors import RepositoryError
from ibtfs.format.config import Config, encode_config
from ibtfs.format.entry import NAME, Stamp
from ibtfs.store.repository import Repository
from ibtfs.store.writing import run as run_writer
from tests.support import snapshot
from tests.support.faking import Patch
from tests.support.repositories import assert_comes_back, back_up, reopened, the_point

MIB = 1 << 20


class Died(BaseException):
    pass


def dying(monkeypatch: Patch, source: Path, repository: Repository) -> None:
    with pytest.raises(Died):
        back_up(repository, source)
    monkeypatch.undo()
    opened = reopened(repository)
    assert opened.points.ids() == []
    assert len(opened.archive_ids()) > 2
    assert os.listdir(os.path.join(repository.path, b"locks")) == []


def test_a_run_that_died_is_adopted_by_the_next(
    source: Path, repository: Repository, monkeypatch: Patch, tmp_path: Path
) -> None:
    for number in range(20):
        (source / f"{number:02}").write_bytes(random.Random(number).randbytes(300_000))
    store = store_file.FileStorer.store

    def store_or_die(self: Any, stamp: Stamp, *rest: Any) -> Any:
        if stamp[NAME] == b"17":
            raise Died
        return store(self, stamp, *rest)

    monkeypatch.setattr(run_writer, "ARCHIVE_BYTES", MIB)
    monkeypatch.setattr(store_file.FileStorer, "store", store_or_die)
    dying(monkeypatch, source, repository)
    result = back_up(repository, source)
    assert result.tally.counts["bytes_added"] <= 6 * 300_000
    assert_comes_back(repository, the_point(result), snapshot(source), tmp_path)


@pytest.mark.parametrize("change", [False, True])
def test_the_parts_of_a_large_file_are_adopted(
    change: bool, source: Path, repository: Repository, monkeypatch: Patch, tmp_path: Path
) -> None:
    (source / "image").write_bytes(random.Random(1).randbytes(16 * MIB))
    chunk = FileSource.chunk

    def read_or_die(self: FileSource, position: int) -> Chunk:
        if position >= 13 * MIB:
            raise Died
        return chunk(self, position)

    monkeypatch.setattr(run_writer, "ARCHIVE_BYTES", 2 * MIB)
    monkeypatch.setattr(FileSource, "chunk", read_or_die)
    dying(monkeypatch, source, repository)
    if change:
        with (source / "image").open("r+b") as file:
            file.seek(7 * MIB + 77)
            file.write(b"changed")
    result = back_up(repository, source)
    assert result.tally.counts["bytes_added"] <= 6 * MIB
    assert_comes_back(repository, the_point(result), snapshot(source), tmp_path)


def test_an_archive_without_its_data_is_not_built_upon(
    source: Path, repository: Repository, tmp_path: Path
) -> None:
    """An index may come late, when the data were swept; each run would fail at its commit."""
    (source / "file").write_bytes(random.Random(1).randbytes(300_000))
    first = the_point(back_up(repository, source))
    (archive,) = reopened(repository).archive_ids()
    repository.storage.delete(f"points/{first.id}")
    repository.storage.delete(f"archives/{archive}/data.1")
    again = the_point(back_up(repository, source))
    assert_comes_back(repository, again, snapshot(source), tmp_path)
    repository.remove(archive)  # what is left of it is damage, and not this run's


def test_another_repository_in_the_place_of_this_one_gets_no_point(
    source: Path, repository: Repository, monkeypatch: Patch
) -> None:
    """Two may have made one there at once, and the later configuration counts."""
    back_up(repository, source)
    (source / "new").write_bytes(b"new")
    settle = run_writer.RunWriter.settle
    config = Path(os.fsdecode(repository.path)) / "ibtfs.json"
    mine = config.read_bytes()

    def replaced(writer: run_writer.RunWriter) -> None:
        settle(writer)
        config.write_bytes(encode_config(Config(os.urandom(16))))

    monkeypatch.setattr(run_writer.RunWriter, "settle", replaced)
    with pytest.raises(RepositoryError, match="is another repository by now"):
        back_up(repository, source)
    config.write_bytes(mine)
    assert len(reopened(repository).points.ids()) == 1
