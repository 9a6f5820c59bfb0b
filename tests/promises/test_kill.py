"""Backups killed with SIGKILL in each of their phases: nothing earlier is lost, nothing stays.

A sample; ``scripts/campaign kill`` has the whole of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.killing import PHASES, START, Scene, calls_by_phase, make_scene, spread

KILLS = 4  # of each phase


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    work = tmp_path_factory.mktemp("killed")
    return make_scene(work, 400_000, seed=3, options=("--tag", "weekly"))


@pytest.mark.parametrize("phase", PHASES)
def test_killed_before_calls_of_a_phase(scene: Scene, phase: str) -> None:
    chosen = spread(calls_by_phase(scene.calls)[phase], KILLS)
    assert len(chosen) == KILLS
    for call in chosen:
        trial = scene.trial()
        assert trial.kill_before(call), f"the backup did not come to {call}"
        assert trial.phase() == phase
        assert trial.verify() == [], f"killed before {call}"


def test_killed_at_times_spread_over_a_backup(scene: Scene) -> None:
    for seconds in (0.1, 0.15, 0.2, 0.25):
        trial = scene.trial()
        trial.kill_after(seconds)
        assert trial.verify() == [], f"killed after {seconds} s"


def test_killed_twice_in_a_row(scene: Scene) -> None:
    """A fault while it recovers from a fault."""
    chosen = calls_by_phase(scene.calls)
    trial = scene.trial()
    assert trial.kill_before(chosen["manifest"][1])
    assert trial.kill_before(chosen["data"][-1])
    assert trial.verify() == []


def test_first_backup_killed_while_the_repository_is_made(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, 50_000, seed=4, earlier=0)
    for call in spread(calls_by_phase(scene.calls)[START], 5):
        trial = scene.trial()
        assert trial.kill_before(call)
        assert trial.verify() == [], f"killed before {call}"
