"""Fail at every step of removing points and freeing space: cut off, EIO, a full disk.

Each step that makes, writes, names, syncs or deletes something fails once; what is left must hold
every point that stays, whole, by check and by a reader that shares no code with it; the next run
must end it. Some fail again in that next run, at a step drawn anew.
With --power-cuts the power is cut instead: every state that a disk may be left in, with what was
not synced lost or kept, alone or all of it, is looked at in the same way. Needs strace.
"""

from __future__ import annotations

import argparse
import os
import random
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from screen import say

from campaigns.base import until_stopped, working_folder
from tests.support.cut_removal import PowerCuts
from tests.support.faulty import FAULTS, Scene, examine


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    parser.add_argument("--scenes", type=int, default=10, help="repositories [10]")
    parser.add_argument("--every", type=int, default=1, help="only one step in N fails [1]")
    parser.add_argument("--power-cuts", action="store_true", help="cut the power instead")
    parser.add_argument("--seed", type=int, default=1, help="of the first scene [1]")
    parser.add_argument("--work", help="folder to work in, best in memory [/dev/shm]")


def run(options: argparse.Namespace) -> int:
    """Do it all; 1 if anything was wrong."""
    tally = Tally()
    began = time.monotonic()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with until_stopped():
        for seed in range(options.seed, options.seed + options.scenes):
            with working_folder("removal", options.work or memory) as work:
                if options.power_cuts:
                    cut_power(work, seed, options.every, tally)
                else:
                    fail(work, seed, options.every, tally)
    told = ", ".join(f"{count:,} {name}" for name, count in tally.faults.items())
    say(f"{tally.faults.total():,} faults ({told}), {tally.points:,} points looked at")
    outcome = f"{tally.wrong} with something wrong" if tally.wrong else "nothing was lost or wrong"
    say(f"{outcome}; {time.monotonic() - began:.0f} s")
    return 1 if tally.wrong else 0


@dataclass
class Tally:
    """Faults by kind, points that were looked at, faults after which something was wrong."""

    faults: Counter[str] = field(default_factory=Counter)
    points: int = 0
    wrong: int = 0

    def blame(self, where: str) -> None:
        """Count and tell what is being raised."""
        self.wrong += 1
        say(f"WRONG: {where}: {traceback.format_exc(limit=-4)}")


def fail(work: Path, seed: int, every: int, tally: Tally) -> None:
    """Fail at one step in *every* of one repository, in each way."""
    rng, scene = random.Random(seed), Scene(work, seed)
    with pytest.MonkeyPatch.context() as patch:
        for fault in FAULTS:
            number, met = 0, True
            while met:
                again = rng.randrange(60) if rng.random() < 0.3 else None
                try:
                    met = examine(scene, patch, fault, number, again)
                except Exception:
                    tally.blame(f"seed {seed}, {fault}, step {number}, then {again}")
                tally.faults[fault] += 1 + (again is not None)
                tally.points += len(scene.stay) * 2
                number += every


def cut_power(work: Path, seed: int, every: int, tally: Tally) -> None:
    """Look at one state in *every* that a power cut may leave of one repository."""
    cuts = PowerCuts(work, seed, bundles=seed % 4 > 1)
    for number in range(0, len(cuts.states), every):
        try:
            cuts.examine(cuts.states[number])
        except Exception:
            tally.blame(f"seed {seed}, state {number}")
        tally.faults["power cuts"] += 1
        tally.points += len(cuts.stay) * 2
