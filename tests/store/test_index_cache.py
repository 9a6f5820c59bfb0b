"""Indexes in the local cache: there only as they were put, and bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.store import index_cache
from ibtfs.store.index_cache import IndexCache, discard_indexes

REPOSITORY = b"i" * 16
NAMES = [f"archives/20260101T00000{n}Z_host_0123456789.0/index.1" for n in range(9)]
TOKEN = (1000, 5, 6, 7)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def cache(tmp_path: Path) -> IndexCache:
    return IndexCache(os.fsencode(tmp_path), REPOSITORY)


def test_what_was_put_is_there(cache: IndexCache, tmp_path: Path) -> None:
    data = os.urandom(1000)
    assert cache.get(NAMES[0], TOKEN) is None
    assert not cache.has(NAMES[0], TOKEN)
    cache.put(NAMES[0], TOKEN, data)
    again = IndexCache(os.fsencode(tmp_path), REPOSITORY)
    assert again.get(NAMES[0], TOKEN) == data
    assert again.has(NAMES[0], TOKEN)
    assert [path.stat().st_mode & 0o777 for path in files(tmp_path)] == [0o600]


def test_it_is_of_one_object_alone(cache: IndexCache, tmp_path: Path) -> None:
    cache.put(NAMES[0], TOKEN, b"data")
    for number in range(4):
        other = tuple(value + (place == number) for place, value in enumerate(TOKEN))
        assert cache.get(NAMES[0], other) is None  # type: ignore[arg-type]
    (one,) = files(tmp_path)
    one.rename(one.with_name(NAMES[1].replace("/", "+")))
    assert cache.get(NAMES[1], TOKEN) is None
    folder = os.fsencode(tmp_path)
    assert IndexCache(folder, b"o" * 16).get(NAMES[0], TOKEN) is None
    cache.put(NAMES[0], TOKEN, b"data")
    elsewhere = IndexCache(folder, REPOSITORY, address=b"ssh://elsewhere/")
    assert elsewhere.get(NAMES[0], TOKEN) is None
    assert not elsewhere.has(NAMES[0], TOKEN)
    assert cache.has(NAMES[0], TOKEN)


def test_it_is_told_when_it_was_fetched(cache: IndexCache) -> None:
    cache.put(NAMES[0], TOKEN, b"data")
    for seconds, found in ((3600.0, b"data"), (-1.0, None)):
        assert cache.get(NAMES[0], TOKEN, seconds) == found
        assert cache.has(NAMES[0], TOKEN, seconds) == (found is not None)


@pytest.mark.parametrize("place", [0, 31, 32, 47, 48, 55, 56, -1])
def test_what_is_spoilt_is_not_there(cache: IndexCache, tmp_path: Path, place: int) -> None:
    cache.put(NAMES[0], TOKEN, bytes(500))
    (one,) = files(tmp_path)
    data = bytearray(one.read_bytes())
    data[place] ^= 1
    one.write_bytes(data)
    assert cache.get(NAMES[0], TOKEN) is None
    one.write_bytes(b"")
    assert cache.get(NAMES[0], TOKEN) is None
    cache.put(NAMES[0], TOKEN, bytes(500))
    assert cache.get(NAMES[0], TOKEN) == bytes(500)


def test_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    cache = IndexCache(os.fsencode(tmp_path), REPOSITORY, limit=5000)
    for number, name in enumerate(NAMES):
        cache.put(name, TOKEN, bytes(1000))
        if number < len(NAMES) - 1:
            for path in files(tmp_path):
                age = 10**9 * (1000 if path.name.startswith(NAMES[0].replace("/", "+")) else number)
                os.utime(path, ns=(age, age))
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 5000
    assert cache.has(NAMES[0], TOKEN)
    assert not cache.has(NAMES[1], TOKEN)
    assert cache.has(NAMES[-1], TOKEN)


def test_it_can_be_dropped_and_discarded(cache: IndexCache, tmp_path: Path) -> None:
    cache.put(NAMES[0], TOKEN, b"data")
    cache.put(NAMES[1], TOKEN, b"data")
    assert cache.drop(NAMES[0])
    assert not cache.drop(NAMES[0])
    assert cache.get(NAMES[0], TOKEN) is None
    discard_indexes(os.fsencode(tmp_path), REPOSITORY)
    discard_indexes(os.fsencode(tmp_path), REPOSITORY)
    assert files(tmp_path) == []


def test_where_nothing_can_be_written_nothing_is_kept() -> None:
    cache = IndexCache(b"/proc/none", REPOSITORY)
    cache.put(NAMES[0], TOKEN, b"data")
    assert cache.get(NAMES[0], TOKEN) is None


def test_it_is_discarded_beside_somebody_who_writes(
    cache: IndexCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put(NAMES[0], TOKEN, b"old")
    real = os.rmdir
    turns = iter(NAMES[1:5])

    def rmdir(*arguments: object, **options: object) -> None:
        cache.put(next(turns, NAMES[5]), TOKEN, b"new")
        real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rmdir", rmdir)
    discard_indexes(os.fsencode(tmp_path), REPOSITORY)
    assert cache.get(NAMES[0], TOKEN) is None
    assert cache.get(NAMES[1], TOKEN) == b"new"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_not_wanted_goes(cache: IndexCache, tmp_path: Path) -> None:
    for name in NAMES[:4]:
        cache.put(name, TOKEN, b"data")
    folder = files(tmp_path)[0].parent
    parts = [folder / f"archives+part.{'0' * 11}{number}" for number in range(2)]
    for part, age in zip(parts, (0, 10**9)):
        part.write_bytes(b"")
        os.utime(part, (part.stat().st_atime - age, part.stat().st_mtime - age))
    cache.keep_only(lambda name: name in NAMES[1:3])
    assert [cache.has(name, TOKEN) for name in NAMES[:4]] == [False, True, True, False]
    assert [part.exists() for part in parts] == [True, False]


def test_all_repositories_are_bounded_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So copies of those that are gone do not stay."""
    monkeypatch.setattr(index_cache, "ALL_LIMIT", 8000)
    for number in range(4):
        made = IndexCache(os.fsencode(tmp_path), bytes([number]) * 16, limit=8000)
        for name in NAMES[:3]:
            made.put(name, TOKEN, bytes(1000))
        for path in files(tmp_path):
            if path.parent.name.startswith(f"{number:02}"):
                os.utime(path, (number, number))
    last = IndexCache(os.fsencode(tmp_path), b"l" * 16, limit=8000)
    last.put(NAMES[0], TOKEN, bytes(1000))
    assert last.has(NAMES[0], TOKEN)
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 8000
    left = {path.name[:2] for path in tmp_path.iterdir()}
    assert left >= {"02", "03", "6c"}
    assert "00" not in left  # not even its folder
