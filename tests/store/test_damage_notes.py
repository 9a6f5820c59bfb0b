"""Notes of damage: what is noted is read, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.format import objects
from ibtfs.format.compression import Codec
from ibtfs.format.frames import NOTE
from ibtfs.format.index import Reference
from ibtfs.format.objects import encode_object
from ibtfs.format.packing import pack
from ibtfs.store import damage_notes
from ibtfs.store.damage_notes import DamageNotes
from ibtfs.store.repository import Repository
from tests.support.independent_reader import IndependentReader

ONE, OTHER = Reference("20261120T101112Z_h_00.0", 3), Reference("20261120T101112Z_h_01.0", 0)


def place(repository: Repository) -> Path:
    return Path(os.fsdecode(repository.path), "damaged")


def found(repository: Repository) -> frozenset[Reference]:
    """The contents that are noted, as another process reads them."""
    return DamageNotes(repository.storage, repository.keys, Codec()).contents()


def test_what_is_noted_is_read(repository: Repository) -> None:
    repository.damage.add("0123456789abcdef", [OTHER, ONE])
    repository.damage.add("0123456789abcdee", [ONE])
    assert repository.damage.contents() == {ONE, OTHER}


def test_many_contents_take_several_notes(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage_notes, "NOTE_CONTENTS", 2)
    refs = [ONE._replace(number=number) for number in range(5)]
    repository.damage.add("0123456789abcdef", refs)
    assert len(list(place(repository).iterdir())) == 3
    assert repository.damage.contents() == set(refs)


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07", "a b", "x" * 101, "ä", "a.b"])
def test_another_name_is_no_note_and_is_not_shown(
    repository: Repository, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (place(repository) / name).write_text("no note")
    assert repository.damage.contents() == set()
    assert caplog.records == []


@pytest.mark.parametrize(
    "value",
    [
        [], {}, 1, {"contents": 1}, {"contents": [ONE.archive]}, {"contents": {"../x": [1]}},
        {"contents": {7: [1]}}, {"contents": {ONE.archive: ["1"]}},
        {"contents": {ONE.archive: [True]}}, {"contents": {ONE.archive: 1}},
        {"contents": {}, "indexes": 1}, {"contents": {}, "indexes": ["../x"]},
        {"contents": {}, "indexes": {ONE.archive: 1}}, {"indexes": [ONE.archive]},
    ],
)  # fmt: skip
def test_a_note_that_makes_no_sense_is_told(
    repository: Repository, caplog: pytest.LogCaptureFixture, value: object
) -> None:
    name = "damaged/0123456789abcdef-0"
    note = encode_object(repository.keys, name, NOTE, pack(value), Codec())
    (place(repository) / "0123456789abcdef-0").write_bytes(note)
    repository.damage.add("0123456789abcdee", [ONE])
    assert found(repository) == {ONE}
    assert [record.message for record in caplog.records if "A note of damage" in record.message]


@pytest.mark.parametrize("data", [b"", b'{"contents": {}}', b"x" * 100])
def test_what_is_no_note_is_told(
    repository: Repository, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    (place(repository) / "0123456789abcdef-0").write_bytes(data)
    assert found(repository) == set()
    assert ["0123456789abcdef-0" in record.message for record in caplog.records] == [True]


def test_a_note_that_was_changed_or_renamed_is_told(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    repository.damage.add("aaaa", [ONE])
    (note,) = place(repository).iterdir()
    data = note.read_bytes()
    for at in range(len(data)):
        note.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert found(repository) == set()
        assert len(caplog.records) == at + 1
    note.write_bytes(data)
    assert found(repository) == {ONE}
    note.rename(note.with_name("bbbb-0"))
    assert found(repository) == set()


def test_a_note_of_a_later_version_is_told(
    repository: Repository, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(objects, "FORMAT_VERSION", objects.FORMAT_VERSION + 1)
        repository.damage.add("aaaa", [ONE])
    repository.damage.add("bbbb", [OTHER])
    assert found(repository) == {OTHER}
    assert ["upgrade ibtfs" in record.message for record in caplog.records] == [True]


def test_a_note_is_trimmed_to_what_is_there(repository: Repository) -> None:
    refs = [ONE._replace(number=number) for number in range(4)]
    repository.damage.add("aaaa", refs[:2])
    repository.damage.add("bbbb", refs[2:])
    before = sorted(path.name for path in place(repository).iterdir())
    repository.damage.trim("cccc", lambda _: True)
    assert sorted(path.name for path in place(repository).iterdir()) == before
    repository.damage.trim("dddd", lambda ref: ref.number != 1)
    assert repository.damage.contents() == {refs[0], refs[2], refs[3]}
    assert sorted(path.name for path in place(repository).iterdir()) == ["bbbb-0", "dddd-0-0"]
    repository.damage.trim("eeee", lambda ref: ref.number < 2)
    assert [path.name for path in place(repository).iterdir()] == ["dddd-0-0"]
    repository.damage.trim("ffff", lambda _: False)
    assert list(place(repository).iterdir()) == []


def test_archives_are_noted_whose_index_is_damaged(repository: Repository) -> None:
    repository.damage.add("aaaa", [ONE], [OTHER.archive])
    repository.damage.add("bbbb", [], [OTHER.archive])
    noted = repository.damage.all()
    assert (noted.contents, noted.indexes) == ({ONE}, {OTHER.archive})
    assert noted.archives == {ONE.archive, OTHER.archive}
    assert IndependentReader(os.fsdecode(repository.path)).damaged_indexes() == [OTHER.archive]
    repository.damage.trim("cccc", lambda _: False)
    assert repository.damage.all() == (frozenset(), {OTHER.archive})
    repository.damage.trim("dddd", lambda _: True, lambda name: name != OTHER.archive)
    assert list(place(repository).iterdir()) == []


def test_many_archives_take_several_notes(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage_notes, "NOTE_CONTENTS", 2)
    archives = [f"20261120T101112Z_h_{number:02}.0" for number in range(5)]
    repository.damage.add("aaaa", [ONE, OTHER, OTHER._replace(number=7)], archives)
    assert len(list(place(repository).iterdir())) == 3
    assert repository.damage.all().indexes == set(archives)
    assert len(repository.damage.contents()) == 3


def test_a_note_of_nothing_is_trimmed(repository: Repository) -> None:
    name = "damaged/0123456789abcdef-0"
    note = encode_object(repository.keys, name, NOTE, pack({"contents": {}}), Codec())
    (place(repository) / "0123456789abcdef-0").write_bytes(note)
    assert not any(repository.damage.all())
    repository.damage.trim("aaaa", lambda _: True)
    assert list(place(repository).iterdir()) == []


def test_what_is_no_readable_note_is_not_trimmed(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    (place(repository) / "a b").write_text("no note")
    (place(repository) / "aaaa-0").write_text("{}")
    repository.damage.add("bbbb", [ONE, OTHER])
    repository.damage.trim("cccc", lambda ref: ref == ONE)
    assert sorted(path.name for path in place(repository).iterdir()) == [
        "a b", "aaaa-0", "cccc-1-0"
    ]  # fmt: skip
    assert ["aaaa-0" in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize("more", [0, 1])
def test_a_note_has_so_many_bytes_at_most(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    repository.damage.add("aaaa", [ONE])
    (note,) = place(repository).iterdir()
    monkeypatch.setattr(damage_notes, "NOTE_LIMIT", note.stat().st_size - more)
    assert repository.damage.contents() == (set() if more else {ONE})
