"""The power is cut while points are removed and space is freed: whatever of it the disk lost or
kept, no point that stays is less than whole, and the next run ends it.

``scripts/campaign removal --power-cuts`` looks at more repositories, and at each state.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cut_removal import PowerCuts
from tests.support.killing import Call
from tests.support.power_cuts import Disk

LOOKED_AT = 12


@pytest.mark.parametrize("bundles", [False, True], ids=["freed", "bundled"])
def test_a_power_cut_loses_nothing(fast_path: Path, bundles: bool) -> None:
    cuts = PowerCuts(fast_path, seed=1, bundles=bundles, points=4)
    paths = {path for state in cuts.states for path in state}
    met = {path.split("/")[0] for path in paths} | {path.split("/")[-1] for path in paths}
    assert met >= {"forgotten", "locks", "removed", "index.2", "data.2"}
    assert bundles == any(path.startswith("bundles/") for path in paths)
    for number in range(0, len(cuts.states), max(1, len(cuts.states) // LOOKED_AT)):
        cuts.examine(cuts.states[number])


@pytest.mark.parametrize("named", ["/points/", "/index.2", "/bundles/"])
def test_what_a_killed_run_named_is_made_durable_too(fast_path: Path, named: str) -> None:
    """The next run builds on it: it must not be taken back when what it made needless is gone."""
    cuts = PowerCuts(fast_path, seed=1, bundles=True, points=4)
    for state in cuts.after_a_kill(named):
        cuts.look(state)


def test_what_a_power_cut_may_leave(tmp_path: Path) -> None:
    """The model itself: names and bytes that were not synced may be lost, alone or all."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "old").write_bytes(b"old")

    def call(name: str, path: str, text: str = "", target: str = "") -> Call:
        return Call(name, 1, str(root / path), str(root / target) if target else "", text, 3)

    disk = Disk(root)
    written = call("write", "part", r'5</x>, "n\145w", 3')
    made = call("openat", "part", "O_CREAT")
    old, empty, new = {"old": b"old"}, {"old": b"old", "part": b""}, {"old": b"old", "part": b"new"}

    def after(*calls: Call) -> list[dict[str, bytes | None]]:
        found: list[dict[str, bytes | None]] = []
        for state in map(dict, disk.states(calls)):
            if state not in found:
                found.append(state)
        return found

    assert after(made, written) == [old, empty, new]
    assert after(call("fsync", "part"))[1:] == [old], "its name may still be lost"
    linked = {**new, "named": b"new"}
    named = after(call("linkat", "part", target="named"), call("unlinkat", "part"))
    assert linked in named
    assert {"old": b"old", "named": b"new"} in named
    assert old in named, "each name may be lost"
    assert after(call("fsync", "")) == [{"old": b"old", "named": b"new"}]
    assert after(call("unlinkat", "old")) == [{"old": b"old", "named": b"new"}, {"named": b"new"}]
    folder = after(call("mkdirat", "d"), call("openat", "d/f", "O_CREAT"), call("fsync", "d"))
    assert {"named": b"new", "d": None, "d/f": b""} in folder
    assert {"named": b"new"} in folder, "a folder that is lost takes all with it"
