"""Damage a small repository in every way, a byte at a time, and see that it is told, or harmless.

Each byte of each file is changed by ^1 and by ^255; files are cut, deleted, swapped, replaced by
those of another repository, frames are swapped.  After each damage: check with all data, restore
of every point, and a read of everything through the mounted tree.  The outcome must be a message
that names the file hit, or harmless; never wrong bytes, a traceback, a hang, or silence.
Works in memory (/dev/shm); about half an hour on two cores, less with --every.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from screen import say

from campaigns.base import working_folder
from tests.support import damage
from tests.support.damage import GOOD, MEMORY_BYTES, Damage, Examiner, Outcome, Sample

SHOWN = 3  # bad outcomes of one kind that are printed
BATCH = 40

_examiners: list[Examiner] = []


def begin(sample: Sample, work: str) -> None:
    """Make this worker's copy of the repository."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    _examiners.append(Examiner(sample, Path(tempfile.mkdtemp(dir=work))))


def work_on(damages: list[Damage]) -> tuple[list[tuple[str, str, str, Outcome]], int]:
    """The outcomes of some damages, and the most memory that this worker ever had, in KiB."""
    found = [(item.kind, item.hit[0], item.what, _examiners[0].examine(item)) for item in damages]
    return found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def damages(sample: Sample, every: int) -> Iterator[Damage]:
    """All damages; of the bytes only one in *every*."""
    yield from damage.other_damages(sample)
    position = 0
    for name, data in sample.files.items():
        for place in range(len(data)):
            position += 1
            if position % every == 0:
                for value in (1, 255):
                    yield damage.flip(sample.files, name, place, value)


def batches(items: Iterator[Damage]) -> Iterator[list[Damage]]:
    """*items* in lists of BATCH."""
    batch: list[Damage] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def show(sample: Sample, counts: Counter[tuple[str, str, str]]) -> None:
    """Print the outcomes by sort of damage and of file, and by file for the bytes."""
    say(f"\n{'damage':<16}{'file':<14}" + "outcomes")
    rows = sorted({(kind, damage.kind_of(name)) for kind, name, _ in counts})
    for kind, sort in rows:
        found: Counter[str] = Counter()
        for (this, name, outcome), count in counts.items():
            if (this, damage.kind_of(name)) == (kind, sort):
                found[outcome] += count
        say(f"{kind:<16}{sort:<14}" + ", ".join(f"{n} {o}" for o, n in sorted(found.items())))
    say("\nBytes changed, by file:")
    for name, data in sample.files.items():
        found = Counter()
        for (kind, hit, outcome), count in counts.items():
            if hit == name and kind.startswith("byte"):
                found[outcome] += count
        told = ", ".join(f"{n} {o}" for o, n in sorted(found.items()))
        say(f"  {name:<66}{len(data):>6} bytes: {told}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    parser.add_argument("--every", type=int, default=1, help="change only one byte in N [1]")
    parser.add_argument("--workers", type=int, default=2, help="processes [2]")
    parser.add_argument("--work", help="folder to work in, best in memory [/dev/shm]")


def run(options: argparse.Namespace) -> int:
    """Do it all; 1 if any outcome was bad."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with working_folder("damage", options.work or memory) as work:
        return examine(work, options.every, options.workers)


def examine(work: Path, every: int, workers: int) -> int:
    """Examine all damages with some processes."""
    began = time.monotonic()
    sample = damage.build(work / "made")
    size = sum(map(len, sample.files.values()))
    say(f"{len(sample.files)} files, {size:,} bytes, {len(sample.expected)} backup points")
    counts: Counter[tuple[str, str, str]] = Counter()
    shown: Counter[tuple[str, str]] = Counter()
    peak = done = 0
    with multiprocessing.Pool(workers, begin, (sample, str(work))) as pool:
        for found, memory in pool.imap_unordered(work_on, batches(damages(sample, every))):
            peak = max(peak, memory)
            for kind, hit, what, outcome in found:
                counts[kind, hit, outcome.kind] += 1
                shown[kind, outcome.kind] += 1
                if outcome.kind not in GOOD and shown[kind, outcome.kind] <= SHOWN:
                    say(f"{outcome.kind}: {hit}: {what}: {outcome.detail[-1500:]}")
            done += len(found)
            if done % (50 * BATCH) == 0:
                say(f"... {done:,} damages, {time.monotonic() - began:.0f} s")
    show(sample, counts)
    bad = sum(count for (_, _, outcome), count in counts.items() if outcome not in GOOD)
    say(f"\n{done:,} damages, {bad:,} with a bad outcome; at most {peak >> 10} MiB of memory; "
        f"{time.monotonic() - began:.0f} s")  # fmt: skip
    return 1 if bad else 0
