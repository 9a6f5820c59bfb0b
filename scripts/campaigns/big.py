"""Measure one large file over many generations, read through a real mount.

Makes a file (512 MB by default) and backs up 70 generations of it, each with edits scattered all
over, so that the bound of the delta chain is crossed twice.  Then mounts the repository and prints:
the time to the first byte, random reads of 4 KiB in the middle, a sequential read of the newest
and the oldest generation compared with their digests, and the memory of the mount's process.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

from screen import say

from campaigns.base import working_folder
from campaigns.command import Failure, Ibtfs
from tests.support import file_digest

MIB = 1 << 20


def make(path: Path, size: int, rng: random.Random) -> None:
    """A file that compresses about by half."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write((rng.randbytes(64) + bytes(64)) * (MIB // 128))


def edit(path: Path, rng: random.Random, edits: int) -> None:
    """Overwrite short ranges all over the file."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(edits):
            file.seek(rng.randrange(size - 512))
            file.write(rng.randbytes(rng.randrange(16, 400)))


def memory(mount: Path) -> int:
    """The peak memory in bytes of the process that serves *mount*; 0 if it is not found."""
    needle = os.fsencode(mount)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            if needle in words and b"mount" in words:
                for line in (process / "status").read_text().splitlines():
                    if line.startswith("VmHWM"):
                        return int(line.split()[1]) * 1024
        except OSError:
            continue
    return 0


def timed_read(path: Path, offset: int, size: int) -> float:
    """Seconds to open, read and close."""
    begin = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        got = len(file.read(size))
    if got != size:
        raise Failure(f"{path}: {got} bytes read at {offset}, not {size}")
    return time.perf_counter() - begin


def measure(mount: Path, points: list[str], digests: list[str], size: int) -> bool:
    """Print the figures of the mounted points; whether the bytes were right."""
    rng = random.Random(5)
    newest = mount / "big" / points[-1] / "big.img"
    say(f"first byte of the newest generation: {timed_read(newest, 0, 1) * 1000:.1f} ms")
    times = sorted(timed_read(newest, rng.randrange(size - 4096), 4096) for _ in range(200))
    say(f"random 4 KiB reads: median {times[100] * 1000:.2f} ms, slowest {times[-1] * 1000:.2f} ms")
    good = True
    for number in (len(points) - 1, 0, len(points) // 2):
        begin = time.perf_counter()
        same = file_digest(mount / "big" / points[number] / "big.img") == digests[number]
        seconds = time.perf_counter() - begin
        good = good and same
        rate = size / seconds / 1e6
        verdict = "right" if same else "WRONG"
        say(f"generation {number}: {seconds:.2f} s, {rate:.0f} MB/s, {verdict}")
    say(f"peak memory of the mount: {memory(mount) / 1e6:.0f} MB")
    return good


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    parser.add_argument("--size", type=int, default=512, help="MB of the file [512]")
    parser.add_argument("--generations", type=int, default=70, help="after the first [70]")
    parser.add_argument("--edits", type=int, default=500, help="edits a generation [500]")
    parser.add_argument("--work", type=Path, help="folder to work in, below a new one")


def run(options: argparse.Namespace) -> int:
    """Make, back up, mount, measure."""
    ibtfs, rng, digests = Ibtfs(), random.Random(1), []
    with working_folder("big", options.work) as work:
        source, repository, mount = work / "big", work / "repo", work / "mnt"
        source.mkdir()
        mount.mkdir()
        make(source / "big.img", options.size * MIB, rng)
        begin = time.perf_counter()
        for generation in range(options.generations + 1):
            if generation:
                edit(source / "big.img", rng, options.edits)
            digests.append(file_digest(source / "big.img"))
            ibtfs.run("backup", "--quiet", source, repository)
        say(f"{options.generations + 1} backups: {time.perf_counter() - begin:.1f} s")
        with ibtfs.mounted(repository, mount):
            points = [point["name"] for point in ibtfs.points("list", repository)]
            good = measure(mount, points, digests, options.size * MIB)
    return 0 if good else 1
