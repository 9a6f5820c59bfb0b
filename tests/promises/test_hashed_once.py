"""What has to be hashed: each byte of a content once, and a hole not at all, whatever its size."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from ibtfs.actions.repair.source import known_from_source
from ibtfs.format import digests
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.mending.records import lead_to, store_anew
from ibtfs.store.repository import Repository
from tests.support.protecting import repaired
from tests.support.removal import stored_bytes
from tests.support.repositories import (
    HOST,
    back_up,
    damages,
    reopened,
    restored,
    row,
    settle,
    the_point,
)

MIB = 1 << 20
TIB = 1 << 40
HOLE = 64 << 30  # of this, repair makes a record for each slab


class Counted:
    """BLAKE3 as the digests of contents have it, the bytes that it is given counted."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, data: Any, **options: Any) -> Any:
        self.bytes += memoryview(data).nbytes
        return blake3(data, **options)

    def since(self) -> int:
        """How many since the last call."""
        found, self.bytes = self.bytes, 0
        return found


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(digests, "blake3", counted)
    return counted


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_each_byte_once(
    repository: Repository, source: Path, hashed: Counted, tmp_path: Path
) -> None:
    size = 9 * MIB + 5
    (source / "large").write_bytes(random.Random(1).randbytes(size))
    settle()
    first = the_point(back_up(repository, source))
    assert size <= hashed.since() < 1.01 * size
    assert restored(repository, first, tmp_path / "back").problems == []
    assert size <= hashed.since() < 1.01 * size
    assert damages(repository) == []
    assert size <= hashed.since() < 1.01 * size
    with (source / "large").open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"changed")
    back_up(reopened(repository), source)
    assert size <= hashed.since() < 1.05 * size


def test_a_hole_of_a_tebibyte_is_not_looked_at(
    repository: Repository, source: Path, hashed: Counted, tmp_path: Path
) -> None:
    with (source / "image").open("wb") as file:
        file.write(b"begin")
        file.seek(TIB // 3 + 12345)
        file.write(b"middle")
        file.truncate(TIB + 7)
    settle()
    point = the_point(back_up(repository, source))
    assert hashed.since() < 8 * MIB
    assert damages(repository) == []
    assert hashed.since() < 8 * MIB
    assert restored(repository, point, tmp_path / "back").problems == []
    assert hashed.since() < 8 * MIB
    back = tmp_path / "back/image"
    assert back.stat().st_size == TIB + 7
    assert back.stat().st_blocks < 1000
    with back.open("rb") as file:
        assert file.read(6) == b"begin\0"
        assert os.pread(file.fileno(), 8, TIB // 3 + 12344) == b"\0middle\0"


@pytest.mark.damaged
def test_repair_leaves_the_holes_of_the_source_alone(
    repository: Repository, source: Path, hashed: Counted, tmp_path: Path
) -> None:
    with (source / "image").open("wb") as file:
        file.write(random.Random(1).randbytes(300_000))
        file.seek(HOLE // 3)
        file.write(b"middle")
        file.truncate(HOLE)
    settle()
    point = the_point(back_up(repository, source))
    data = next(Path(os.fsdecode(repository.path)).glob("archives/*/data.1"))
    stored = bytearray(data.read_bytes())
    stored[500] ^= 1
    data.write_bytes(stored)
    assert damages(repository) != []
    hashed.since()
    result = repaired(repository)
    assert result.healed
    assert hashed.since() < 16 * MIB
    assert damages(repository) == []
    assert restored(reopened(repository), point, tmp_path / "back").problems == []
    back = tmp_path / "back/image"
    assert back.stat().st_blocks < 4000
    with back.open("rb") as file, (source / "image").open("rb") as there:
        assert file.read(400_000) == there.read(400_000)
        assert os.pread(file.fileno(), 8, HOLE // 3 - 1) == b"\0middle\0"


@pytest.mark.damaged
def test_a_sparse_content_whose_records_are_needed_is_stored_anew_with_its_holes(
    repository: Repository, source: Path, tmp_path: Path
) -> None:
    with (source / "image").open("wb") as file:
        file.write(random.Random(1).randbytes(300_000))
        file.seek(TIB // 3)
        file.write(random.Random(2).randbytes(3 * MIB))
        file.truncate(TIB)
    settle()
    point = the_point(back_up(repository, source))
    wanted = row(repository, point, b"image").content
    assert wanted is not None
    known = known_from_source(reopened(repository), [wanted], HOST, lambda: None)
    with compression_pool() as pool:
        stored = store_anew(reopened(repository), "20200101T000000Z_x_0123456789.0", known, pool)
    lead_to(reopened(repository), stored)
    assert damages(repository) == []
    assert stored_bytes(repository) < 20 * MIB
    assert restored(reopened(repository), point, tmp_path / "back").problems == []
    with (tmp_path / "back/image").open("rb") as file:
        assert os.pread(file.fileno(), 3 * MIB, TIB // 3) == random.Random(2).randbytes(3 * MIB)
