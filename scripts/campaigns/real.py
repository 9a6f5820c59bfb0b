"""Back up real data, many generations of it, and compare every backup point with what was there.

Five inputs: a system tree with the oddest of entries, successive releases of Django, a SQLite
database, a sparse disk image, a growing log. Each generation is recorded by a plain model at the
time of its backup; afterwards each point is restored, and read through a real mount, and compared
with its record: contents and all metadata, and ranges read at random. Runs the real command.
Best as root: nobody else can make devices and owners.  10 GB of room and most of an hour; with
--small, two minutes.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from screen import say

from campaigns.command import Failure, Ibtfs
from tests.support import Entry, differences, realdata, snapshot
from tests.support.histories import History
from tests.support.trees import nasty_tree

MIB = 1 << 20
SHOWN = 20  # differences of one comparison that are printed
ROW = "{:<10} {:<24} {:<8} {:>8} {:>8} {:>15} {:>7} {:>12} {:>8}"


# ---- inputs: each changes its source and yields before every backup ---------------------------


def system(source: Path, rng: random.Random, small: bool) -> Iterator[None]:
    """Yield three states of a copy of the system with the nasty tree and a random history."""
    files = realdata.system_copy(source / "system", files=3_000 if small else 50_000)
    refused = nasty_tree(source / "nasty")
    history = History(source / "history", rng)
    say(f"system: {files:,} files copied; left out of the nasty tree: {refused or 'nothing'}")
    yield
    realdata.change_system(source / "system", rng, changes=100 if small else 1000)
    nasty_tree(source / "nasty again")
    history.step()
    yield
    realdata.change_system(source / "system", rng, changes=50 if small else 500)
    shutil.rmtree(source / "nasty")
    history.step()
    yield


def django(source: Path, _rng: random.Random, small: bool) -> Iterator[None]:
    """Yield successive releases of Django, each unpacked over the one before."""
    versions = realdata.DJANGO[: 3 if small else 5]
    for version, _ in zip(versions, realdata.django_releases(source, versions), strict=True):
        say(f"django: {version}")
        yield


def database(source: Path, rng: random.Random, small: bool) -> Iterator[None]:
    """Yield six states of a database, rows changed in between."""
    path = source / "items.sqlite"
    rows = realdata.sqlite_database(path, rng, size=(20 if small else 300) * MIB)
    say(f"database: {rows:,} rows, {path.stat().st_size:,} bytes")
    yield
    for _ in range(2 if small else 5):
        realdata.change_rows(path, rng, rows=rows // 300)
        yield


def image(source: Path, rng: random.Random, small: bool) -> Iterator[None]:
    """Yield four states of a sparse file with an ext4 file system in it."""
    path = source / "disk.img"
    realdata.ext4_image(path, size=256 * MIB if small else 2048 * MIB, content=Path("/etc"))
    for generation in range(3 if small else 4):
        realdata.change_inside(path, rng, files=5 if small else 40)
        st = path.stat()
        say(f"image: {generation}: {st.st_size:,} bytes, {st.st_blocks * 512:,} allocated")
        yield


def log(source: Path, rng: random.Random, small: bool) -> Iterator[None]:
    """Yield five states of a growing log, rotated once."""
    path = source / "service.log"
    for generation in range(5):
        realdata.growing_log(path, rng, size=(1 if small else 20) * MIB)
        if generation == 3:
            path.rename(source / "service.log.1")
            realdata.growing_log(path, rng, size=10_000)
        yield


INPUTS: dict[str, Callable[[Path, random.Random, bool], Iterator[None]]] = {
    "system": system, "django": django, "database": database, "image": image, "log": log,
}  # fmt: skip


# ---- the work --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """What was compared of one point, in one way."""

    input: str
    point: str
    way: str
    entries: int
    files: int
    bytes: int
    ranges: int
    differences: int
    seconds: float


class Run:
    """One verification below the folder *work*."""

    def __init__(self, work: Path, ibtfs: Ibtfs, options: argparse.Namespace) -> None:
        self.work, self.ibtfs, self.options = work, ibtfs, options
        self.repository, self.mountpoint = work / "repository", work / "mount"
        self.taken: dict[str, str] = {}  # the input of each point, by id, in order
        self.done: list[Comparison] = []
        self.ignored = () if _counts_subdirectories(work) else ("directory_nlink",)
        (work / "records").mkdir()
        self.mountpoint.mkdir()

    def back_up(self, name: str) -> None:
        """Take a backup of every generation of an input, and record each."""
        source = self.work / "sources" / name
        source.mkdir(parents=True)
        for _ in INPUTS[name](source, random.Random(f"{self.options.seed} {name}"),
                              self.options.small):  # fmt: skip
            record = snapshot(source)
            start = time.monotonic()
            points = self.ibtfs.points("backup", source, self.repository)
            seconds = time.monotonic() - start
            if len(points) != 1 or points[0]["id"] in self.taken:
                raise Failure(f"backup of {name}: not one new point: {points}")
            self.taken[points[0]["id"]] = name
            with self.record_path(points[0]["id"]).open("xb") as file:
                pickle.dump(record, file)
            say(f"{name}: {points[0]['name']}: {len(record):,} entries in {seconds:.1f} s")

    def record_path(self, point: str) -> Path:
        """Return where the record of a point lies."""
        return self.work / "records" / f"{point}.pickle"

    def verify(self) -> None:
        """Compare all points with their records, restored and mounted."""
        points = self.ibtfs.points("list", self.repository)
        if [point["id"] for point in points] != list(self.taken):
            raise Failure(f"list shows {points}, taken were {self.taken}")
        with self.ibtfs.mounted(self.repository, self.mountpoint):
            say("\n" + ROW.format(*(name.upper() for name in Comparison.__dataclass_fields__)))
            for point in points:
                self.verify_point(point)
        self.ibtfs.run("check", self.repository, "--read-data")

    def verify_point(self, point: dict[str, str]) -> None:
        """Compare one point in both ways, then the two with each other at random ranges."""
        with self.record_path(point["id"]).open("rb") as file:
            record: dict[bytes, Entry] = pickle.load(file)
        restored = self.work / "restored"
        mounted = self.mountpoint / point["source"] / point["name"]
        start = time.monotonic()
        self.ibtfs.run("restore", self.repository, point["id"], restored)
        self.compare(point, "restored", record, restored, start)
        self.compare(point, "mounted", record, mounted, time.monotonic())
        shutil.rmtree(restored)

    def compare(
        self,
        point: dict[str, str],
        way: str,
        record: Mapping[bytes, Entry],
        tree: Path,
        start: float,
    ) -> None:
        """Compare a tree with a record, and print the result as a row."""
        also = ("blocks", "directory_size") if way == "mounted" else ("blocks",)
        found: dict[bytes, Entry] = {}
        ranges = 0
        try:
            found = snapshot(tree)
            lines = differences(record, found, ignore=self.ignored, also=also, limit=sys.maxsize)
            if way == "mounted":
                wrong, ranges = self.compare_ranges(record, tree)
                lines += wrong
        except OSError as error:
            lines = [f"cannot be read: {error}"]
        files = [entry for entry in found.values() if entry.type == "file"]
        row = Comparison(
            input=self.taken[point["id"]], point=point["name"], way=way, entries=len(found),
            files=len(files), bytes=sum(entry.size for entry in files), ranges=ranges,
            differences=len(lines), seconds=time.monotonic() - start,
        )  # fmt: skip
        self.done.append(row)
        counts = [f"{count:,}" for count in (row.entries, row.files, row.bytes)]
        result = (row.ranges, row.differences, f"{row.seconds:.1f}")
        say(ROW.format(row.input, row.point, row.way, *counts, *result))
        for line in lines[:SHOWN]:
            say(f"    {line}")

    def compare_ranges(self, record: Mapping[bytes, Entry], mounted: Path) -> tuple[list[str], int]:
        """Read random ranges of the largest files, mounted and restored; return what differs."""
        rng, wrong, count = random.Random(self.options.seed), [], 0
        files = [(entry.size, path) for path, entry in record.items() if entry.type == "file"]
        for size, path in sorted(files, reverse=True)[:4]:
            pair = [os.path.join(os.fsencode(root), path)
                    for root in (self.work / "restored", mounted)]  # fmt: skip
            if not all(os.path.lexists(p) and stat.S_ISREG(os.lstat(p).st_mode) for p in pair):
                continue  # told already
            for offset, length in _ranges(rng, size):
                count += 1
                if _read(pair[0], offset, length) != _read(pair[1], offset, length):
                    wrong.append(f"{path!r}: {length} bytes at {offset} read otherwise mounted")
        return wrong, count

    def summary(self) -> int:
        """Print what was compared, by input; return the number of differences."""
        say("")
        for name in dict.fromkeys(self.taken.values()):
            rows = [row for row in self.done if row.input == name]
            say(f"{name}: {len({row.point for row in rows})} points, {len(rows)} comparisons of "
                f"{sum(row.entries for row in rows):,} entries and "
                f"{sum(row.bytes for row in rows):,} bytes, "
                f"{sum(row.ranges for row in rows)} ranges: "
                f"{sum(row.differences for row in rows)} differences")  # fmt: skip
        return sum(row.differences for row in self.done)


def _counts_subdirectories(work: Path) -> bool:
    """Tell whether this file system counts subdirectories in nlink (btrfs does not)."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        Path(folder, "sub").mkdir()
        return os.stat(folder).st_nlink == 3


def _ranges(rng: random.Random, size: int) -> Iterator[tuple[int, int]]:
    yield from ((0, 1), (max(0, size - 1), 1), (max(0, size - 10), 4096), (size, 100))
    for _ in range(12):
        yield rng.randrange(size + 1), rng.choice((1, 100, 4096, 65_537, 5_000_000))


def _read(path: bytes, offset: int, length: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    parser.add_argument("--work", type=Path, help="a folder that is new or empty (and stays)")
    parser.add_argument("--small", action="store_true", help="little of everything")
    parser.add_argument("--only", action="append", choices=INPUTS, help="just this input")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random [1]")
    parser.add_argument("--ibtfs", type=Path, default=Path(sys.executable).with_name("ibtfs"),
                        help="the command [beside this Python]")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Run it all; the exit code."""
    if shutil.which(options.ibtfs.absolute()) is None:
        say(f"no such command: {options.ibtfs} (run this with the Python of ibtfs)")
        return 2
    work = options.work or Path(tempfile.mkdtemp(prefix="ibtfs-real-"))
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(work.iterdir()):
        say(f"not empty: {work}")
        return 2
    try:
        run = Run(work.resolve(), Ibtfs(options.ibtfs.absolute()), options)
        for name in options.only or INPUTS:
            run.back_up(name)
        run.verify()
        wrong = run.summary()
    except (Failure, RuntimeError, subprocess.CalledProcessError) as failure:
        say(f"FAILED: {failure}\nLeft as it is: {work}")
        return 1
    say(f"FAILED: {wrong} differences\nLeft as it is: {work}" if wrong else "No difference found")
    if not wrong and options.work is None:
        shutil.rmtree(work)
    return 1 if wrong else 0
