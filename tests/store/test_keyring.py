"""The rings of a repository: the newest counts, one that is damaged costs nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged, WrongKey
from ibtfs.sealing.primitives import Suite
from ibtfs.store.keyring import COPIES, NAMES_LIMIT, Keyring, Secret, Unlocked
from ibtfs.store.repository import Repository
from tests.support.sealing import SECRET, create_sealed


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create_sealed(tmp_path / "repo")


@pytest.fixture
def keyring(repository: Repository) -> Keyring:
    return Keyring(repository.storage, repository.id)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "repo/keys"


def write(keyring: Keyring, found: Unlocked, number: int) -> None:
    keyring.write(found.secrets, found.slots, number, Suite.CHACHA20_POLY1305)


def test_each_state_is_written_twice_and_the_others_go(keyring: Keyring, folder: Path) -> None:
    found = keyring.unlock([SECRET])
    assert (found.number, found.damaged, found.refusal) == (1, {}, "")
    (folder / "notes.txt").write_bytes(b"")
    write(keyring, found, 2)
    names = sorted(os.listdir(folder))
    assert names[-1] == "notes.txt"
    assert [name.partition(".")[0] for name in names[:-1]] == ["2"] * COPIES
    again = keyring.unlock([SECRET])
    assert (again.number, again.suite, again.secrets) == (
        2, Suite.CHACHA20_POLY1305, found.secrets
    )  # fmt: skip


def test_the_newest_counts(keyring: Keyring, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = keyring.unlock([SECRET])
    write(keyring, found, 12)
    for name, data in before.items():
        (folder / name).write_bytes(data)
    assert list(dict.fromkeys(r.number for r in keyring.rings()[0].values())) == [12, 1]
    assert keyring.unlock([SECRET]).number == 12


def test_one_that_is_damaged_is_told(keyring: Keyring, folder: Path) -> None:
    one, other = sorted(folder.iterdir())
    one.write_bytes(one.read_bytes()[:-1])
    found = keyring.unlock([SECRET])
    assert list(found.damaged) == [f"keys/{one.name}"]
    assert found.refusal == ""
    other.write_bytes(b"")
    with pytest.raises(FormatDamaged, match="no keys of this repository can be read"):
        keyring.unlock([SECRET])


def test_a_ring_under_another_number_or_of_another_repository(
    keyring: Keyring, folder: Path, repository: Repository
) -> None:
    one, other = sorted(folder.iterdir())
    one.rename(folder / "7.0123456789abcdef")
    found = keyring.unlock([SECRET])
    assert found.number == 1
    assert "holds other keys than its name says" in found.damaged["keys/7.0123456789abcdef"]
    assert "newer keys and is damaged" in found.refusal
    with pytest.raises(FormatDamaged, match="holds other keys"):
        Keyring(repository.storage, bytes(16)).unlock([SECRET])
    assert other.exists()


def test_secrets_are_tried_in_turn_and_asked_for_no_longer(keyring: Keyring) -> None:
    asked = []

    def secrets() -> object:
        for data in (b"wrong", SECRET.data, b"never"):
            asked.append(data)
            yield Secret(SECRET.kind, data)

    found = keyring.unlock(secrets())  # type: ignore[arg-type]
    assert found.secret == SECRET
    assert asked == [b"wrong", SECRET.data]
    with pytest.raises(WrongKey, match="does not open it"):
        keyring.unlock([Secret("file", SECRET.data)])
    with pytest.raises(WrongKey, match="is needed"):
        keyring.unlock([])


def test_a_slot_is_opened_again_while_it_is_there(keyring: Keyring) -> None:
    found = keyring.unlock([SECRET])
    write(keyring, found, 2)
    assert keyring.reopen(found.opened).number == 2
    other = found.opened._replace(slot=found.opened.slot._replace(id=bytes(8)))
    with pytest.raises(WrongKey, match="changed meanwhile"):
        keyring.reopen(other)


def test_many_objects_are_not_all_looked_at(keyring: Keyring, folder: Path) -> None:
    for number in range(2, NAMES_LIMIT + 9):
        (folder / f"{number}.0123456789abcdef").write_bytes(b"x")
    assert len(keyring.rings()[1]) == NAMES_LIMIT
