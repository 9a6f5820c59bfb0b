"""Give every reader of bytes from outside whatever bytes lead somewhere new, by coverage.

The decoders of the format, what is read of objects of a repository and of the local cache, and the
readers of the toolkit, each a target in a process of its own, with 2 GiB of memory and five seconds
for an input.  Seeds come from real repositories; checksums, frames and compression are put around
the bytes, and values are changed as values.  A finding is any exception but ibtfs's own, something
that is not the same when it is written and read once more, or what takes too long or too much.
Works in memory (/dev/shm); half an hour on two cores.  Needs atheris: pip install 'ibtfs[fuzz]'.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from screen import say

from campaigns.base import working_folder
from tests.support import CHECKOUT
from tests.support.readers import READERS
from tests.support.readers.corpus import keep, kept, put, smallest
from tests.support.readers.seeds import seeds

LARGEST = 32 << 10
RESIDENT_MB = 1024
HANGS = 60
"""So many seconds by the clock are a hang; libFuzzer ends the process."""
PROGRESS = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
TRIED = re.compile(r"stat::number_of_executed_units: *(\d+)")
PEAK = re.compile(r"stat::peak_rss_mb: *(\d+)")


class Outcome(NamedTuple):
    """What came of a target: inputs tried, processor time, edges, inputs kept, most MB, and what
    was wrong."""

    name: str
    tried: int
    seconds: int
    edges: int
    corpus: int
    peak: int
    wrong: list[str]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    parser.add_argument("--target", nargs="+", metavar="NAME", choices=sorted(READERS),
                        default=sorted(READERS),
                        help=f"only these of: {', '.join(sorted(READERS))}")  # fmt: skip
    parser.add_argument("--seconds", type=int, default=90, help="for each target [90]")
    parser.add_argument("--workers", type=int, default=2, help="processes [2]")
    parser.add_argument("--corpus", metavar="FOLDER", type=Path,
                        help="begin with the inputs in here too, a folder for each target, and "
                        "keep what is found in it")  # fmt: skip
    parser.add_argument("--keep", action="store_true",
                        help="put the smallest inputs that do as much into tests/data")  # fmt: skip
    parser.add_argument("--work", help="folder to work in, best in memory [/dev/shm]")


def run(options: argparse.Namespace) -> int:
    """Do it all; 1 if anything was found."""
    if importlib.util.find_spec("atheris") is None:
        say("atheris is missing: .venv/bin/python -m pip install '.[fuzz]'")
        return 2
    began = time.monotonic()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with working_folder("fuzz", options.work or memory) as work:
        corpus = options.corpus or work / "corpus"
        prepare(work / "made", corpus)
        say(f"{'target':<18}{'inputs':>10}{'CPU s':>7}{'edges':>7}{'corpus':>8}{'MB':>6}  findings")
        outcomes: list[Outcome] = []
        shares = [options.target[first :: options.workers] for first in range(options.workers)]
        with ThreadPoolExecutor(options.workers) as pool:
            for share in shares:
                pool.submit(fuzz, share, work, corpus, options.seconds, outcomes)
        if options.corpus:
            shutil.copytree(work / "found", corpus / "found", dirs_exist_ok=True)
        if options.keep:
            store(corpus)
    wrong = sum(len(outcome.wrong) for outcome in outcomes)
    tried = sum(outcome.tried for outcome in outcomes)
    told = f"{wrong} findings" if wrong else "nothing was found"
    taken = f"{time.monotonic() - began:.0f} s, {sum(one.seconds for one in outcomes)} of the CPU"
    say(f"{tried:,} inputs, {len(outcomes)} targets: {told}; {taken}")
    return 1 if wrong else 0


def prepare(work: Path, corpus: Path) -> None:
    """Fill the folders of *corpus* with good inputs, and with those that were kept."""
    work.mkdir()
    for name in READERS:
        (corpus / name).mkdir(parents=True, exist_ok=True)
    for name, inputs in kept().items():
        put(corpus / name, inputs)
    for name, data in seeds(work):
        put(corpus / name, [data])
    shutil.rmtree(work)


def fuzz(names: list[str], work: Path, corpus: Path, seconds: int, outcomes: list[Outcome]) -> None:
    """Try some targets, each for so long, one after the other; what comes of each is shown."""
    words = [
        f"-max_total_time={seconds}", f"-max_len={LARGEST}", f"-rss_limit_mb={RESIDENT_MB}",
        f"-timeout={HANGS}", "-print_final_stats=1",
    ]  # fmt: skip
    environment = {
        **os.environ, "PYTHONPATH": f"{CHECKOUT / 'scripts'}:{CHECKOUT}", "TMPDIR": str(work),
    }  # fmt: skip
    command = [
        sys.executable, "-W", "ignore", "-m", "campaigns.fuzzing",
        str(work / "found"), str(corpus), *words, "--", *names,
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        waiting = list(names)
        for line in process.stdout:
            name, code, taken = line.split()
            waiting.remove(name)
            outcome = outcome_of(name, work / "found" / name, int(code), int(taken))
            outcomes.append(outcome)
            show(outcome)
        told = process.stderr.read()
    for name in waiting:
        outcomes.append(Outcome(name, 0, 0, 0, 0, 0, [f"did not run\n{told[-2000:]}"]))
        show(outcomes[-1])


def outcome_of(name: str, found: Path, code: int, seconds: int) -> Outcome:
    """What came of a target, by what libFuzzer told and what lies in the folder *found*."""
    told = (found / "log").read_text(errors="replace")
    wrong = [file.read_text() for file in sorted(found.glob("*.txt"))]
    if code:
        wrong.append(f"ended with {code}\n{told[-2000:]}")
    edges, _, inputs = (PROGRESS.findall(told) or [("0", "0", "0")])[-1]
    tried, peak = (int((pattern.findall(told) or ["0"])[-1]) for pattern in (TRIED, PEAK))
    return Outcome(name, tried, seconds, int(edges), int(inputs), peak, wrong)


def show(outcome: Outcome) -> None:
    """Print a target's line, and what was wrong."""
    name, tried, seconds, edges, corpus, peak, wrong = outcome
    say(f"{name:<18}{tried:>10,}{seconds:>7,}{edges:>7,}{corpus:>8,}{peak:>6,}  {len(wrong)}")
    for text in wrong:
        say(f"WRONG: {name}: {text.rstrip()}\n")


def store(corpus: Path) -> None:
    """Put the smallest inputs that do as much as all of *corpus* into tests/data."""
    chosen = {}
    for name, reader in READERS.items():
        inputs = [file.read_bytes() for file in (corpus / name).iterdir()]
        chosen[name] = smallest(reader, inputs)
        say(f"{name:<18}{len(chosen[name]):>8,} of {len(inputs):,} inputs kept")
    say(f"{keep(chosen):,} bytes in tests/data")
