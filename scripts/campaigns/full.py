"""Run commands on a disk of 64 MB that is full, with a little more room each time.

backup, forget, forget --prune, prune, purge, check --repair, repair --from and protect run with no
byte free, then with 4 KiB, and so on, until there was room enough three times. Each does its work,
or ends with its exit code and says that there is no space; every point that stays must be whole, by
check, by a reader that shares no code with it, and restore to what it was before; with room given
back the next run must end it. Needs root, and about three seconds a run.
"""

from __future__ import annotations

import argparse
import os
import time
import traceback
from pathlib import Path

from screen import say

from campaigns.base import add_jobs, until_stopped, working_folder
from tests.support.disks import small_disk
from tests.support.faulty_calls import JOBS
from tests.support.full_disks import BLOCK, SIZE, Crammed

POINTS = 5
ENOUGH = 3
MOST = 4 << 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    add_jobs(parser, JOBS, "steps of N times 4 KiB [1]")


def run(options: argparse.Namespace) -> int:
    """Do it all; 1 if anything was wrong."""
    if os.geteuid() != 0:
        say("Only root can mount a disk")
        return 2
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    wrong = runs = points = 0
    with until_stopped():
        for name in options.command or JOBS:
            with working_folder("full", options.work or memory) as work:
                done = cram(name, work, options.every * BLOCK, options.seed)
            runs, points, wrong = runs + done[0], points + done[1], wrong + done[2]
    say(f"{runs:,} runs, {points:,} points compared")
    say(f"{wrong} with something wrong" if wrong else "Nothing was lost or wrong")
    return 1 if wrong else 0


def cram(name: str, work: Path, step: int, seed: int) -> tuple[int, int, int]:
    """Run one command with more and more room; runs, points compared, runs with something wrong."""
    began = time.monotonic()
    runs = enough = wrong = room = needed = 0
    for folder in ("below", "job"):
        (work / folder).mkdir()
    with small_disk(work / "below", SIZE) as disk:
        job = JOBS[name](work / "job", seed, POINTS)
        crammed = Crammed(job, disk)
        while enough < ENOUGH and room < MOST:
            try:
                done = crammed.attempt(room)
                crammed.go_on()
            except Exception:
                wrong, done = wrong + 1, False
                say(f"WRONG: {name}, {room:,} bytes free: {traceback.format_exc(limit=-4)}")
            runs, enough = runs + 1, enough + done
            if not done:
                needed = room + step
            room += step
    took = time.monotonic() - began
    say(f"{name}: {runs} runs, enough with {needed:,} bytes free; {wrong} wrong; {took:.0f} s")
    return runs, job.compared, wrong
