"""Healing by parity, step by step: what counts as hurt, and what becomes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import ObjectExists
from ibtfs.store import layout
from ibtfs.store.protection.healing import (
    Healer,
    Hurt,
    damaged_sidecars,
    heal_configuration,
    is_mark_missing,
    missing_manifests,
)
from ibtfs.store.protection.keeping import Protection, protect_run
from ibtfs.store.repository import Repository
from tests.support.protecting import files_of
from tests.support.repositories import back_up, create, reopened, the_point


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    """A repository of two points, protected by a tenth: each archive is one index."""
    repository = create(fast_path / "repository")
    (fast_path / "source").mkdir()
    for name in ("a", "b"):
        (fast_path / "source" / name).write_bytes(os.urandom(30_000))
        back_up(repository, fast_path / "source")
    protection = Protection(reopened(repository))
    protection.set_share(10)
    kept = protection.complete()
    assert (kept.files, kept.failed) == (5, [])  # two indexes, two manifests, the configuration
    assert kept.written == sum(
        len(data) for name, data in files_of(repository).items()
        if ".parity." in name or name.startswith("protection/points.")
    )  # fmt: skip
    return reopened(repository)


def files(repository: Repository) -> list[str]:
    """The indexes."""
    ids = reopened(repository).archive_ids()
    return [layout.archive_file(archive_id, layout.INDEX, 1) for archive_id in ids]


def flip(repository: Repository, name: str, *places: int) -> None:
    path = Path(os.fsdecode(repository.path)) / name
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 1
    path.write_bytes(data)


def unlink(repository: Repository, name: str) -> None:
    os.unlink(Path(os.fsdecode(repository.path)) / name)


def healed(repository: Repository) -> tuple[list[str], dict[str, str]]:
    healer = Healer(reopened(repository))
    done = healer.heal(healer.find())
    return done.healed, done.lost


def test_what_is_whole_is_not_hurt(repository: Repository) -> None:
    beats: list[None] = []
    assert Healer(repository, lambda: beats.append(None)).find() == []
    assert len(beats) == 3
    assert damaged_sidecars(repository) == missing_manifests(repository) == []
    assert not is_mark_missing(repository)
    names = [(f"{name}.parity.10", name) for name in files(repository)]
    assert list(Protection(repository).sidecars()) == [*names, ("protection/points.1", "")]


def test_a_file_gets_back_its_bytes_and_the_sidecar_stays(repository: Repository) -> None:
    before, (name, _) = files_of(repository), files(repository)
    flip(repository, name, 100, 5000)
    hurt = [Hurt(f"{name}.parity.10", (name,), is_intact=True)]
    assert Healer(repository).find() == hurt
    assert healed(repository) == ([name], {})
    assert files_of(repository) == before


@pytest.mark.parametrize("place", [0, 30, -1, -100, "middle"])
def test_a_sidecar_is_written_anew_as_it_was(repository: Repository, place: int | str) -> None:
    before, (_, name) = files_of(repository), files(repository)
    sidecar = f"{name}.parity.10"
    flip(repository, sidecar, len(before[sidecar]) // 2 if isinstance(place, str) else place)
    assert Healer(repository).find() == [Hurt(sidecar, (), is_intact=False)]
    assert damaged_sidecars(repository) == [sidecar]
    assert healed(repository) == ([sidecar], {})
    assert files_of(repository) == before


def test_a_sidecar_that_cannot_be_read_goes(repository: Repository) -> None:
    before, (name, _) = files_of(repository), files(repository)
    sidecar = f"{name}.parity.10"
    size = len(before[sidecar])
    flip(repository, sidecar, 20, size - 20)
    assert Healer(repository).find() == [Hurt(sidecar, (), is_intact=False)]
    assert damaged_sidecars(repository) == [sidecar]
    assert healed(repository) == ([sidecar], {})
    assert files_of(repository) == {n: d for n, d in before.items() if n != sidecar}
    assert Healer(repository).find() == []  # it is missing, which is no damage


def test_a_file_and_its_sidecar_heal_together(repository: Repository) -> None:
    before, (name, _) = files_of(repository), files(repository)
    sidecar = f"{name}.parity.10"
    flip(repository, sidecar, 20)
    flip(repository, name, 100)
    assert Healer(repository).find() == [Hurt(sidecar, (name,), is_intact=False)]
    assert healed(repository) == ([name, sidecar], {})
    assert files_of(repository) == before


def test_what_is_beyond_the_share_stays_and_is_told(repository: Repository) -> None:
    (name, _) = files(repository)
    flip(repository, name, *range(0, 20_000, 512))
    before = files_of(repository)
    told = {name: f"{name}: more of it is damaged than parity of 10 % heals"}
    assert healed(repository) == ([], told)
    assert files_of(repository) == before
    # nor is a damaged sidecar written anew for what is not what it was
    sidecar = f"{name}.parity.10"
    flip(repository, sidecar, 20)
    before = files_of(repository)
    assert healed(repository) == ([], told)
    assert files_of(repository) == before


def test_what_is_to_be_there_and_what_is_not(repository: Repository) -> None:
    healer, (one, other) = Healer(repository), files(repository)
    folder = one.rpartition("/")[0]
    point = layout.point(repository.points.ids()[0])
    for name in (one, other, point, layout.CONFIG):
        assert healer.counts(name)
        unlink(repository, name)
        assert healer.counts(name)
    repository.points.note_forgotten(point.rpartition("/")[2])
    assert not healer.counts(point)
    # an older generation is not, if there is a newer one
    path = Path(os.fsdecode(repository.path)) / folder
    (path / "index.3").write_bytes(b"")
    assert [healer.counts(f"{folder}/index.{n}") for n in (1, 2, 3, 4)] == [
        False, False, True, True
    ]  # fmt: skip
    assert healer.counts(f"{folder}/data.1")
    (path / layout.REMOVED).write_bytes(b"")
    assert not healer.counts(f"{folder}/data.1")
    assert healer.counts(other)


def test_manifests_and_the_configuration_come_back(repository: Repository) -> None:
    before = files_of(repository)
    names = [layout.point(point_id) for point_id in repository.points.ids()]
    unlink(repository, names[0])
    unlink(repository, layout.CONFIG)
    assert missing_manifests(repository) == [layout.CONFIG, names[0]]
    assert heal_configuration(repository.path)
    assert missing_manifests(repository) == [names[0]]
    assert healed(repository) == ([names[0]], {})
    assert files_of(repository) == before
    os.unlink(Path(os.fsdecode(repository.path)) / "protection/points.1")
    assert not heal_configuration(repository.path)


def test_without_a_mark_parity_is_kept_by_nobody(repository: Repository) -> None:
    unlink(repository, layout.protection_mark(10))
    assert is_mark_missing(repository)
    assert Protection(repository).share == 0
    assert Protection(repository).take_away() == 3
    assert not is_mark_missing(repository)
    assert Protection(repository).take_away() == 0
    assert not any(".parity." in name for name in files_of(repository))


def test_one_share_counts(repository: Repository) -> None:
    protection = Protection(repository)
    assert protection.share == 10
    for share in (25, 5):
        protection.set_share(share)
        assert Protection(repository).share == share
        kept = Protection(repository).complete()
        assert (kept.files, kept.failed) == (5, [])
        names = [name for name, _ in protection.sidecars()]
        assert names[:2] == [f"{name}.parity.{share}" for name in files(repository)]
        assert len(names) == 3
        assert Protection(repository).complete().files == 0
    # where somebody was cut off, the larger one counts
    (Path(os.fsdecode(repository.path)) / layout.protection_mark(7)).write_bytes(b"")
    assert protection.share == 7
    protection.set_share(0)
    assert protection.share == 0
    assert repository.storage.list(layout.PROTECTION) == ["points.3"]
    assert Protection(repository).complete().files == 0


def test_only_what_a_run_wrote_is_protected_at_its_end(
    repository: Repository, fast_path: Path
) -> None:
    Protection(repository).take_away()
    newest = repository.points.all().points[-1]
    assert protect_run(reopened(repository), newest.id, lambda: None) == []
    name = layout.archive_file(newest.state.archive, layout.INDEX, 1)
    assert [one for one, _ in Protection(repository).sidecars()] == [
        f"{name}.parity.10", "protection/points.1"
    ]  # fmt: skip
    (fast_path / "source" / "c").write_bytes(b"c")
    point = the_point(back_up(repository, fast_path / "source"))
    assert f"archives/{point.id}.0/index.1.parity.10" in files_of(repository)
    assert [one for one in files_of(repository) if one.startswith("protection/points")] == [
        "protection/points.2"
    ]  # fmt: skip


def test_what_is_damaged_is_not_protected_so(repository: Repository) -> None:
    Protection(repository).take_away()
    (name, _) = files(repository)
    point = layout.point(repository.points.ids()[0])
    flip(repository, name, 100)
    flip(repository, point, 30)
    kept = Protection(reopened(repository)).complete()
    assert kept.files == 3
    assert [name in told or point in told for told in kept.failed] == [True, True]


def test_manifests_that_change_all_the_time_are_told(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink(repository, "protection/points.1")
    tries: list[str] = []

    def failing(_: Protection, sidecar: str, *__: object, **___: object) -> None:
        tries.append(sidecar)
        raise ObjectExists("another was faster")

    with monkeypatch.context() as patch:
        patch.setattr(Protection, "_write", failing)
        kept = Protection(repository).complete()
    assert kept.failed == ["The manifests change all the time: they are not protected yet"]
    assert tries == ["protection/points.1"] * 5
    assert Protection(repository).complete().files == 3


def test_the_newest_parity_of_manifests_counts_if_it_covers_all(repository: Repository) -> None:
    place = Path(os.fsdecode(repository.path)) / "protection"
    data = (place / "points.1").read_bytes()
    assert Protection(repository).complete().files == 0
    # one that cannot be read covers nothing, and is needed for nothing
    (place / "points.2").write_bytes(b"no sidecar")
    assert Protection(repository).complete().files == 3
    assert repository.storage.list("protection") == ["points.3", "redundancy.10"]
    # an earlier one stays as long as it may heal what no later one covers
    (place / "points.3").unlink()
    (place / "points.1").write_bytes(data)
    point_id = repository.points.ids()[0]
    unlink(repository, layout.point(point_id))
    fresh = reopened(repository)
    assert Protection(fresh).complete().files == 2
    assert fresh.storage.list("protection") == ["points.1", "points.2", "redundancy.10"]
    fresh.points.note_forgotten(point_id)
    assert Protection(fresh).complete().files == 0
    assert fresh.storage.list("protection") == ["points.2", "redundancy.10"]
    # and a configuration that is damaged is not protected as it is
    flip(fresh, layout.CONFIG, 20)
    unlink(fresh, "protection/points.2")
    kept = Protection(fresh).complete()
    assert kept.files == 1
    assert [layout.CONFIG in told for told in kept.failed] == [True]
