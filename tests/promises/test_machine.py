"""Anything in any order, beside a model: nothing is lost, nothing is wrong.

IBTFS_TEST_STEPS multiplies the steps; the long form is ``scripts/campaign machine``.
"""

from __future__ import annotations

import os
import random
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.support.damage import lowered
from tests.support.far import move_far_away
from tests.support.grounds import ground
from tests.support.machine import Machine

TIMES = int(os.environ.get("IBTFS_TEST_STEPS", "1"))
STEPS, STEPS_AWAY = 40 * TIMES, 15 * TIMES


@pytest.mark.parametrize("seed", range(4))
def test_anything_in_any_order(fast_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    with lowered() if seed % 2 else nullcontext():
        machine = Machine(fast_path, random.Random(seed), monkeypatch)
        for _ in range(STEPS):
            machine.step()
        machine.finish()
    assert machine.counts


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["local", "sftp", "s3"])
def test_anything_in_any_order_wherever_it_lies(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, seed: int
) -> None:
    """Sealed or not; where it lies with a server, whatever that and the network do."""
    with ground(kind, fast_path / "server", monkeypatch, sealed=bool(seed)) as chosen:
        machine = Machine(fast_path, random.Random(seed), monkeypatch, chosen)
        for _ in range(STEPS_AWAY):
            machine.step()
        machine.finish()
    assert machine.counts


@pytest.mark.parametrize("seed", range(2))
def test_anything_in_any_order_far_away(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What is remembered, fetched ahead and kept in the local cache changes nothing."""
    (fast_path / "indexes").mkdir()
    move_far_away(monkeypatch, os.fsencode(fast_path / "indexes"))
    with lowered() if seed % 2 else nullcontext():
        machine = Machine(fast_path, random.Random(100 + seed), monkeypatch)
        for _ in range(STEPS):
            machine.step()
        machine.finish()
    assert machine.repository.is_far
    assert any((fast_path / "indexes").rglob("*index.*"))
