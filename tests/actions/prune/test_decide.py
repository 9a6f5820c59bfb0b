"""What a prune decides: bounds that hold though all is planned anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ibtfs.actions.prune import decide as decide_module
from ibtfs.actions.prune.decide import Decision, decide
from ibtfs.store.removal.sizes import ArchiveSizes, Freed
from ibtfs.store.repository import Repository

NOTHING: frozenset[str] = frozenset()


def decided(costs: dict[str, int], frozen: frozenset[str]) -> Decision:
    """A decision to write all of *costs* anew but what is *frozen*."""
    sizes = {name: ArchiveSizes({"data": Freed(cost + 10_000, 10_000)}, True)
             for name, cost in costs.items()}  # fmt: skip
    plan = cast(Any, SimpleNamespace(damages=[]))
    rewritten = frozenset(costs) - frozen
    return Decision(plan, sizes, sorted(costs), NOTHING, rewritten, NOTHING, ((), {}), frozen,
                    NOTHING)  # fmt: skip


def test_what_is_to_be_written_only_because_others_stay_is_bounded_too(
    repository: Repository, source: Path, backup_of: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """An archive that was to go may have to be written anew when others stay as they are."""
    backup_of(source)
    asked: list[frozenset[str]] = []

    def work(_: object, marking: object, frozen: frozenset[str]) -> Decision:
        asked.append(frozen)
        costs = {"a": 5000, "b": 300}
        if "a" in frozen:
            costs["c"] = 200_000  # it held what "a" is built on
        if "c" in frozen:
            costs["b"] = 400
        return decided(costs, frozen)

    monkeypatch.setattr(decide_module._Work, "decided", work)
    found = decide(repository, max_rewrite=1000)
    assert asked == [frozenset(), frozenset({"a"}), frozenset({"a", "c"})]
    assert found.rewritten == {"b"}
    assert found.written == 400
    asked.clear()
    assert decide(repository).rewritten == {"a", "b"}
    assert len(asked) == 1
