"""ibtfs alone, where there is much: a million files, a thousand points, a file of 20 GB.

Nothing here is compared with other tools; the question is how cost grows.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmark.measure import Command, Figures, Measurer, settle
from benchmark.mounting import Mounts
from benchmark.results import Record, Results
from benchmark.rounds import Plan
from benchmark.targets import MB, Target
from benchmark.tools import Ibtfs

MIB = 1 << 20
NAME = "scale"
ABOUT = "ibtfs alone: up to 1,000,000 files, 1,000 points, a sparse file of 20 GB"
FEW, FILES = "100,000", "1,000,000"
LAYOUTS = {"folders of 100": 100, "one folder": 0}
OF_POINTS = ("backup", "mount", "list")
TARGETS: tuple[Target, ...] = tuple(
    target
    for layout in LAYOUTS
    for target in (
        Target(NAME, f"{FILES} in {layout}", "times", 11, than=f"{FEW} in {layout}"),
        Target(NAME, f"{FEW} in {layout}", "at most", 150 * MB, "peak_bytes"),
        Target(NAME, f"{FILES} in {layout}", "at most", 300 * MB, "peak_bytes"),
    )
) + tuple(
    target
    for what in OF_POINTS
    for target in (
        Target(NAME, f"{what}, 1,000 points", "times", 1.2, than=f"{what}, 1 point"),
        Target(NAME, f"{what}, 1,000 points", "at most", 150 * MB, "peak_bytes"),
    )
) + tuple(
    Target(NAME, f"20 GB file, {step}", "at most", 150 * MB, "peak_bytes")
    for step in ("full", "unchanged", "change", "restore")
)  # fmt: skip


@dataclass
class Scale:
    """All of it; *quick* makes a hundredth, under the same names."""

    plan: Plan
    quick: bool
    results: Results

    def go(self) -> None:
        """Measure. Raises Failure."""
        part = 100 if self.quick else 1
        for layout, per_folder in LAYOUTS.items():
            for name, files in ((FEW, 100_000 // part), (FILES, 1_000_000 // part)):
                step = f"{name} in {layout}"
                self.in_place(partial(self.unchanged, files=files, per_folder=per_folder,
                                      step=step))  # fmt: skip
        self.in_place(lambda place: self.points(place, 1000 // (50 if self.quick else 1)))
        self.in_place(lambda place: self.large_file(place, part))

    def in_place(self, work: Callable[[Path], None]) -> None:
        """Do it in a new folder, which goes afterwards."""
        place = self.plan.work / NAME
        place.mkdir()
        try:
            work(place)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def made(self, place: Path) -> tuple[Ibtfs, Measurer]:
        """Return ibtfs with a new repository, and what measures it."""
        tool = Ibtfs(self.plan.programs.path("ibtfs"), place / "ibtfs")
        tool.place.mkdir()
        return tool, Measurer(tool.environment(), tool.place / "printed")

    def unchanged(self, place: Path, files: int, per_folder: int, step: str) -> None:
        """Back up *files* tiny files, then a few times more, nothing changed."""
        tool, measurer = self.made(place)
        source = place / "source"
        for number in range(files):
            folder = source / f"{number // per_folder:05}" if per_folder else source
            if number == 0 or (per_folder and number % per_folder == 0):
                folder.mkdir(parents=True)
            with open(f"{folder}/{number}", "w") as file:
                file.write(f"{number}\n")
        settle(self.plan.settle)
        self.record(f"full, {step}", 1, measurer.run(tool.backup(source)))
        for run in range(1, self.plan.runs + 1):
            settle(0)
            self.record(step, run, measurer.run(tool.backup(source)))

    def points(self, place: Path, count: int) -> None:
        """Measure with one point, then with *count*: a file of 500 changes each time."""
        tool, measurer = self.made(place)
        source = small_source(place)
        for points in (1, count):
            for number in range(points if points == 1 else count - self.plan.runs - 1):
                change_small(source, number)
                measurer.run(tool.backup(source))
            settle(self.plan.settle)
            self.measure_points(tool, measurer, source, "1 point" if points == 1 else
                                "1,000 points")  # fmt: skip

    def measure_points(self, tool: Ibtfs, measurer: Measurer, source: Path, what: str) -> None:
        """Measure backup, list and mount with the points that there are."""
        mounts = Mounts(tool.place / "mount")
        for run in range(1, self.plan.runs + 1):
            settle(0)
            self.record(f"backup, {what}", run, measurer.run(tool.backup(source)))
            listing = Command([tool.program, "list", tool.repository])
            self.record(f"list, {what}", run, measurer.run([listing]))
            with mounts.mounted(tool) as mount:
                figures = Figures(mount.seconds, 0, mount.peak_bytes())
            self.record(f"mount, {what}", run, figures)

    def large_file(self, place: Path, part: int) -> None:
        """Take a sparse file through all steps: a tenth of it data, which does not compress."""
        tool, measurer = self.made(place)
        source, rng = place / "source", random.Random(20)
        source.mkdir()
        pieces = 2048 // part
        with (source / "large").open("wb") as file:
            for number in range(pieces):
                file.seek(number * 10 * MIB)
                file.write(rng.randbytes(MIB))
            file.truncate(pieces * 10 * MIB)
        settle(self.plan.settle)
        self.record("20 GB file, full", 1, measurer.run(tool.backup(source)))
        self.record("20 GB file, unchanged", 1, measurer.run(tool.backup(source)))
        with (source / "large").open("r+b") as file:
            for number in rng.sample(range(pieces), min(200, pieces)):
                file.seek(number * 10 * MIB + 5000)
                file.write(rng.randbytes(1000))
        settle(self.plan.settle)
        self.record("20 GB file, change", 1, measurer.run(tool.backup(source)))
        restored = place / "restored"
        self.record("20 GB file, restore", 1, measurer.run(tool.restore(source, restored)))

    def record(self, step: str, run: int, figures: Figures) -> None:
        """Keep a record, and tell of it."""
        self.results.add(Record(NAME, step, "ibtfs", run, figures.seconds, figures.cpu_seconds,
                                figures.peak_bytes))  # fmt: skip
        self.plan.say(f"  {NAME} {run}: {step:<32} {figures.seconds:8.2f} s")


def small_source(place: Path) -> Path:
    """Make a source of 500 small files, to be backed up many times."""
    source = place / "source"
    source.mkdir(parents=True)
    for number in range(500):
        (source / f"{number}.txt").write_text(f"{number}\n" * 20)
    return source


def change_small(source: Path, number: int) -> None:
    """Change one file of it: always the same, which has as many versions as there are points."""
    (source / "7.txt").write_text(f"version {number}\n" * 20 + "x" * (number % 50) + "\n")
