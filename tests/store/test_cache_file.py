"""A file of the local cache: its body comes back, or it is as if it were not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import StorageFailed
from ibtfs.store import cache_file
from ibtfs.store.cache_file import discard, is_there, read_body, store_body, write_body


@pytest.mark.parametrize("body", [b"", b"x", b"body" * 1000])
def test_a_body_comes_back(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "file"
    write_body(str(path), b"before")
    write_body(str(path), body)
    found = read_body(str(path))
    assert found is not None
    assert bytes(found) == body
    assert path.stat().st_size == 32 + len(body)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_spoilt_or_missing_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert read_body(str(path)) is None
    write_body(str(path), b"body")
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert read_body(str(path)) is None
        path.write_bytes(data[:place])
        assert read_body(str(path)) is None
    path.write_bytes(data)
    assert read_body(str(path)) is not None
    os.chown(path, 12345, -1)
    assert read_body(str(path)) is None


def test_what_is_too_large_is_neither_written_nor_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    with monkeypatch.context() as patch:
        patch.setattr(cache_file, "LIMIT", 42)
        write_body(str(path), bytes(11))
        assert not path.exists()
        write_body(str(path), bytes(10))
        assert bytes(read_body(str(path)) or b"") == bytes(10)
        patch.setattr(cache_file, "LIMIT", 41)
        assert read_body(str(path)) is None
    assert bytes(read_body(str(path)) or b"") == bytes(10)


def test_where_nothing_can_be_written_nothing_is_left(tmp_path: Path) -> None:
    write_body(str(tmp_path / "none" / "file"), b"body")
    (tmp_path / "folder").mkdir()
    write_body(str(tmp_path / "folder"), b"body")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_must_be_written_is_told_if_it_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "file"
    store_body(str(path), b"before")
    assert bytes(read_body(str(path)) or b"") == b"before"
    for where in (tmp_path / "none" / "file", tmp_path):
        with pytest.raises(StorageFailed, match=str(where)):
            store_body(str(where), b"body")
    assert list(tmp_path.iterdir()) == [path]
    assert is_there(str(path))
    assert not is_there(str(path / "below"))
    assert not is_there(str(tmp_path / "none"))


def test_what_was_left_of_writing_it_goes_with_it(tmp_path: Path) -> None:
    for name in ("a.points", "a.points.0123", "b.points"):
        (tmp_path / name).write_bytes(b"")
    discard(str(tmp_path / "a.points"))
    assert [path.name for path in tmp_path.iterdir()] == ["b.points"]
