"""Parity: what was damaged up to the share has its bytes again; the rest is said to be lost."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ibtfs.actions.backup import entry as store_file
from ibtfs.actions.forget.run import Way, forget_named
from ibtfs.actions.observer import Observer
from ibtfs.actions.protect import protect
from ibtfs.errors import FormatDamaged, LibraryMissing, NotARepository, RepositoryLocked
from ibtfs.format import erasure
from ibtfs.store.archives import writer as archive_writer
from ibtfs.store.lock import SHARED
from ibtfs.store.protection.healing import heal_configuration
from ibtfs.store.repository import Repository
from tests.support.crashing import cut_at_each_step
from tests.support.protecting import (
    Damage,
    appended,
    assert_protected,
    cut_short,
    deleted,
    files_of,
    flips,
    overwritten,
    protected,
    repaired,
    zeroed_page,
)
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import back_up, create, damages, reopened, the_point
from tests.support.trees import make_tree

HEALS: tuple[Damage, ...] = (flips, zeroed_page, cut_short, appended)
KINDS = ("data.1", "sigs.1", "index.1", "point", "parity", "points parity")


def made(path: Path, small: int = 30) -> tuple[Repository, list[str]]:
    """A repository with archives of all kinds of files, protected in between; its points."""
    source = path / "source"
    source.mkdir()
    repository = create(path / "repository")
    make_tree(source, {"large": os.urandom(500_000), "small": b"12345"})
    make_tree(source, {f"n{number}": os.urandom(99) for number in range(small)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive_writer, "INSIDE_INDEX", 100)
        patch.setattr(store_file, "MEMORY_LIMIT", 64 << 10)
        ids = [the_point(back_up(repository, source)).id]
    assert protected(repository) == []
    for number in range(3):
        make_tree(source, {f"new{number}": os.urandom(3000)})
        ids.append(the_point(back_up(repository, source)).id)
    return repository, ids


def one_of(repository: Repository, kind: str) -> Path:
    root = Path(os.fsdecode(repository.path))
    if kind == "point":
        return min((root / "points").iterdir())
    if kind == "points parity":
        return next((root / "protection").glob("points.*"))
    if kind == "parity":
        return max((root / "archives").glob("*/*.parity.*"), key=lambda path: path.stat().st_size)
    return max((root / "archives").glob(f"*/{kind}"), key=lambda path: path.stat().st_size)


def undamaged(repository: Repository) -> dict[str, bytes]:
    """The files of a repository without its notes of damage."""
    return {n: d for n, d in files_of(repository).items() if not n.startswith("damaged")}


def test_sidecars_are_written_by_backups_from_then_on(fast_path: Path) -> None:
    repository, ids = made(fast_path)
    assert_protected(repository)
    assert damages(repository) == []
    forget(repository, ids[1:3])
    assert pruned(repository).failed == []
    assert_protected(repository)
    assert_whole(repository)


def test_what_prune_writes_anew_is_protected(fast_path: Path) -> None:
    repository, ids = made(fast_path, small=80)
    source = fast_path / "source"
    for number in range(40):
        (source / f"n{number}").unlink()
    (source / "large").write_bytes(os.urandom(6 << 20))
    last = the_point(back_up(repository, source)).id
    forget(repository, ids)
    assert pruned(repository).failed == []
    assert reopened(repository).points.ids() == [last]
    assert_protected(repository)
    assert any("index.2.parity.10" in name for name in files_of(repository))
    assert_whole(repository)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", HEALS, ids=lambda damage: damage.__name__)
def test_damage_up_to_the_share_heals(fast_path: Path, kind: str, damage: Damage) -> None:
    repository, _ = made(fast_path)
    before = files_of(repository)
    damage(one_of(repository, kind))
    assert files_of(repository) != before
    assert damages(repository) != []
    foreseen = repaired(repository, dry_run=True)
    assert undamaged(repository) != before
    result = repaired(repository)
    assert result.left is not None
    assert (result.unhealed, result.left.damages) == ({}, [])
    assert list(result.healed) == list(foreseen.healed) != []
    assert files_of(repository) == before
    assert_protected(repository)
    again = repaired(repository)
    assert again.healed == {}


def test_any_manifests_that_are_lost_come_back(fast_path: Path) -> None:
    repository, ids = made(fast_path)
    before = files_of(repository)
    for point_id in ids[1:3]:
        deleted(Path(os.fsdecode(repository.path), "points", point_id))
    told = damages(repository)
    assert len(told) == 2
    assert all("is gone, and nobody removed the point" in line for line in told)
    assert repaired(repository).unhealed == {}
    assert files_of(repository) == before


def test_a_point_that_was_removed_does_not_come_back(fast_path: Path) -> None:
    repository, ids = made(fast_path)
    forget(repository, ids[:1])
    assert damages(repository) == []
    assert repaired(repository).healed == {}
    assert reopened(repository).points.ids() == sorted(ids[1:])
    pruned(repository)
    assert repaired(repository).healed == {}
    assert_protected(repository)


@pytest.mark.parametrize("damage", [flips, cut_short, deleted], ids=lambda one: one.__name__)
def test_the_configuration_heals_before_anything_is_opened(fast_path: Path, damage: Damage) -> None:
    repository, _ = made(fast_path)
    before = files_of(repository)
    damage(Path(os.fsdecode(repository.path), "ibtfs.json"))
    with pytest.raises((NotARepository, FormatDamaged)):
        reopened(repository)
    assert heal_configuration(repository.path)
    assert files_of(repository) == before


@pytest.mark.parametrize("damage", [overwritten, deleted], ids=lambda one: one.__name__)
def test_beyond_the_share_what_is_lost_is_said(fast_path: Path, damage: Damage) -> None:
    repository, _ = made(fast_path)
    (fast_path / "source" / "large").unlink()
    path = one_of(repository, "data.1")
    damage(path)
    result = repaired(repository)
    name = str(path.relative_to(Path(os.fsdecode(repository.path))))
    assert list(result.unhealed) == [name]
    assert "more of it is damaged than parity of 10 % heals" in result.unhealed[name]
    assert result.left is not None
    lost = {path for found in result.left.damages for path in found.paths}
    assert b"large" in lost
    assert b"new0" not in lost


def test_what_is_damaged_is_not_protected_as_it_is(fast_path: Path) -> None:
    source = fast_path / "source"
    source.mkdir()
    make_tree(source, {"large": os.urandom(300_000)})
    repository = create(fast_path / "repository")
    back_up(repository, source)
    path = one_of(repository, "data.1")
    overwritten(path)
    (told,) = protected(repository)
    assert "data.1" in told
    assert not list(path.parent.glob("data.1.parity*"))
    assert list(path.parent.glob("index.1.parity*"))


def test_another_share_and_none(fast_path: Path) -> None:
    repository, _ = made(fast_path)
    protected(repository, 30)
    assert_protected(repository)
    assert not any(name.endswith(".parity.10") for name in files_of(repository))
    path = one_of(repository, "data.1")
    data = bytearray(path.read_bytes())
    data[: len(data) // 4] = bytes(len(data) // 4)
    path.write_bytes(data)
    assert repaired(repository).unhealed == {}
    assert damages(repository) == []
    protected(repository, 0)
    assert not any("parity" in name or "protection" in name for name in files_of(repository))
    make_tree(fast_path / "source", {"another": b"123"})
    back_up(repository, fast_path / "source")
    assert not any("parity" in name for name in files_of(repository))


def test_without_the_library_a_backup_is_made_and_it_is_told(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, _ = made(fast_path)

    def missing() -> None:
        raise LibraryMissing("Parity needs the Python library zfec: pip install 'ibtfs[protect]'")

    make_tree(fast_path / "source", {"another": b"123"})
    notes: list[str] = []
    observer = Observer()
    observer.note = notes.append  # type: ignore[method-assign]
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "zfec", None)
        assert back_up(repository, fast_path / "source", observer).point is not None
        with pytest.raises(LibraryMissing, match=r"pip install 'ibtfs\[protect\]'"):
            protect(reopened(repository), 10, Observer())
    assert any("pip install 'ibtfs[protect]'" in note for note in notes)
    assert erasure.parity_of([b"12"], 1) == [b"12"]
    protected(repository)
    assert_protected(repository)


def test_others_at_work_are_waited_for(fast_path: Path) -> None:
    repository, _ = made(fast_path)
    flips(one_of(repository, "data.1"))
    with reopened(repository).lock(SHARED), pytest.raises(RepositoryLocked):
        repaired(repository, wait=0)
    assert repaired(repository).unhealed == {}


def test_healing_that_is_cut_off_at_any_step_goes_on(fast_path: Path) -> None:
    repository, ids = made(fast_path)
    before = files_of(repository)
    root = Path(os.fsdecode(repository.path))
    for kind in KINDS[:-1]:
        flips(one_of(repository, kind))
    deleted(root / "points" / ids[2])
    for step in cut_at_each_step(root, lambda: repaired(repository), least=10):
        if step is None:
            assert files_of(repository) == before
        result = repaired(repository)
        assert result.unhealed == {}
        after = {name: d for name, d in files_of(repository).items() if not name.endswith(".part")}
        assert after == before


def test_protecting_that_is_cut_off_at_any_step_goes_on(fast_path: Path) -> None:
    repository, _ = made(fast_path)
    root = Path(os.fsdecode(repository.path))
    for step in cut_at_each_step(root, lambda: protected(repository, 20), least=10):
        assert damages(repository) == []
        (fast_path / "source" / "more").write_bytes(b"%d" % (step or 0))
        back_up(repository, fast_path / "source")  # removes what was begun
        assert protected(repository, 20) == []
        assert_protected(repository)


def test_points_that_are_forgotten_leave_the_parity_of_manifests(fast_path: Path) -> None:
    repository, ids = made(fast_path)
    way = Way(allow_none=True)
    result = forget_named(reopened(repository), ids[:2], datetime.now(timezone.utc), way)
    assert (result.gone, result.refused) == (ids[:2], {})
    assert_protected(repository)
    assert not any(ids[0].encode() in data for name, data in files_of(repository).items()
                   if name.startswith("protection/"))  # fmt: skip
    assert repaired(repository).healed == {}


def test_an_earlier_parity_of_manifests_that_was_left_tells_of_no_loss(fast_path: Path) -> None:
    repository, ids = made(fast_path)
    earlier = one_of(repository, "points parity")
    data = earlier.read_bytes()
    forget(repository, ids)
    back_up(repository, fast_path / "source", full=True)
    earlier.write_bytes(data)  # as by a run that was cut off before it was removed
    assert pruned(repository).failed == []
    assert reopened(repository).points.forgotten() == []
    assert damages(repository) == []
    assert_protected(repository)


def test_parity_that_nothing_keeps_up_is_told(fast_path: Path) -> None:
    repository, _ = made(fast_path)
    (Path(os.fsdecode(repository.path)) / "protection" / "redundancy.10").unlink()
    (told,) = damages(repository)
    assert "ibtfs protect" in told
    assert protected(repository) == []
    assert damages(repository) == []
