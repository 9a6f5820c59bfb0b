"""What has to be hashed: each byte of a content once, and a hole not at all, whatever its size."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from ibtfs.format import digests
from ibtfs.store.repository import Repository
from tests.support.repositories import back_up, damages, reopened, restored, settle, the_point

MIB = 1 << 20
TIB = 1 << 40


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
