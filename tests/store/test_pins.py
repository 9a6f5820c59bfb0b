"""What was seen of sealed repositories, as it is remembered."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ibtfs.errors import StorageFailed, WrongKey
from ibtfs.format.packing import pack
from ibtfs.store.cache_file import store_body
from ibtfs.store.listed import Accepted
from ibtfs.store.pins import Pin, Pins, Watch
from ibtfs.store.storage.machine import login_name
from tests.support.sealing import create_sealed


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    (tmp_path / "pins").mkdir()
    return Pins(os.fsencode(tmp_path / "pins"))


@pytest.mark.parametrize("other", [
    "ssh://{login}@host/srv/backups", "{login}@HOST:/srv/backups/", "sftp://host:22//srv/backups",
])  # fmt: skip
def test_what_lay_at_an_address_is_known_by_another_spelling(pins: Pins, other: str) -> None:
    """Else whoever has the server gets the next backup in clear."""
    pins.note_place(b"sftp://host/srv/backups")
    root = other.format(login=login_name()).encode()
    with pytest.raises(WrongKey, match="a sealed repository lay there before"):
        pins.require_unsealed(root)
    pins.require_unsealed(b"sftp://host/srv/others")
    pins.drop_place(root)
    pins.require_unsealed(b"sftp://host/srv/backups")


def test_a_torn_pin_is_told_and_not_taken_for_none(tmp_path: Path, pins: Pins) -> None:
    """Else a power cut, or a bad sector, would have all forgotten that was seen."""
    repository = create_sealed(tmp_path / "repo")
    assert pins.read(repository.id) == Pin()
    Watch(pins, repository, 1).remember()
    path = next(one for one in (tmp_path / "pins").iterdir() if one.suffix == ".pin")
    whole = path.read_bytes()
    for torn in (b"", whole[:-1], bytes(len(whole))):
        path.write_bytes(torn)
        watch = Watch(pins, repository, 1)
        assert ["cannot be read" in alarm for alarm in watch.alarms()] == [True]
        with pytest.raises(StorageFailed, match="cannot be read"):
            watch.remember()
        assert path.read_bytes() == torn
    watch.accept()
    assert Watch(pins, repository, 1).alarms() == []


def test_a_pin_of_a_later_version_is_not_taken_for_none(tmp_path: Path, pins: Pins) -> None:
    for values in [(99, *range(6)), (2, "x", 0, b"", (), (), ()), (2, 1, 0, b"", 1, (), ())]:
        store_body(str(tmp_path / "pins" / f"{bytes(16).hex()}.pin"), pack(values))
        assert pins.read(bytes(16)).is_spoilt


def test_a_pin_of_an_earlier_version_is_read(tmp_path: Path, pins: Pins) -> None:
    path = str(tmp_path / "pins" / f"{bytes(16).hex()}.pin")
    for more in ((), (b"waived",)):  # the latter was of no release
        store_body(path, pack((3, 2, 7, b"m" * 16, ("p",), ("q",), ("why",), b"slot", *more)))
        found = pins.read(bytes(16))
        sets = (frozenset({"p"}), frozenset({"q"}), frozenset({"why"}))
        assert found == Pin(2, 7, frozenset({b"m" * 16}), *sets, b"slot")
    accepted = Accepted(frozenset({"9.0"}), frozenset({"x"}), {"archives/a.0/data": (1, 2)})
    pins.write(bytes(16), replace(found, accepted=accepted))
    assert pins.read(bytes(16)) == replace(found, accepted=accepted)
    for wrong in ((), ("9.0",), ("9.0", ("x",)), ("9.0", ("x",), {"a": 1}), ("9.0", ("x",), ())):
        values = (4, 2, 7, (b"m" * 16,), ("p",), ("q",), ("why",), b"slot", *wrong)
        store_body(path, pack(values))
        assert pins.read(bytes(16)).is_spoilt


def test_what_was_accepted_counts_until_another_generation_is_listed() -> None:
    accepted = Accepted(generations={"one": (1, 3)})
    assert [accepted.least("one", listed) for listed in (2, 3, 4)] == [2, 1, 4]
    assert accepted.least("other", 3) == 3
