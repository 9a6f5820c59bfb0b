"""Which units become one bundle, and which bundles are written anew: the arithmetic of it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ibtfs.store import layout
from ibtfs.store.archives.generations import all_generations, generations
from ibtfs.store.removal.bundling import BOUNDS, Bounds, Bundled, Bundler
from ibtfs.store.removal.held import Held, Unit, held_in_bundles
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import Space
from tests.support.bundles import bundles, make_versions, put_together
from tests.support.repositories import create, on_disk, reopened

SMALL = Bounds(least=3, tiers=(100, 1000), size=2000, archives=20, dead_share=4)


def bundler(bounds: Bounds = SMALL, **options: Any) -> Bundler:
    """One whose repository is nowhere, with 16 MiB and 100 blocks of 10 bytes of room."""
    space = Space(10, 0, 0, (16 << 20) // 10 + 101, 0, 0)
    repository = cast(Any, SimpleNamespace(storage=None, space=lambda: space))
    return Bundler(repository, cast(Any, None), bounds, **options)


def units(*sizes: int, archives: int = 1) -> list[Unit]:
    """Units of these sizes, the oldest first."""
    return [
        Unit(tuple(f"a{number:03}.{one}" for one in range(archives)), size)
        for number, size in enumerate(sizes)
    ]


def group(tier: int, found: list[Unit], bounds: Bounds = SMALL) -> list[int]:
    made = bundler(bounds)
    made._units = found[::-1]
    return [unit.size for unit in made._group(tier)]


def test_bounds_as_they_are() -> None:
    kib, mib = 1 << 10, 1 << 20
    assert (32, (64 * kib, 2 * mib, 64 * mib), 4 * mib, 86_400, 256 * mib, 16_384, 4) == BOUNDS
    assert Bounds(
        least=32, tiers=(64 * kib, 2 * mib, 64 * mib), archive_size=4 * mib, age=86_400,
        size=256 * mib, archives=16_384, dead_share=4,
    ) == BOUNDS  # fmt: skip
    assert Bundled() == Bundled(archives=0, written=0, freed=0, failed="")


@pytest.mark.parametrize(
    ("tier", "sizes", "expected"),
    [
        (0, [1, 2], []), (0, [1, 2, 3], [1, 2, 3]), (0, [0, 99, 5, 100], [0, 99, 5]),
        (0, [1, 2, 100], []), (1, [100, 999, 500, 99, 1000], [100, 999, 500]),
        (1, [99, 100, 999], []), (1, [900, 900, 200, 100], [900, 900, 200]),
        (1, [900, 900, 201, 100], [900, 900]), (1, [999, 999, 999], [999, 999]), (0, [], []),
    ],
)  # fmt: skip
def test_units_of_a_tier_become_one_when_there_are_enough(
    tier: int, sizes: list[int], expected: list[int]
) -> None:
    assert group(tier, units(*sizes)) == expected


def test_a_bundle_has_so_many_archives_and_bytes_at_most() -> None:
    assert group(0, units(*[10] * 3, archives=10)) == [10, 10]
    assert group(0, units(*[10] * 3, archives=11)) == []  # two of them would be too many
    assert group(0, units(*[10] * 5, archives=6)) == [10, 10, 10]
    # one alone is none
    assert group(1, units(900, 999, 900), SMALL._replace(size=1000)) == []


@pytest.mark.parametrize(
    ("held", "worn", "worn_of_all"),
    [
        (Held("b", 5, (), 100, 0, 0), False, False), (Held("b", 5, (), 100, 25, 0), False, True),
        (Held("b", 5, (), 100, 26, 0), True, True), (Held("b", 5, (), 100, 0, 2), False, False),
        (Held("b", 5, (), 100, 0, 3), True, False), (Held("b", 30, (), 100, 0, 9), False, False),
        (Held("b", 30, (), 100, 0, 10), True, False), (Held("b", 5, (), 100, 1, 9), True, True),
    ],
)  # fmt: skip
def test_bundles_of_which_much_is_dead_are_worn(held: Held, worn: bool, worn_of_all: bool) -> None:
    assert bundler()._is_worn(held) is worn
    assert bundler(all_of_it=True)._is_worn(held) is worn_of_all


def test_there_is_room_for_what_may_be_written() -> None:
    assert bundler()._is_room(1000)
    assert not bundler()._is_room(1020)
    assert bundler(most=500)._is_room(500)
    assert not bundler(most=499)._is_room(500)
    assert bundler(most=0)._is_room(0)


def test_what_is_kept_of_a_bundle_is_a_unit() -> None:
    assert Held("b", 5, ("x", "y"), 100, 30, 0).unit == Unit(("x", "y"), 70, "b")


@pytest.fixture
def bundled(fast_path: Path) -> tuple[Repository, list[str]]:
    """A repository whose eight archives lie in one bundle."""
    repository = create(fast_path / "repository")
    make_versions(repository, fast_path / "source", 8)
    ids = reopened(repository).archive_ids()
    put_together(repository)
    return reopened(repository), ids


@pytest.mark.damaged
def test_files_in_a_bundle_count_until_there_are_later_ones(
    bundled: tuple[Repository, list[str]],
) -> None:
    repository, ids = bundled
    storage = repository.storage
    (bundle,) = storage.bundles.all()
    sizes = [sum(m.size for m, _ in bundle.directory.members(n)) for n in range(8)]
    (held,) = held_in_bundles(storage)
    assert held == (bundle.name, 8, tuple(ids), sum(sizes), 0, 0)
    assert dict(all_generations(storage, ids)) == {name: {"index": 1} for name in ids}
    # one removed, one with a later index, one whose folder has something else
    folder = Path(os.fsdecode(storage.root)) / "archives"
    for number, name in ((1, layout.REMOVED), (3, "index.2"), (5, "index.1.parity.10")):
        (folder / ids[number]).mkdir()
        (folder / ids[number] / name).write_bytes(b"x")
    storage.forget()
    (held,) = held_in_bundles(storage)
    live = tuple(name for n, name in enumerate(ids) if n not in (1, 3))
    assert held == (bundle.name, 8, live, sum(sizes), sizes[1] + sizes[3], 3)
    assert held.unit.size == sum(sizes) - sizes[1] - sizes[3]
    assert generations(storage, ids[1]) == {}
    assert generations(storage, ids[3]) == {"index": 2}
    assert dict(all_generations(storage, ids[:4])) == {
        ids[0]: {"index": 1}, ids[1]: {}, ids[2]: {"index": 1}, ids[3]: {"index": 2},
    }  # fmt: skip


@pytest.mark.damaged
def test_of_two_bundles_the_larger_counts(bundled: tuple[Repository, list[str]]) -> None:
    repository, ids = bundled
    lock = repository.lock("prune")
    made = Bundler(reopened(repository), lock, SMALL)
    name, size = made._write(ids[2:5])
    lock.release()
    storage = reopened(repository).storage
    found = {held.name: held for held in held_in_bundles(storage)}
    assert len(found) == len(bundles(repository)) == 2
    assert found[name].live == ()
    assert found[name].dead == found[name].size < size
    (other,) = (held for held in found.values() if held.name != name)
    assert (len(other.live), other.dead) == (8, 0)
    assert held_in_bundles(storage) == sorted(found.values(), key=lambda held: held.name)


@pytest.mark.damaged
def test_ages_in_bundles_are_by_when_the_index_was_put_first(
    bundled: tuple[Repository, list[str]],
) -> None:
    repository, ids = bundled
    storage = repository.storage
    name = layout.archive_file(ids[0], layout.INDEX, 1)
    made = storage.made(name)
    assert made == storage.bundles.made(ids[0]) > 1_700_000_000
    now = on_disk(storage, layout.CONFIG)
    for after, age in ((100, 100.0), (0, 0.0), (-100, 0.0)):
        os.utime(now, (made + after, made + after))
        assert storage.age(name, layout.CONFIG) == age
    assert storage.age("archives/none0000.0/index.1", layout.CONFIG) == float("inf")
    assert storage.age("points/none", layout.CONFIG) == float("inf")
    assert (storage.made("points/none"), storage.made("archives/none0000.0/index.1")) == (0, 0)
