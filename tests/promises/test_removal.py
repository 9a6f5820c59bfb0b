"""Whatever points are removed and whenever freeing is cut off, the others are whole."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from ibtfs.store.repository import Repository
from tests.support.crashing import cut_at_each_step
from tests.support.damage import lowered
from tests.support.histories import History
from tests.support.removal import assert_whole, forget, forget_some, pruned, stored_bytes
from tests.support.repositories import back_up, create, reopened, the_point

KIB = 1 << 10


@pytest.mark.parametrize("seed", range(8))
def test_what_stays_is_whole_after_any_points_are_removed(fast_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    repository = create(fast_path / "repository")
    with lowered() if seed % 3 else nullcontext():
        history = History(fast_path / "source", rng)
        for _ in range(3):
            for _ in range(rng.randrange(2, 8)):
                history.step()
                back_up(repository, fast_path / "source", full=rng.random() < 0.1)
            stay = forget_some(repository, rng)
            foretold = pruned(repository, dry_run=True).freed
            before = stored_bytes(repository)
            result = pruned(repository)
            assert reopened(repository).points.ids() == stay, history.log
            assert result.failed == result.damages == []
            assert abs(foretold - result.freed) <= max(before // 20, 4 * KIB)
            assert_whole(repository)
            again = pruned(repository)
            assert (again.freed, again.removed, again.rewritten) == (0, 0, 0)


def chain(path: Path, generations: int, seed: int = 1) -> Iterator[Path]:
    """A folder with a file that changes in place, one that grows, and small ones; yields it."""
    rng = random.Random(seed)
    source = path / "source"
    source.mkdir()
    large = bytearray(rng.randbytes(600 * KIB))
    log = b""
    for generation in range(generations):
        for _ in range(3):
            at = rng.randrange(len(large) - 3000)
            large[at : at + 3000] = rng.randbytes(3000)
        log += rng.randbytes(2000)
        (source / "large").write_bytes(large)
        (source / "log").write_bytes(log)
        (source / f"new{generation % 5}").write_bytes(rng.randbytes(5000))
        yield source


def with_chain(path: Path, generations: int) -> tuple[Repository, list[str]]:
    """A repository with a point for each generation of a chain, and the ids of these."""
    repository = create(path / "repository")
    ids = [the_point(back_up(repository, source)).id for source in chain(path, generations)]
    return repository, ids


def test_what_only_the_chain_held_is_freed(fast_path: Path) -> None:
    """A repository that only ever had the points that stay is not much smaller."""
    repository, ids = with_chain(fast_path, 40)
    (fast_path / "kept").mkdir()
    only_kept = create(fast_path / "kept" / "repository")
    for number, source in enumerate(chain(fast_path / "kept", 40)):
        if number in (9, 25, 39):
            back_up(only_kept, source)
    before = stored_bytes(repository)
    forget(repository, [one for number, one in enumerate(ids) if number not in (9, 25, 39)])
    result = pruned(repository)
    assert result.rebuilt > 0
    assert_whole(repository)
    assert stored_bytes(repository) < before
    assert stored_bytes(repository) <= 1.10 * stored_bytes(only_kept)


def test_a_cut_at_any_step_loses_nothing(fast_path: Path) -> None:
    repository, ids = with_chain(fast_path, 7)
    forget(repository, [ids[0], ids[2], ids[3], ids[6]])
    root, smallest = Path(os.fsdecode(repository.path)), 0
    for step in cut_at_each_step(root, lambda: pruned(repository), least=30):
        smallest = smallest or stored_bytes(repository)
        assert sorted(reopened(repository).points.ids()) == sorted([ids[1], ids[4], ids[5]])
        assert_whole(repository)
        (fast_path / "source" / "more").write_bytes(b"%d" % (step or 0))
        extra = the_point(back_up(repository, fast_path / "source"))
        assert_whole(repository)
        forget(repository, [extra.id])
        assert pruned(repository).failed == []
        assert_whole(repository)
        assert abs(stored_bytes(repository) - smallest) < 4 * KIB


def test_nothing_is_written_beyond_what_may_be(fast_path: Path) -> None:
    repository, ids = with_chain(fast_path, 10)
    forget(repository, ids[1:9])
    whole = pruned(repository, dry_run=True)
    for most in (0, whole.written // 3):
        result = pruned(repository, max_rewrite=most)
        assert result.written <= most
        assert_whole(repository)
    assert pruned(repository).freed > 0
    assert_whole(repository)


def test_deleted_for_good_is_what_the_last_point_had(fast_path: Path) -> None:
    repository, ids = with_chain(fast_path, 3)
    forget(repository, ids)
    assert pruned(repository).failed == []
    root = Path(os.fsdecode(repository.path))
    assert list((root / "archives").iterdir()) == list((root / "forgotten").iterdir()) == []
    back_up(repository, fast_path / "source")
    assert_whole(repository)
