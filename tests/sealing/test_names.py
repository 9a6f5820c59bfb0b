"""Names of a sealed repository: who has a key says what they say, and tags are hidden."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import UsageError
from ibtfs.format.point_list import TURNS
from ibtfs.sealing.names import TAG_LIMIT, SealedNames
from ibtfs.store.sealing import SPEAKING
from tests.sealing.test_keys import NEW, OLD, keys_of

POINT = "20261129T072334Z_b06aa9bae47e14fa1c94"
ARCHIVE = f"archives/{POINT}.0"
MARKED = [f"forgotten/{POINT}", f"copied/{'0' * 32}-{POINT}", f"{ARCHIVE}/removed"]
PLAIN = ["ibtfs.json", f"points/{POINT}", f"{ARCHIVE}/data.1", "bundles/0123456789abcdef",
         "damaged/a-0", "protection/redundancy.5", "locks/shared_1", "keys/1.0123456789abcdef",
         f"{ARCHIVE}/index.1.parity.5", "points/removed", "forgotten.json"]  # fmt: skip
NAMES = SealedNames(keys_of(), SPEAKING)
BYTES = st.sampled_from(sorted({*range(1, 256)} - {ord("/")}))
TAGS = st.lists(BYTES, min_size=1, max_size=TAG_LIMIT).map(lambda tag: os.fsdecode(bytes(tag)))


def split(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    return folder, base


def flipped(text: str) -> list[str]:
    """*text* with one bit of it changed, in all ways."""
    return [text[:n] + chr(ord(text[n]) ^ 1 << bit) + text[n + 1 :]
            for n in range(len(text)) for bit in range(7)]  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_most_names_are_what_they_are(name: str) -> None:
    assert NAMES.stored(name) == name
    assert NAMES.all_stored(name) == [name]
    assert NAMES.meant(*split(name)) == split(name)[1]


@pytest.mark.parametrize("name", MARKED)
def test_names_that_mean_something_are_marked(name: str) -> None:
    folder, base = split(name)
    stored = NAMES.stored(name)
    assert stored.startswith(f"{name}.")
    assert NAMES.meant(*split(stored)) == base
    assert NAMES.meant(folder, base) == ""
    for wrong in flipped(split(stored)[1]):
        # what does not begin with the word is some other file
        assert NAMES.meant(folder, wrong) in ("", wrong)
        assert not NAMES.meant(folder, wrong).startswith("removed")
        assert folder.startswith("archives/") or not NAMES.meant(folder, wrong)
    for other in {*MARKED} - {name}:
        there, called = split(other)
        assert NAMES.meant(there, f"{called}.{stored.rpartition('.')[2]}") == ""


def test_names_of_former_masters_are_known() -> None:
    before = SealedNames(keys_of(current=OLD, masters=(OLD,)), SPEAKING)
    for name in MARKED:
        old = before.stored(name)
        assert NAMES.all_stored(name) == [NAMES.stored(name), old]
        assert NAMES.meant(*split(old)) == split(name)[1]
        assert before.meant(*split(NAMES.stored(name))) == ""


@pytest.mark.parametrize("stored", ["", ".", "x.", f".{'0' * 32}", "\udcff.\udcff", "removed.é"])
@pytest.mark.parametrize("folder", ["forgotten", "copied", f"tags/{POINT}"])
def test_names_that_nobody_made(folder: str, stored: str) -> None:
    assert NAMES.meant(folder, stored) == ""


@given(tag=TAGS)
def test_a_tag_comes_back_and_is_not_seen(tag: str) -> None:
    folder = f"tags/{POINT}"
    stored = NAMES.stored(f"{folder}/{tag}")
    assert NAMES.all_stored(f"{folder}/{tag}") == [stored]
    there, base = split(stored)
    assert there == folder
    assert len(base) <= 200
    assert base.isascii()
    assert "." not in base
    assert len(tag) < 4 or tag not in base
    assert NAMES.meant(folder, base) == tag
    assert NAMES.meant(f"tags/{POINT}0", base) == ""
    for other in (keys_of(identity=b"x" * 32), keys_of(repository=bytes(16))):
        assert SealedNames(other, SPEAKING).meant(folder, base) == ""
    assert SealedNames(keys_of(masters=(NEW,)), SPEAKING).meant(folder, base) == tag


@pytest.mark.parametrize("tag", ["k", "keep", "x" * 16, "y" * TAG_LIMIT])
def test_no_byte_of_a_tag_can_be_changed(tag: str) -> None:
    folder, stored = split(NAMES.stored(f"tags/{POINT}/{tag}"))
    wrong = [
        *flipped(stored),
        *(stored[:n] for n in range(len(stored))),
        stored + "=",
        stored + "A",
    ]
    assert [name for name in wrong if NAMES.meant(folder, name)] == []


def test_a_tag_has_a_limit() -> None:
    with pytest.raises(UsageError, match="at most 128 bytes"):
        NAMES.stored(f"tags/{POINT}/{'ä' * 64}x")


class Taken:
    """Says that every name was taken so often."""

    def __init__(self, turn: int = 0) -> None:
        self.now = turn

    def turn(self, point_id: str, name: str) -> int:
        assert point_id == POINT
        assert name.startswith((f"tags/{POINT}/", f"forgotten/{POINT}"))
        return self.now


@pytest.mark.parametrize("name", [f"tags/{POINT}/keep", f"tags/{POINT}/a.7", f"forgotten/{POINT}"])
def test_a_name_that_was_taken_away_is_of_the_next_turn(name: str) -> None:
    taken = Taken()
    found = SealedNames(keys_of(), SPEAKING, taken)
    folder, base = split(name)
    stored = []
    for turn in (0, 1, 10, 999_999):
        taken.now = turn
        stored.append(split(found.stored(name))[1])
    assert stored[0] == split(NAMES.stored(name))[1]
    assert len(set(stored)) == len(stored)
    for now, counts in ((0, 4), (1, 3), (2, 2), (11, 1), (999_999, 1)):
        taken.now = now
        # also what is of a later turn: it was given again since that was asked for
        assert [found.meant(folder, one) for one in stored].count(base) == counts
        told = [found.told(folder, one) for one in stored]
        assert [one and (one.base, one.turn) for one in told] == [
            (base, 0), (base, 1), (base, 10), (base, 999_999),
        ]  # fmt: skip
        assert [one.is_used_up for one in told if one].count(True) == 4 - counts
    taken.now = 0
    for wrong in (stored[1].replace(".1", ".01"), stored[1].replace(".1", ".2"), f"{stored[0]}.0"):
        assert found.meant(folder, wrong) == ""
        assert found.told(folder, wrong) is None
    taken.now = TURNS
    if base == POINT:
        assert split(found.stored(name))[1] == stored[-1]
        assert found.meant(folder, stored[-1]) == base
    else:
        assert found.meant(folder, stored[-1]) == ""
        with pytest.raises(UsageError, match="too often"):
            found.stored(name)
