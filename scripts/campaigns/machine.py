"""Anything in any order: edits, backups, removals, cuts, damage and readers, beside a model.

Two sources whose clocks are a day apart go into one repository. Points are removed, whichever;
space is freed; runs are cut off at some step, and the next ones, too. Each point must be what the
model says, for who has just opened the repository and for who has had it open since long ago.
Half of the rounds have low bounds of the format, so that small trees cross them. With
``--storage sftp`` and ``--storage s3`` the repository lies with a real server, behind a gate that
cuts connections, refuses requests and loses replies.
"""

from __future__ import annotations

import argparse
import os
import random
import time
import traceback
from collections import Counter
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
from screen import say

from campaigns.base import until_stopped, working_folder
from tests.support.damage import lowered
from tests.support.grounds import Ground, ground
from tests.support.machine import Machine

STEPS_OF_A_ROUND = 150


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    parser.add_argument("--steps", type=int, default=10_000, help="steps in all [10000]")
    parser.add_argument("--seed", type=int, default=1, help="of the first round [1]")
    parser.add_argument("--storage", choices=["local", "sftp", "s3"], default="local",
                        help="where the repository lies; servers lose connections, refuse requests"
                             " and lose replies [local]")  # fmt: skip
    parser.add_argument("--sealed", action="store_true", help="seal the repository")
    parser.add_argument("--work", help="folder to work in, best in memory [/dev/shm]")


def one_round(work: Path, seed: int, steps: int, ground: Ground) -> tuple[Counter[str], bool]:
    """What was done in a life of *steps* steps, and whether nothing was wrong."""
    machine = None
    with pytest.MonkeyPatch.context() as patch, lowered() if seed % 2 else nullcontext():
        try:
            machine = Machine(work, random.Random(seed), patch, ground)
            for _ in range(steps):
                machine.step()
            machine.finish()
        except Exception:
            say(f"WRONG: seed {seed}: {traceback.format_exc(limit=-4)}")
            return machine.counts if machine else Counter(failed=1), False
        finally:
            if machine is not None:
                machine.close()
        return machine.counts, True


def run(options: argparse.Namespace) -> int:
    """Do it all; 1 if anything was wrong."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    counts: Counter[str] = Counter()
    wrong, seed, began = 0, options.seed, time.monotonic()
    with ExitStack() as stack, until_stopped():
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        there = stack.enter_context(working_folder("server", options.work or memory)) / "s"
        it = ground(options.storage, there, patch, sealed=options.sealed)
        chosen = stack.enter_context(it)
        while counts.total() < options.steps:
            steps = min(STEPS_OF_A_ROUND, options.steps - counts.total())
            with working_folder("machine", options.work or memory) as work:
                found, is_right = one_round(work, seed, steps, chosen)
            counts.update(found)
            wrong += not is_right
            seed += 1
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    say(f"{counts.total():,} steps in {seed - options.seed} rounds: {told}")
    outcome = f"{wrong} rounds with something wrong" if wrong else "nothing was lost or wrong"
    say(f"{outcome}; {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0
