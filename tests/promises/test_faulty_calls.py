"""Commands that remove, free, heal and protect, killed or failed at some of their system calls.

``scripts/campaign calls`` does it at each.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.faulty_calls import FAULTS, JOBS, KILLED


@pytest.mark.parametrize("name", JOBS)
def test_a_fault_at_some_call_loses_nothing(fast_path: Path, name: str) -> None:
    job, rng = JOBS[name](fast_path, 3, 3), random.Random(name)
    calls = [call for call in job.calls() if call.name != "openat"]  # their numbers vary
    again = (rng.choice(calls), rng.choice(FAULTS)) if rng.randrange(3) == 0 else None
    assert job.examine(rng.choice(calls), rng.choice(FAULTS), again)[0]
    assert job.compared


def test_who_is_killed_has_not_done_his_work(fast_path: Path) -> None:
    """The trial itself: that is seen, and points that are not as they were."""
    job = JOBS["prune"](fast_path, 1, 4)
    calls = job.calls()
    made = {call.target.rpartition("/")[2] for call in calls}
    assert made >= {"index.2", "data.2", "removed"}, "the prune does not all that can be cut off"
    assert any("/bundles/" in call.target for call in calls)
    job.reset()
    assert job.fail(calls[5], KILLED)
    with pytest.raises(AssertionError):
        job.done(job.repository)
    for tree in job.trees.values():
        tree.pop(b"another")
    with pytest.raises(AssertionError, match="another"):
        job.look()
