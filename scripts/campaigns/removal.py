"""Fail at every step of removing points and freeing space: cut off, EIO, a full disk.

Each step that makes, writes, names, syncs or deletes something fails once; what is left must hold
every point that stays, whole, by check and by a reader that shares no code with it; the next run
must end it. Some fail again in that next run, at a step drawn anew.
"""

from __future__ import annotations

import argparse
import os
import random
import time
import traceback
from collections import Counter

import pytest
from screen import say

from campaigns.base import working_folder
from tests.support.faulty import FAULTS, Scene, examine


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    parser.add_argument("--scenes", type=int, default=10, help="repositories [10]")
    parser.add_argument("--every", type=int, default=1, help="only one step in N fails [1]")
    parser.add_argument("--seed", type=int, default=1, help="of the first scene [1]")
    parser.add_argument("--work", help="folder to work in, best in memory [/dev/shm]")


def run(options: argparse.Namespace) -> int:
    """Do it all; 1 if anything was wrong."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    counts: Counter[str] = Counter()
    points = wrong = 0
    began = time.monotonic()
    for seed in range(options.seed, options.seed + options.scenes):
        rng = random.Random(seed)
        with (
            working_folder("removal", options.work or memory) as work,
            pytest.MonkeyPatch.context() as patch,
        ):
            scene = Scene(work, seed)
            for fault in FAULTS:
                number, met = 0, True
                while met:
                    again = rng.randrange(60) if rng.random() < 0.3 else None
                    try:
                        met = examine(scene, patch, fault, number, again)
                    except Exception:
                        wrong += 1
                        say(f"WRONG: seed {seed}, {fault}, step {number}, then {again}: "
                            f"{traceback.format_exc(limit=-4)}")  # fmt: skip
                    counts[fault] += 1 + (again is not None)
                    points += len(scene.stay) * 2
                    number += options.every
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    say(f"{counts.total():,} faults ({told}), {points:,} points looked at")
    outcome = f"{wrong} with something wrong" if wrong else "nothing was lost or wrong"
    say(f"{outcome}; {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0
