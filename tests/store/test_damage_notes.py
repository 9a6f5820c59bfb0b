"""Notes of damage: what is noted is read, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.format.index import Reference
from ibtfs.store import damage_notes
from ibtfs.store.damage_notes import DamageNotes
from ibtfs.store.repository import Repository

ONE, OTHER = Reference("20261120T101112Z_h_00.0", 3), Reference("20261120T101112Z_h_01.0", 0)


def place(repository: Repository) -> Path:
    return Path(os.fsdecode(repository.path), "damaged")


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
    "text",
    [
        "", "[]", "{}", '{"contents": 1}', '{"contents": {"../x": [1]}}',
        '{"contents": {"20261120T101112Z_h_00.0": ["1"]}}',
    ],
)  # fmt: skip
def test_a_note_that_makes_no_sense_is_told(
    repository: Repository, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (place(repository) / "0123456789abcdef-0").write_text(text)
    repository.damage.add("0123456789abcdee", [ONE])
    assert DamageNotes(repository.storage).contents() == {ONE}
    assert [record.message for record in caplog.records if "A note of damage" in record.message]
