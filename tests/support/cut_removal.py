"""A repository in which points are removed and space is freed while the power is cut."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from ibtfs.store.repository import Repository
from tests.support.faulty import Scene, anything
from tests.support.killing import Call
from tests.support.power_cuts import Image, calls_of, cut_states, lay_out
from tests.support.repositories import back_up, the_point

_PRUNE = """
import os, sys
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.store.removal.bundling import Bounds
from ibtfs.store.repository import Repository

soon = Bounds(least=2, age=-3600, tiers=(64 << 20,))  # any two archives, however young
done = prune(Repository.open(os.fsencode(sys.argv[1])), PruneOptions(bundles=soon), Observer())
assert done.failed == done.damages == []
"""
"""Frees space, and puts the archives that stay into a bundle."""


def edited(repository: Repository, source: Path, count: int, rng: random.Random) -> list[str]:
    """Back up a file that is edited, one that is always another, and at times one that stays."""
    source.mkdir()
    edited = bytearray(rng.randbytes(100_000))
    ids = []
    for number in range(count):
        edited[rng.randrange(len(edited))] ^= 1
        (source / "edited").write_bytes(edited)
        (source / "another").write_bytes(rng.randbytes(120_000))
        if number % 2 == 0:
            (source / f"stays {number}").write_bytes(rng.randbytes(20_000))
        for path in source.iterdir():
            os.utime(path, ns=(10**18, 10**18 + number))  # so that none is read for being young
        ids.append(the_point(back_up(repository, source, host=os.uname().nodename)).id)
    return ids


def _changed(call: Call) -> str:
    return call.target or call.path


class PowerCuts:
    """What a power cut may leave of a repository below *path*, of which some points are removed.

    With *bundles* the archives are put into bundles, too. Where *seed* is odd, archives are written
    anew; else anything may have happened between the points.
    """

    def __init__(self, path: Path, seed: int, *, bundles: bool, points: int = 6) -> None:
        self._path = path
        self._scene = Scene(path, seed, points, edited if seed % 2 else anything)
        place = str(self._scene.place)
        self._forget = [sys.executable, "-m", "ibtfs", "forget", "--quiet", place]
        self._forget += self._scene.gone
        self._prune = [sys.executable, "-m", "ibtfs", "prune", "--quiet", place]
        if bundles:
            self._prune = [sys.executable, "-c", _PRUNE, place]
        self.states = self._states([(self._forget, 0), (self._prune, 0)])
        """All of them that differ, in the order in which they may come about."""

    def _states(self, runs: list[tuple[list[str], int]]) -> list[Image]:
        self._scene.reset()
        return cut_states(runs, self._scene.place, self._path)

    def after_a_kill(self, named: str) -> list[Image]:
        """The states of one more run, after one that was killed with a name not synced yet.

        That is the first name with *named* in it that is given or taken, by removing points or by
        freeing space.
        """
        self._scene.reset()
        earlier: list[tuple[list[str], int]] = []
        for command in (self._forget, self._prune):
            met = False
            for call in calls_of(command, self._path):
                met = met or (call.name in ("linkat", "unlinkat") and named in _changed(call))
                if met and call.name == "fsync":
                    return self._states([*earlier, (command, call.number), (self._prune, 0)])
            earlier.append((command, 0))
        raise AssertionError(f"Nothing is named {named}")

    @property
    def stay(self) -> list[str]:
        """The ids of the points that are not removed."""
        return self._scene.stay

    def look(self, state: Image) -> None:
        """Look at all points in one state."""
        lay_out(state, self._scene.place)
        self._scene.look()

    def examine(self, state: Image) -> None:
        """Look at all points in one state; the next run has to end what was begun."""
        self.look(state)
        self._scene.go_on()
