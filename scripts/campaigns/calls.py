"""Fail at every system call that changes something, in real commands: killed, EIO, no space.

backup, forget, forget --prune, prune (which writes archives anew, builds contents on others and
makes bundles), purge, check --repair, repair --from and protect each run under strace; every call
that writes, names, syncs, cuts or deletes kills the command once, and fails once with each error.
Each time every point that stays must be whole, by check, by a reader that shares no code with it,
and restore to what it was before; a command that says that it has done its work must have done it;
and the next run must end it. Some of those fail, too, at a call drawn anew.
Needs strace, and two to three seconds a fault: about two hours (--every 5: half an hour).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from screen import say

from campaigns.base import add_jobs, until_stopped, working_folder
from tests.support.faulty_calls import FAULTS, JOBS, Job
from tests.support.killing import Call

POINTS = 5
AGAIN = 0.3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    add_jobs(parser, JOBS, "only one call in N fails [1]")


@dataclass
class Tally:
    """Faults of one command by kind, points compared, faults after which something was wrong."""

    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    again: int = 0
    points: int = 0
    wrong: int = 0
    seconds: float = 0


def run(options: argparse.Namespace) -> int:
    """Do it all; 1 if anything was wrong."""
    if shutil.which("strace") is None:
        say("strace is needed: apt-get install strace")
        return 2
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    tallies: dict[str, Tally] = {}
    with until_stopped():
        for name in options.command or JOBS:
            tallies[name] = Tally()
            with working_folder("calls", options.work or memory) as work:
                fail(name, work, options.every, options.seed, tallies[name])
    print_table(tallies)
    wrong = sum(tally.wrong for tally in tallies.values())
    say(f"{wrong} with something wrong" if wrong else "Nothing was lost or wrong")
    return 1 if wrong else 0


def fail(name: str, work: Path, every: int, seed: int, tally: Tally) -> None:
    """Fail at one call in *every* of one command, in each way."""
    began, rng = time.monotonic(), random.Random(seed)
    job = JOBS[name](work, seed, POINTS)
    calls = job.calls()
    tally.calls = len(calls)
    say(f"{name}: {len(calls)} calls ({shown(Counter(call.name for call in calls))})")
    for shift, fault in enumerate(FAULTS):
        # each fault at other calls than the one before, where only some fail
        for call in calls[shift * every // len(FAULTS) :: every]:
            again = (rng.choice(calls), rng.choice(FAULTS)) if rng.random() < AGAIN else None
            one(job, call, fault, again, tally)
            tally.points, tally.seconds = job.compared, time.monotonic() - began
    say(f"  failed at: {shown(tally.faults)}, {tally.again} again; {tally.wrong} wrong")
    if job.borne:
        say(f"  done all the same, though these failed: {shown(job.borne)}")


def one(job: Job, call: Call, fault: str, again: tuple[Call, str] | None, tally: Tally) -> None:
    """One fault, and what comes behind it."""
    try:
        met = job.examine(call, fault, again)
    except Exception:
        tally.wrong += 1
        where = f"{fault} at {call.name} {call.number}, {call.path} {call.target}, then {again}"
        say(f"WRONG: {where}: {traceback.format_exc(limit=-4)}")
        met = [True]
    tally.faults[fault] += met[0]
    tally.again += any(met[1:])


def print_table(tallies: dict[str, Tally]) -> None:
    """A line for each command, and one for all."""
    say(f"\n{'command':<24}{'calls':>6}" + "".join(f"{fault:>8}" for fault in FAULTS)
        + f"{'again':>7}{'points':>8}{'wrong':>7}{'s':>7}")  # fmt: skip
    for name, tally in tallies.items():
        counts = "".join(f"{tally.faults[fault]:>8,}" for fault in FAULTS)
        say(f"{name:<24}{tally.calls:>6,}{counts}{tally.again:>7,}{tally.points:>8,}"
            f"{tally.wrong:>7}{tally.seconds:>7.0f}")  # fmt: skip
    faults = sum(tally.faults.total() + tally.again for tally in tallies.values())
    points = sum(tally.points for tally in tallies.values())
    say(f"{faults:,} faults, {points:,} points compared")


def shown(counts: Counter[str]) -> str:
    """What was counted, in a line."""
    return ", ".join(f"{count} {name}" for name, count in counts.most_common() if count)
