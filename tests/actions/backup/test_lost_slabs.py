"""Digests of slabs that are gone: no damage, and made again from what is stored."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ibtfs.actions.check import check
from ibtfs.format.compression import Codec
from ibtfs.format.frames import SLABS
from ibtfs.format.index import Reference
from ibtfs.store import layout
from ibtfs.store.archives import writer as archive_writer
from ibtfs.store.archives.rewriter import FileRewriter
from ibtfs.store.contents.slabs import load_slabs
from ibtfs.store.repository import Repository
from tests.support import snapshot
from tests.support.faking import Patch
from tests.support.repositories import (
    Backup,
    Recorder,
    assert_comes_back,
    on_disk,
    reopened,
    row,
    the_point,
)

SIZE = 8_400_000


def without_records(repository: Repository, archive: str) -> None:
    """The next generation of the sigs of *archive*, as a prune that kept none would write it."""
    name = layout.archive_object(archive, layout.SIGS)
    old = repository.archive(archive).file(layout.SIGS)
    with FileRewriter(repository.storage, repository.keys, name, old, Codec()) as file:
        file.keep_records(SLABS, b"")
        file.finish()
    repository.storage.delete(old.name)


def without_file(repository: Repository, archive: str) -> None:
    os.unlink(on_disk(repository.storage, layout.archive_file(archive, layout.SIGS, 1)))


def change(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"x" * 100)


@pytest.mark.damaged  # a file that is missing is told, though nothing is lost by it
@pytest.mark.parametrize("lose", [without_records, without_file])
def test_lost_digests_of_slabs_are_made_again(
    lose: Callable[[Repository, str], None], source: Path, repository: Repository,
    backup_of: Backup, monkeypatch: Patch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(archive_writer, "INSIDE_INDEX", 100)
    large = source / "large"
    large.write_bytes(random.Random(1).randbytes(SIZE))
    first = the_point(backup_of(source))
    opened = reopened(repository)
    lost = row(opened, first, b"large").content
    assert lost is not None
    lose(opened, lost.archive)
    heard = Recorder()
    found = check(reopened(repository), read_data=True, observer=heard)
    assert not [damage for damage in found.damages if damage.paths]
    assert [note for note in heard.notes if "1 contents" in note]
    assert reopened(repository).damage.contents() == frozenset()
    for offset in (1_000_000, 5_000_000):
        change(large, offset)
        result = backup_of(source)
        assert result.tally.counts["bytes_added"] < 200_000
        point = the_point(result)
        assert_comes_back(repository, point, snapshot(source), tmp_path)
        assert_has_all_slabs(repository, row(repository, point, b"large").content)


def assert_has_all_slabs(repository: Repository, ref: Reference | None) -> None:
    """What was made again is kept: the next one need not read all of the file again."""
    assert ref is not None
    opened = reopened(repository)
    record = opened.archive(ref.archive).content(ref.number)
    assert record.base is not None
    assert len(load_slabs(opened, record, ref.archive)) == (SIZE + 65535) // 65536
