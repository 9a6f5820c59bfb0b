"""The rounds of a set: every tool in turn does the same step with the same source."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import compare
from benchmark.data import DataSet, largest_file
from benchmark.install import Programs
from benchmark.measure import Command, Failure, Figures, Measurer, settle
from benchmark.results import Record, Results
from benchmark.tools import TOOLS, Native, Tool

STEPS = ("full", "unchanged", "change", "restore")
READ_AND_HASH = """
import sys, time
from blake3 import blake3
start = time.perf_counter()
digest = blake3()
with open(sys.argv[1], "rb", buffering=0) as file:
    while data := file.read(1 << 20):
        digest.update(data)
print(time.perf_counter() - start)
"""


def warm(folder: Path) -> None:
    """Read all files below *folder*, so that they are in memory for whoever is measured next."""
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            with open(file, "rb", buffering=0) as opened:
                while opened.read(1 << 20):
                    pass


@dataclass(frozen=True)
class Plan:
    """What is to be done, and where: *steps* of STEPS, *tools* by name."""

    tools: Sequence[str]
    steps: Sequence[str]
    runs: int
    settle: float
    work: Path
    programs: Programs
    say: Callable[[str], None]


class Rounds:
    """All runs of one set. Adds to *results*; what fails is a record that says so."""

    def __init__(self, plan: Plan, data: DataSet, results: Results) -> None:
        self.plan, self.data, self.results = plan, data, results
        self.done_at: dict[str, float] = {}
        self.run = 1

    def go(self) -> None:
        """Do all runs. Raises Failure if no tool can go on."""
        for number in range(1, self.plan.runs + 1):
            self.run = number
            place = self.plan.work / "tools"
            tools = [self.made(name, place) for name in self.rotated()]
            try:
                self.one(tools)
            finally:
                self.set_aside(place)

    def set_aside(self, place: Path) -> None:
        """Move what is done with out of the way; it is removed with the work folder, at the end.

        Removed now it would slow whoever comes next: for minutes ext4 passes over each inode that
        was freed, and to make a file takes ten times as long.
        """
        if place.exists():
            trash = self.plan.work / "done"
            trash.mkdir(exist_ok=True)
            place.rename(trash / f"{self.data.name}-{self.run}-{place.name}-{time.monotonic_ns()}")

    def rotated(self) -> list[str]:
        """Return the tools in the order of this run: another one begins each time."""
        names, first = list(self.plan.tools), (self.run - 1) % len(self.plan.tools)
        return names[first:] + names[:first]

    def made(self, name: str, place: Path) -> Tool:
        """Return the tool with a new folder."""
        program = Path("/bin/sh") if name == "native" else self.plan.programs.path(name)
        tool = TOOLS[name](program, place / name)
        tool.place.mkdir(parents=True)
        self.measurer(tool).run(tool.create())
        return tool

    def measurer(self, tool: Tool) -> Measurer:
        """Return what runs the commands of a tool."""
        return Measurer(tool.environment(), tool.place / "printed")

    def one(self, tools: list[Tool]) -> None:
        """Do one run: steps that were not asked for are done all the same if later ones build
        upon them, and not recorded."""
        steps = self.plan.steps
        self.data.rewind()
        settle(self.plan.settle)
        self.back_up(tools, "full")
        if "unchanged" in steps:
            self.back_up(tools, "unchanged")
        if "change" in steps:
            for number in range(1, self.data.changes + 1):
                self.data.change(number)
                settle(self.plan.settle)
                self.back_up(tools, "change", number)
        if "restore" in steps:
            for tool in tools:
                self.restore(tool)

    def back_up(self, tools: list[Tool], step: str, change: int = 0) -> None:
        """Let each tool back up the source."""
        for tool in tools:
            warm(self.data.source)
            commands = tool.backup(self.data.source)
            if not commands:
                if self.data.name == "log" and step == "change":
                    self.read_and_hash(tool, change)
                continue
            before = compare.allocated(tool.repository), compare.allocated(tool.cache)
            figures = self.timed(tool, step, commands, change)
            if figures is not None and step in self.plan.steps:
                # blocks that wait to be written count already
                after = compare.allocated(tool.repository), compare.allocated(tool.cache)
                self.record(tool, step, figures, change=change, stored=after[0] - before[0],
                            cache=after[1] - before[1])  # fmt: skip

    def restore(self, tool: Tool) -> None:
        """Let the tool restore its newest backup, and compare that with the source."""
        destination = tool.place / "restored"
        commands = tool.restore(self.data.source, destination)
        warm(tool.repository)
        figures = self.timed(tool, "restore", commands)
        if figures is not None:
            found = tool.restored(self.data.source, destination)
            wrong = compare.differences(self.data.source, found, tool.precision_ns)
            self.record(tool, "restore", figures, wrong=tuple(wrong))
        self.set_aside(destination)

    def read_and_hash(self, tool: Tool, change: int) -> None:
        """Measure what it takes to read the file and to hash it: no backup can take less."""
        assert isinstance(tool, Native)
        words: list[str | Path] = [self.plan.programs.python(), "-c", READ_AND_HASH]
        words.append(largest_file(self.data.source))
        measurer = self.measurer(tool)
        figures = measurer.run([Command(words)])
        seconds = float(measurer.printed())
        self.record(tool, "change", Figures(seconds, seconds, figures.peak_bytes), change=change)

    def timed(
        self, tool: Tool, step: str, commands: list[Command], change: int = 0
    ) -> Figures | None:
        """Run the commands, others' data being on the disk; None if the tool failed."""
        time.sleep(max(0.0, self.done_at.get(tool.name, 0) + tool.gap - time.monotonic()))
        settle(0)
        try:
            return self.measurer(tool).run(commands)
        except Failure as failure:
            self.record(tool, step, Figures(), change=change, wrong=(str(failure),))
            return None
        finally:
            self.done_at[tool.name] = time.monotonic()

    def record(
        self,
        tool: Tool,
        step: str,
        figures: Figures,
        *,
        change: int = 0,
        stored: int | None = None,
        cache: int | None = None,
        wrong: tuple[str, ...] = (),
    ) -> None:
        """Keep a record, and tell of it."""
        self.results.add(Record(
            self.data.name, step, tool.name, self.run, figures.seconds, figures.cpu_seconds,
            figures.peak_bytes, stored, cache, change, wrong,
        ))  # fmt: skip
        which = f"{step} {change}" if change else step
        told = f"WRONG: {'; '.join(wrong)}" if wrong else f"{figures.seconds:8.2f} s"
        self.plan.say(f"  {self.data.name} {self.run}: {which:<10} {tool.name:<12} {told}")
