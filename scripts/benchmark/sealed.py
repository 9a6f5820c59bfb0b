"""ibtfs beside itself: what a sealed repository costs, by a key file, in each step.

Both do the same step in turn, another one first in each run, so that what a machine does beside
meets both; the ratios of each pair tell how far to trust their median.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmark.data import SETS
from benchmark.download import Releases
from benchmark.measure import Command
from benchmark.results import Results
from benchmark.rounds import Plan, Rounds
from benchmark.tools import Ibtfs, Tool

NAME = "sealed"
ABOUT = "ibtfs unsealed and sealed by a key file, in turn"
MOST = 1.10
"""So many times as long a step may take sealed."""
OF_SETS = ("many", "db", "vm", "log", "move")
FIGURES = {"seconds": "wall", "cpu_seconds": "processor"}


class Unsealed(Ibtfs):
    """ibtfs, by its own name in the results."""

    def create(self) -> list[Command]:
        """As Tool says."""
        return [Command([self.program, "init", "--no-seal", self.address])]


class Sealed(Ibtfs):
    """ibtfs with a key file, which the environment names."""

    name = "ibtfs sealed"

    def environment(self) -> dict[str, str]:
        """As Tool says."""
        return {**super().environment(), "IBTFS_KEY_FILE": str(self.place / "key")}

    def create(self) -> list[Command]:
        """As Tool says."""
        return [Command([self.program, "init", "--key-file", self.place / "key", self.address])]


BOTH: dict[str, type[Ibtfs]] = {kind.name: kind for kind in (Unsealed, Sealed)}


class Pairs(Rounds):
    """Rounds of the two."""

    def made(self, name: str, place: Path) -> Tool:
        """Return one of the two, with a new folder."""
        tool = BOTH[name](self.plan.programs.path(Ibtfs.name), place / name.replace(" ", "-"))
        tool.place.mkdir(parents=True)
        self.measurer(tool).run(tool.create())
        return tool

    def rotated(self) -> list[str]:
        """Return both, another one first each time."""
        names = list(BOTH)
        return names if self.run % 2 else names[::-1]


def measure(plan: Plan, quick: bool, results: Results, releases: Releases) -> None:
    """Take the two through the sets. Raises Failure."""
    for name in OF_SETS:
        data = SETS[name](plan.work / f"{NAME}-{name}", quick, releases)
        data.name = set_name(name)
        data.folder.mkdir()
        data.prepare()
        Pairs(plan, data, results).go()
        data.folder.rename(plan.work / f"{NAME}-{name}-done")


def set_name(name: str) -> str:
    """What the results call a set when these two go through it."""
    return f"{NAME} {name}"


def abouts() -> dict[str, str]:
    """What each set is."""
    return {set_name(name): f"{ABOUT}: {SETS[name].about}" for name in OF_SETS}


def ratios(results: Results) -> Iterator[str]:
    """Yield what sealed takes, times unsealed: the medians of the pairs, and how far they lie."""
    names = {set_name(name) for name in OF_SETS}
    steps = [(name, step) for name, step in results.steps() if name in names]
    if steps:
        yield f"{NAME}: times what unsealed takes, the median (least to most); at most {MOST:.2f}"
    for name, step in steps:
        yield f"  {name:<11} {step:<10} " + "; ".join(
            _told(words, paired(results, name, step, figure)) for figure, words in FIGURES.items()
        )


def paired(results: Results, name: str, step: str, figure: str) -> list[float]:
    """The ratios of a *figure*, of the two that were measured one after the other."""
    found: dict[tuple[int, int], dict[str, float]] = {}
    for one in results.records:
        if (one.set, one.step) == (name, step) and not one.wrong:
            found.setdefault((one.run, one.change), {})[one.tool] = getattr(one, figure)
    pairs = [(both[Sealed.name], both[Unsealed.name]) for both in found.values() if len(both) == 2]
    return [sealed / unsealed for sealed, unsealed in pairs if unsealed]


def _told(words: str, found: list[float]) -> str:
    if not found:
        return f"{words} not measured"
    middle = statistics.median(found)
    mark = "" if middle <= MOST else " MISSED"
    return f"{words} {middle:.2f} ({min(found):.2f} to {max(found):.2f}){mark}"
