"""Kill real backups with SIGKILL, a hundred times and more, and look at what is left each time.

After each kill every earlier point must restore to exactly what it was, the next backup must
succeed, `check --read-data` must be clean, and nothing of the dead run may be left over.
Kills come at times spread over the measured length of a backup, and before chosen system calls
for the phases that last only milliseconds: data, index, manifest.  Then a small backup is killed
before every single call that writes, and some twice in a row.  At last a first backup of 3 GB is
killed at 80 % of its bytes; the next one must store less than 40 % anew.
Needs strace; 20 GB of room and about half an hour (--no-large: 1 GB, ten minutes).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from screen import say

from campaigns.base import working_folder
from tests.support import killing, snapshot
from tests.support.killing import (
    DATA,
    FINISHED,
    PHASES,
    START,
    SWEPT,
    Call,
    Problems,
    Scene,
    Trial,
    calls_by_phase,
    damages,
    leftovers,
    make_scene,
    spread,
)

MIB = 1 << 20
LEAST = 20
LARGE_BYTES = 3_000_000_000
KILLED_AT, STORED_ANEW = 0.8, 0.4


@dataclass
class Counts:
    """Kills by phase and how they came about; what was wrong."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    problems: int = 0

    def add(self, phase: str, how: str, found: list[str]) -> None:
        """Count one kill and say what was wrong after it."""
        self.kills[phase, how] += 1
        self.wrong[phase] += bool(found)
        self.problems += bool(found)
        self.kinds.update({line.partition(":")[0] for line in found})
        for line in found[:4]:
            say(f"  PROBLEM, killed {how} in phase {phase}: {line[:400]}")

    def hit(self, phase: str) -> int:
        """How many kills hit *phase*."""
        return sum(count for (name, _), count in self.kills.items() if name == phase)

    def print(self, title: str) -> None:
        """Print the table."""
        ways = sorted({how for _, how in self.kills})
        say(f"\n{title}")
        say(f"{'phase':<10}{'kills':>7}" + "".join(f"{way:>24}" for way in ways) + f"{'wrong':>8}")
        for phase in (START, *PHASES, FINISHED):
            counts = "".join(f"{self.kills[phase, way]:>24}" for way in ways)
            say(f"{phase:<10}{self.hit(phase):>7}{counts}{self.wrong[phase]:>8}")
        total = sum(self.kills.values())
        say(f"{'all':<10}{total:>7}, {self.problems} with something wrong: {dict(self.kinds)}\n")


def spread_kills(work: Path, kills: int, size: int, seed: int) -> Counts:
    """Kill backups of *size* bytes *kills* times, at least LEAST in each phase."""
    scene = make_scene(work, size, seed, options=("--tag", "weekly"))
    counts = Counts()
    begin, length = measured(scene)
    say(f"A backup that nothing disturbs takes {length:.2f} s; its lock is there at {begin:.2f} s")
    timed = max(kills - 3 * LEAST - 3, 3 * kills // 10)
    for number in range(timed):
        trial = scene.trial()
        killed = trial.kill_after(begin + (number + 0.5) / timed * (length - begin))
        counts.add(trial.phase() if killed else FINISHED, "after a time", trial.verify())
    calls = scene.calls
    chosen = calls_by_phase(calls)
    say("Calls to be killed before: " + ", ".join(f"{p} {len(c)}" for p, c in chosen.items()))
    least = min(LEAST, max(1, kills // 4))
    for phase in PHASES:
        wanted = max(least - counts.hit(phase), 0 if phase == DATA else least // 2)
        for call in spread(chosen[phase], wanted):
            by_call(scene, call, counts)
    while sum(counts.kills.values()) - counts.hit(FINISHED) < kills:
        by_call(scene, random.Random(seed + counts.hit(DATA)).choice(chosen[DATA]), counts)
    return counts


def measured(scene: Scene) -> tuple[float, float]:
    """When a backup takes its lock, and how long it takes in all: medians of three."""
    begins, lengths = [], []
    for _ in range(3):
        begin, length = measured_once(scene.trial())
        begins.append(begin)
        lengths.append(length)
    return sorted(begins)[1], sorted(lengths)[1]


def measured_once(trial: Trial) -> tuple[float, float]:
    """When one backup takes its lock, and how long it takes."""
    seen: list[float] = []
    began = time.monotonic()

    def look() -> bool:
        if not seen and any((trial.repository / "locks").glob("shared*")):
            seen.append(time.monotonic() - began)
        return False

    trial.kill_when(look)
    length = time.monotonic() - began
    shutil.rmtree(trial.place)
    return seen[0], length


def by_call(scene: Scene, call: Call, counts: Counts) -> None:
    """Kill a backup before *call*."""
    trial = scene.trial()
    killed = trial.kill_before(call)
    counts.add(trial.phase() if killed else FINISHED, "before a call", trial.verify())


def sweep(work: Path, seed: int) -> Counts:
    """Kill small backups before every call that changes something, then some twice."""
    counts = Counts()
    scenes = [("first", 0, 60_000, ()), ("incremental", 2, 60_000, ("--tag", "weekly")),
              ("larger", 1, 900_000, ("--full",))]  # fmt: skip
    for name, earlier, size, options in scenes:
        (work / name).mkdir()
        scene = make_scene(work / name, size, seed, earlier=earlier, options=options)
        calls = scene.calls
        numbers = Counter(call.name for call in calls if call.name in SWEPT)
        say(f"Sweep of the {name} backup: {dict(numbers)}")
        for call, count in numbers.items():
            for number in range(1, count + 1):
                trial = scene.trial()
                killed = trial.kill_before((call, number))
                phase = trial.phase() if killed else FINISHED
                counts.add(phase, f"{name}, each call", trial.verify())
        twice(scene, calls, counts, random.Random(seed))
    return counts


def twice(scene: Scene, calls: list[Call], counts: Counts, rng: random.Random) -> None:
    """Kill the backup that follows a kill, too, and then verify."""
    changing = [call for call in calls if call.name in SWEPT]
    for _ in range(12):
        trial = scene.trial()
        trial.kill_before(rng.choice(changing))
        trial.kill_before(rng.choice(changing))
        counts.add(trial.phase(), "twice in a row", trial.verify())


def large(work: Path, files: int, total: int, seed: int) -> list[str]:
    """Kill a first backup of *total* bytes in *files* files at 80 %; what the next one stores."""
    (work / "base" / "cache").mkdir(parents=True)
    scene = Scene(work)
    scene.source.mkdir()
    rng = random.Random(seed)
    for number in range(files):
        with open(scene.source / f"{number:04}", "wb", buffering=0) as file:
            left = total // files
            while left:
                left -= file.write(rng.randbytes(min(left, 4 * MIB)))
    time.sleep(0.2)
    trial = scene.trial()
    began = time.monotonic()
    killed = trial.kill_when(lambda: trial.stored_bytes() >= KILLED_AT * total)
    took, at = time.monotonic() - began, trial.stored_bytes()
    whole = {p.name: p.stat().st_size for p in (trial.repository / "archives").glob("*/*.[0-9]")}
    known = {path.parent.name for path in (trial.repository / "archives").glob("*/index.*")}
    began = time.monotonic()
    code, said = killing.run(trial.command, trial.cache)
    again = time.monotonic() - began
    new = [p for p in (trial.repository / "archives").glob("*/*") if p.parent.name not in known]
    anew = sum(path.stat().st_size for path in new)
    say(
        f"3 GB in {files} file(s): killed after {took:.0f} s with {at:,} bytes written, "
        f"{len(known)} archives whole ({len(whole)} kinds of files); the next backup took "
        f"{again:.0f} s and stored {anew:,} bytes anew: {anew / total:.1%}"
    )
    found = [] if killed else ["it was over before it could be killed"]
    found += [f"the next backup: exit {code}: {said[-300:]}"] if code else []
    found += [f"{anew / total:.1%} stored anew"] if anew >= STORED_ANEW * total else []
    found += compare_large(trial) + damages(trial.repository) + leftovers(trial.repository)
    shutil.rmtree(work)
    return found


def compare_large(trial: Trial) -> list[str]:
    """Restore the one point and compare it with the source, bytes and all."""
    trial.scene.newest = snapshot(trial.scene.source)
    found = Problems()
    if trial.compare(found, "after the next backup") != 1:
        found.lines.append("there is not just one point")
    return found.lines


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    parser.add_argument("--kills", type=int, default=100, help="kills at times and calls [100]")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("/var/tmp"),
        help="folder to work in, below a new one [/var/tmp]",
    )
    parser.add_argument("--seed", type=int, default=1, help="of all that is random [1]")
    parser.add_argument("--size", type=int, default=64 * MIB, help="bytes of the source [64 MiB]")
    parser.add_argument("--no-large", action="store_true", help="leave out the 3 GB")
    parser.add_argument("--no-sweep", action="store_true", help="leave out the sweep of all calls")


def run(options: argparse.Namespace) -> int:
    """Run it all; 1 if anything was wrong."""
    if shutil.which("strace") is None:
        say("strace is needed: apt-get install strace")
        return 2
    began = time.monotonic()
    with working_folder("kill", options.work) as work:
        wrong = everything(work, options)
    found = f"{wrong} with something wrong" if wrong else "nothing was wrong"
    say(f"{time.monotonic() - began:.0f} s; {found}")
    return 1 if wrong else 0


def everything(work: Path, options: argparse.Namespace) -> int:
    """All parts, each in a folder of its own; how many kills had something wrong."""
    parts = ["spread", "sweep", "many", "one"]
    for part in parts:
        os.mkdir(work / part)
    wrong = 0
    if options.kills:
        counts = spread_kills(work / "spread", options.kills, options.size, options.seed)
        counts.print(f"{options.kills} kills of a backup of {options.size:,} bytes")
        short = [p for p in PHASES if counts.hit(p) < min(LEAST, options.kills // 4)]
        for phase in short:
            say(f"  PROBLEM: only {counts.hit(phase)} kills hit the phase {phase}")
        wrong += counts.problems + len(short)
        shutil.rmtree(work / "spread")
    if not options.no_sweep:
        counts = sweep(work / "sweep", options.seed)
        counts.print("Small backups, killed before every call that changes something")
        wrong += counts.problems
        shutil.rmtree(work / "sweep")
    for part, files in () if options.no_large else (("many", 600), ("one", 1)):
        found = large(work / part, files, LARGE_BYTES, options.seed)
        for line in found:
            say(f"  PROBLEM: {line[:400]}")
        wrong += bool(found)
    return wrong
