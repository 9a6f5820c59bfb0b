"""What is left over in a repository: the rule by itself, and what is removed by it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ibtfs.store.leftovers import Facts, Listing, remove_leftovers, stray
from ibtfs.store.lock import SHARED
from ibtfs.store.repository import Repository
from tests.support.repositories import back_up, reopened
from tests.support.trees import make_tree

PART = "x.0123456789ab.part"
NOTHING = Listing({}, {}, {})
FACTS = Facts(frozenset({"p"}), frozenset({"whole"}), frozenset({"needed"}), frozenset())


@pytest.mark.parametrize(
    ("listing", "facts", "gone"),
    [
        (NOTHING, FACTS, []),
        (NOTHING._replace(tops={"": ["ibtfs.json", PART]}), FACTS, [PART]),
        (NOTHING._replace(tops={"points": ["p", PART]}), FACTS, [f"points/{PART}"]),
        (NOTHING._replace(tops={"locks": ["l", PART]}), FACTS, [f"locks/{PART}"]),
        (NOTHING._replace(tops={"locks": [PART]}), FACTS._replace(held=frozenset({PART})), []),
        (NOTHING._replace(tags={"p": ["t"]}), FACTS, []),
        (NOTHING._replace(tags={"p": ["t", PART]}), FACTS, [f"tags/p/{PART}"]),
        (NOTHING._replace(tags={"q": ["t", "u"]}), FACTS, ["tags/q/t", "tags/q/u"]),
        (NOTHING._replace(tags={"p": []}), FACTS, ["tags/p"]),
        (NOTHING._replace(archives={"whole": ["data.1", "index.1"]}), FACTS, []),
        (
            NOTHING._replace(archives={"whole": ["index.1", PART]}),
            FACTS,
            [f"archives/whole/{PART}"],
        ),
        (NOTHING._replace(archives={"needed": ["data.1"]}), FACTS, []),
        (NOTHING._replace(archives={"cut": ["data.1"]}), FACTS, ["archives/cut/data.1"]),
        (NOTHING._replace(archives={"cut": ["data.1"]}), FACTS._replace(needed=None), []),
        (
            NOTHING._replace(archives={"cut": [PART]}),
            FACTS._replace(needed=None),
            [f"archives/cut/{PART}"],
        ),
        (NOTHING._replace(archives={"empty": []}), FACTS, ["archives/empty"]),
    ],
)
def test_stray(listing: Listing, facts: Facts, gone: list[str]) -> None:
    assert stray(listing, facts) == gone


def test_what_was_cut_off_goes_with_its_folders(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"a": b"1"})
    back_up(repository, tmp_path / "source", tags=("kept",))
    place = Path(os.fsdecode(repository.path))
    before = sorted(place.rglob("*"))
    for name in ("archives/20261120T101112Z_h_00.0/data.1", "tags/20261120T101112Z_h_00/t",
                 f"points/{PART}", f"archives/20261120T101112Z_h_01.0/{PART}"):  # fmt: skip
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(b"")
    (place / "archives/20261120T101112Z_h_02.0").mkdir()
    with repository.lock(SHARED) as lock:
        assert remove_leftovers(repository, lock) == 5
    assert sorted(place.rglob("*")) == before


def test_beside_another_run_nothing_is_removed(repository: Repository) -> None:
    cut = Path(os.fsdecode(repository.path)) / "archives/20261120T101112Z_h_00.0/data.1"
    cut.parent.mkdir()
    cut.write_bytes(b"")
    with repository.lock(SHARED) as lock, repository.lock(SHARED):
        assert remove_leftovers(repository, lock) == 0
    assert cut.exists()


def test_an_archive_whose_index_is_missing_keeps_its_data(
    tmp_path: Path, repository: Repository
) -> None:
    make_tree(tmp_path / "source", {"a": random.Random(2).randbytes(300_000)})
    back_up(repository, tmp_path / "source")
    (archive,) = repository.archive_ids()
    index = Path(os.fsdecode(repository.path)) / "archives" / archive / "index.1"
    os.rename(index, tmp_path / "kept")
    make_tree(tmp_path / "other", {"b": b"1"})
    back_up(reopened(repository), tmp_path / "other")
    os.rename(tmp_path / "kept", index)


@pytest.mark.damaged
def test_data_that_an_unreadable_manifest_may_need_is_not_left_over(
    tmp_path: Path, repository: Repository
) -> None:
    make_tree(tmp_path / "source", {"a": random.Random(1).randbytes(200_000)})
    point = back_up(repository, tmp_path / "source").point
    assert point
    root = Path(os.fsdecode(repository.path))
    archive = root / "archives" / point.state.archive
    for index in archive.glob("index.*"):
        index.unlink()
    (root / "points" / point.id).write_bytes(b"rubbish")
    assert back_up(repository, tmp_path / "source").point
    assert list(archive.glob("data.*"))
