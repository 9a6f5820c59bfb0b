"""A repository in which points are removed and space is freed while the power is cut."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from ibtfs.store.repository import Repository
from tests.support.faulty import Scene, anything
from tests.support.power_cuts import Image, cut_states, lay_out
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


def _edited(repository: Repository, source: Path, count: int, rng: random.Random) -> list[str]:
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
        ids.append(the_point(back_up(repository, source)).id)
    return ids


class PowerCuts:
    """What a power cut may leave of a repository below *path*, of which some points are removed.

    With *bundles* the archives are put into bundles, too. Where *seed* is odd, archives are written
    anew; else anything may have happened between the points.
    """

    def __init__(self, path: Path, seed: int, *, bundles: bool, points: int = 6) -> None:
        self._scene = Scene(path, seed, points, _edited if seed % 2 else anything)
        place = str(self._scene.place)
        forget = [sys.executable, "-m", "ibtfs", "forget", "--quiet", place, *self._scene.gone]
        prune = [sys.executable, "-m", "ibtfs", "prune", "--quiet", place]
        if bundles:
            prune = [sys.executable, "-c", _PRUNE, place]
        self.states: list[Image] = cut_states([forget, prune], self._scene.place, path)
        """All of them that differ, in the order in which they may come about."""

    @property
    def stay(self) -> list[str]:
        """The ids of the points that are not removed."""
        return self._scene.stay

    def examine(self, state: Image) -> None:
        """Look at all points in one state; the next run has to end what was begun."""
        lay_out(state, self._scene.place)
        self._scene.look()
        self._scene.go_on()
