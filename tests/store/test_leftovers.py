"""What is left over in a repository: the rule by itself, and what is removed by it."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.store import leftovers
from ibtfs.store.leftovers import Facts, Listing, remove_leftovers, stray
from ibtfs.store.lock import SHARED
from ibtfs.store.points import PointList, Points
from ibtfs.store.repository import Repository
from tests.support.realdata import ext4_image
from tests.support.repositories import Recorder, back_up, create, damages, reopened
from tests.support.trees import make_tree

PART = "x.0123456789ab.part"
NOTHING = Listing({}, {}, {})
FACTS = Facts(
    present=frozenset({"p"}),
    points=frozenset({"p"}),
    whole=frozenset({"whole"}),
    needed=frozenset({"needed"}),
    held=frozenset(),
)


@pytest.mark.parametrize(
    ("listing", "facts", "gone"),
    [
        (NOTHING, FACTS, []),
        (NOTHING._replace(tops={"": ["ibtfs.json", PART]}), FACTS, [PART]),
        (NOTHING._replace(tops={"points": ["p", PART]}), FACTS, [f"points/{PART}"]),
        (NOTHING._replace(tops={"locks": ["l", PART]}), FACTS, [f"locks/{PART}"]),
        (NOTHING._replace(tops={"locks": [PART]}), FACTS._replace(held=frozenset({PART})), []),
        (NOTHING._replace(tops={"forgotten": ["p", "q"]}), FACTS, ["forgotten/p"]),
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
        (NOTHING._replace(archives={"gone": ["data.1", "index.1", "removed"]}), FACTS, []),
        (NOTHING._replace(archives={"gone": ["data.1", "removed"]}), FACTS, []),
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


def begun(repository: Repository, name: str, token: str) -> Path:
    """An upload of *name* that was begun under *token* and not finished."""
    part = Path(os.fsdecode(repository.path)) / f"{name}.{token}01234567.part"
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(b"")
    return part


def test_what_was_begun_under_a_lock_that_is_gone_goes_beside_others(
    repository: Repository,
) -> None:
    """Whoever lost his lock in his sleep may still have what he would finish."""
    with repository.lock(SHARED) as own, repository.lock(SHARED) as other:
        theirs = begun(repository, "points/p", other.name.rpartition("_")[2])
        lost = [
            begun(repository, name, "89abcdef")
            for name in ("points/q", "tags/p/t", "archives/20261120T101112Z_h_00.0/index.1")
        ]
        assert remove_leftovers(repository, own) == len(lost)
        assert theirs.exists()
        assert not [part for part in lost if part.exists()]


def test_an_abandoned_upload_goes_before_a_backup_looks(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could still be finished behind the first look would be missed."""
    make_tree(tmp_path / "source", {"a": b"1"})
    lost = begun(repository, "points/q", "89abcdef")
    listing, seen = Points.all, []

    def listed(points: Points, *, recent: bool = False) -> PointList:
        seen.append(lost.exists())
        return listing(points, recent=recent)

    monkeypatch.setattr(Points, "all", listed)
    back_up(repository, tmp_path / "source")
    assert seen
    assert not any(seen)


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    ext4_image(tmp_path / "image", size=64 << 20)
    (tmp_path / "disk").mkdir()
    subprocess.run(["mount", "-o", "loop", tmp_path / "image", tmp_path / "disk"], check=True)
    try:
        yield tmp_path / "disk"
    finally:
        subprocess.run(["umount", "-l", tmp_path / "disk"], check=True)


def test_what_cannot_be_removed_fails_no_backup_and_no_prune(tmp_path: Path, ext4: Path) -> None:
    repository = create(ext4 / "repository")
    make_tree(tmp_path / "source", {"a": b"1"})
    assert back_up(repository, tmp_path / "source").point
    place = ext4 / "repository"
    (place / "archives/20261120T101112Z_h_00.0").mkdir()
    (place / "forgotten").mkdir(exist_ok=True)
    stuck = [
        place / name
        for name in ("archives/20261120T101112Z_h_00.0/data.1", f"points/{PART}",
                     "points/x.89abcdef01234567.part", "forgotten/20261120T101112Z_h_00")
    ]  # fmt: skip
    for path in stuck:
        path.write_bytes(b"")
        subprocess.run(["chattr", "+i", path], check=True)
    try:
        heard = Recorder()
        assert back_up(repository, tmp_path / "source", heard).point
        assert [note for note in heard.notes if "and 2 more" in note]
        result = prune(reopened(repository), PruneOptions(wait=0), Observer())
        assert result.failed
        assert damages(repository) == []
    finally:
        subprocess.run(["chattr", "-i", *stuck], check=True)
    heard = Recorder()
    assert back_up(repository, tmp_path / "source", heard).point
    assert heard.notes == []
    assert not [path for path in stuck if path.exists() and path.parent.name != "forgotten"]


def test_a_point_that_goes_while_its_note_is_taken_back_stays_noted(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fast_path / "source"
    make_tree(source, {"a": b"1"})
    repository = create(fast_path / "repository")
    for _ in range(2):
        back_up(repository, source)
    first, _ = reopened(repository).points.ids()
    repository.points.note_forgotten(first)  # by somebody who was killed
    other = reopened(repository)
    real = leftovers.stray

    def stray_while_it_goes(listing: Listing, facts: Facts) -> list[str]:
        found = real(listing, facts)
        other.points.remove(first)
        return found

    monkeypatch.setattr(leftovers, "stray", stray_while_it_goes)
    with repository.lock(SHARED) as lock:
        remove_leftovers(repository, lock)
    assert reopened(repository).points.forgotten() == [first]
