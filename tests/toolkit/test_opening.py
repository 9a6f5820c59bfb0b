"""Sealed repositories by the building blocks: opened, made, and refused without a key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import NotARepository, UsageError, WrongKey
from ibtfs.sealing.sheet import encode_sheet
from ibtfs.store.keyring import Secret
from ibtfs.toolkit import (
    forget_points,
    full_backup,
    incremental_backup,
    list_points,
    open_repository,
    repository_statistics,
    restore_backup,
    tag_points,
    undo_backup,
    untag_points,
)
from tests.support import differences, snapshot
from tests.support.sealing import SECRET, create_sealed
from tests.support.trees import make_tree


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(os.urandom(32))
    return path


def test_all_ways_in_take_a_key_file(source: Path, tmp_path: Path, key: Path) -> None:
    place = tmp_path / "repository"
    make_tree(source, {"secret": b"diagnosis" * 1000})
    full_backup(source, place, key_file=key)
    stored = [path for path in place.rglob("*") if path.is_file()]
    assert not any(b"secret" in path.read_bytes() for path in stored)
    (source / "more").write_bytes(b"more")
    for _ in range(2):
        incremental_backup(source, place, key_file=os.fsencode(key))
    points = list_points(place, key_file=str(key))
    assert [point.full for point in points] == [True, False, False]
    assert tag_points(place, "kept", ["source/latest~1"], key_file=key).done
    assert untag_points(place, "kept", ["source/latest~1"], key_file=key).done
    assert undo_backup(place, "source", key_file=key).gone == [points[2].point.id]
    assert forget_points(place, [points[0].name], key_file=key).gone == [points[0].point.id]
    assert [len(one.points) for one in repository_statistics(place, key_file=key).sources] == [1]
    restore_backup(place, "source", tmp_path / "back", key_file=key)
    assert differences(snapshot(source), snapshot(tmp_path / "back")) == []


def test_a_passphrase_is_text_or_asked_for_when_it_is_needed(tmp_path: Path) -> None:
    create_sealed(tmp_path / "repository")
    right, asked = SECRET.data.decode(), list[str]()

    def ask() -> str:
        asked.append("asked")
        return right

    assert list_points(tmp_path / "repository", passphrase=right) == []
    assert list_points(tmp_path / "repository", passphrase=ask) == []
    assert asked == ["asked"]
    with pytest.raises(WrongKey):
        list_points(tmp_path / "repository", passphrase="wrong")
    with pytest.raises(NotARepository):
        list_points(tmp_path / "none", passphrase=ask)
    assert asked == ["asked"]


def test_a_recovery_sheet_is_a_passphrase(tmp_path: Path) -> None:
    secret = os.urandom(32)
    create_sealed(tmp_path / "repository", Secret("sheet", secret))
    assert list_points(tmp_path / "repository", passphrase=encode_sheet(secret)) == []


def test_the_passphrase_is_for_where_the_key_file_does_not_fit(tmp_path: Path, key: Path) -> None:
    create_sealed(tmp_path / "repository", Secret("file", key.read_bytes()))

    def ask() -> str:
        raise AssertionError

    assert list_points(tmp_path / "repository", key_file=key, passphrase=ask) == []
    create_sealed(tmp_path / "other")
    found = list_points(tmp_path / "other", key_file=key, passphrase=SECRET.data.decode())
    assert found == []


def test_one_that_is_open_does_for_all(source: Path, tmp_path: Path, key: Path) -> None:
    make_tree(source, {"a": b"one"})
    full_backup(source, tmp_path / "repository", key_file=key)
    opened = open_repository(tmp_path / "repository", key_file=key)
    assert open_repository(opened) is opened
    incremental_backup(source, opened)
    assert len(list_points(opened)) == 2
    for wrong in ({"key_file": key}, {"passphrase": "x"}):
        with pytest.raises(UsageError, match="is open already"):
            list_points(opened, **wrong)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="is open already"):
            full_backup(source, opened, **wrong)  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused(source: Path, tmp_path: Path, key: Path) -> None:
    make_tree(source, {"a": b"one"})
    full_backup(source, tmp_path / "sealed", key_file=key)
    full_backup(source, tmp_path / "plain")
    with pytest.raises(WrongKey, match="a passphrase or a key file is needed"):
        list_points(tmp_path / "sealed")
    with pytest.raises(WrongKey, match="is not sealed, though a key"):
        incremental_backup(source, tmp_path / "plain", key_file=key)
    with pytest.raises(UsageError, match="cannot be read"):
        list_points(tmp_path / "sealed", key_file=tmp_path / "none")
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(UsageError, match="is no key file"):
        list_points(tmp_path / "sealed", key_file=tmp_path / "short")
    with pytest.raises(UsageError, match="An empty passphrase protects nothing"):
        full_backup(source, tmp_path / "new", passphrase="")
    assert not (tmp_path / "new").exists()
