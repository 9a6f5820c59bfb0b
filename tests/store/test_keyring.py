"""The rings of a repository: the newest counts, one that is damaged costs nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged, WrongKey
from ibtfs.sealing import slots
from ibtfs.sealing.primitives import Suite, stretch
from ibtfs.sealing.ring import decode_ring, public_digest
from ibtfs.sealing.slots import Stretching
from ibtfs.store.keyring import COPIES, MOST_WORK_KIB, NAMES_LIMIT, Keyring, Secret, Unlocked
from ibtfs.store.repository import Repository
from tests.support.sealing import QUICK, SECRET, create_sealed, forge


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


HEAVY = Stretching(2, 1, 4 << 20)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What trying took: passes times memory; what takes much is not done in truth."""
    taken: list[int] = []

    def counted(secret: bytes, salt: bytes, *, passes: int, lanes: int, memory_kib: int) -> bytes:
        taken.append(passes * memory_kib)
        if memory_kib > QUICK.memory_kib:
            return bytes(32)
        return stretch(secret, salt, passes=passes, lanes=lanes, memory_kib=memory_kib)

    monkeypatch.setattr(slots, "stretch", counted)
    return taken


def test_forged_slots_keep_nobody_busy(
    keyring: Keyring, folder: Path, repository: Repository, work: list[int]
) -> None:
    """A storage could make opening take minutes, and hundreds of GiB read."""
    for number in range(9, 12):
        forge(folder, repository.id, number, 20, HEAVY)
    work.clear()
    found = keyring.unlock([SECRET])
    assert found.number == 1
    assert "newer keys and is damaged" in found.refusal
    assert work == [QUICK.passes * QUICK.memory_kib]  # what costs least comes first
    work.clear()
    with pytest.raises(WrongKey, match="59 of its keys were not tried, which would take too long"):
        keyring.unlock([Secret(SECRET.kind, b"wrong")])
    assert sum(work) <= MOST_WORK_KIB


def test_what_opened_it_the_last_time_is_tried_first(
    keyring: Keyring, folder: Path, repository: Repository, work: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("ibtfs.store.keyring.MOST_WORK_KIB", 8 * QUICK.memory_kib)
    forge(folder, repository.id, 2, 9, QUICK)
    forge(folder, repository.id, 2, 9, QUICK)
    work.clear()
    with pytest.raises(WrongKey, match="were not tried"):
        keyring.unlock([SECRET])
    assert sum(work) == 8 * QUICK.memory_kib
    work.clear()
    (slot,) = decode_ring(next(folder.glob("1.*")).read_bytes(), "keys").slots
    assert keyring.unlock([SECRET], public_digest(slot[0])).number == 1
    assert len(work) == 1
