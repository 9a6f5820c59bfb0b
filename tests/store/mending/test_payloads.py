"""What of a payload is wanted, and what of that is not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.format.frames import CONTENTS, SMALL
from ibtfs.store.mending.payloads import _cut, _without, mend_payloads
from ibtfs.store.removal.rebase import joined
from ibtfs.store.repository import Repository
from tests.support.repositories import Backup, on_disk, reopened, the_point

RANGES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 8)).map(lambda r: (r[0], sum(r))), max_size=6
).map(joined)


def addresses(ranges: list[tuple[int, int]]) -> list[int]:
    return [address for start, end in ranges for address in range(start, end)]


@given(RANGES, st.integers(0, 45), st.integers(1, 20))
def test_what_lies_between_two_addresses(
    ranges: list[tuple[int, int]], start: int, length: int
) -> None:
    found = _cut(ranges, start, start + length)
    assert all(low < high for low, high in found)
    inside = range(start, start + length)
    assert addresses(found) == [one for one in addresses(ranges) if one in inside]


@given(RANGES, RANGES)
def test_what_is_lacking_is_what_is_not_held(
    ranges: list[tuple[int, int]], held: list[tuple[int, int]]
) -> None:
    found = _without(ranges, [(low, bytes(high - low)) for low, high in held])
    assert all(low < high for low, high in found)
    there = set(addresses(held))
    assert addresses(found) == [one for one in addresses(ranges) if one not in there]


class Source:
    """Has all bytes of a stream."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def give(self, _: int, start: int, end: int) -> list[tuple[int, bytes]]:
        return [(start, self._data[start:end])] if start < len(self._data) else []


@pytest.mark.parametrize("size", [300, 50_000])
def test_what_is_put_back_leaves_all_else_of_its_file_as_it_was(
    tmp_path: Path, repository: Repository, backup_of: Backup, size: int
) -> None:
    """Small payloads lie in the index, beside its records."""
    (tmp_path / "source").mkdir()
    for name in "ab":
        (tmp_path / "source" / name).write_bytes(os.urandom(size))
    archive = the_point(backup_of(tmp_path / "source")).state.archive
    reader = reopened(repository).archive(archive)
    kind = "data" if reader.header.has_data else "index"
    assert kind == ("index" if size == 300 else "data")
    data = b"".join(reader.payload(SMALL, 0, 2 * size))
    place = reader.file(kind).table(SMALL).offsets[0] + 40
    with open(on_disk(repository.storage, f"archives/{archive}/{kind}.1"), "r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))
    damaged = reopened(repository)
    assert mend_payloads(damaged, archive, Source(data), lambda: None) == 2 * size
    mended = reopened(repository).archive(archive)
    assert b"".join(mended.payload(SMALL, 0, 2 * size)) == data
    assert mended.file(kind).generation == 2
    assert mend_payloads(reopened(repository), archive, Source(data), lambda: None) == 0


@pytest.mark.damaged
def test_where_records_cannot_be_read_frames_are_put_back_that_cannot(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    """What the records need of the others is not known, and they are whole."""
    (tmp_path / "source").mkdir()
    for name in "ab":
        (tmp_path / "source" / name).write_bytes(os.urandom(50_000))
    archive = the_point(backup_of(tmp_path / "source")).state.archive
    reader = reopened(repository).archive(archive)
    data = b"".join(reader.payload(SMALL, 0, 100_000))
    for kind, stream in (("index", CONTENTS), ("data", SMALL)):
        place = reader.file(kind).table(stream).offsets[0] + 40
        assert mend_payloads(reopened(repository), archive, Source(data), lambda: None) == 0
        with open(on_disk(repository.storage, f"archives/{archive}/{kind}.1"), "r+b") as file:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
    assert mend_payloads(reopened(repository), archive, Source(data), lambda: None) == 100_000
    mended = reopened(repository).archive(archive)
    assert b"".join(mended.payload(SMALL, 0, 100_000)) == data
    os.unlink(on_disk(repository.storage, f"archives/{archive}/data.2"))
    assert mend_payloads(reopened(repository), archive, Source(data), lambda: None) == 0
