"""Change the code of the format and the store, a bit at a time: do the fast tests notice?

Comparisons, arithmetic, constants, conditions, calls, returns, jumps and raises are changed, one in
each mutant, drawn at random from all of ibtfs/format and ibtfs/store.  A copy of the project gets
the change, and the tests that reach that line are run, those that lie near it first, then the
fastest of each module; the first to fail, or to hang, has killed it.  Survivors are told; so is
what no test reaches.  Not every survivor is a gap: mutants.txt tells of those that were looked at.
Making the map of what tests reach takes a quarter of an hour; --map keeps it.

(mutmut 3 leaves out what is computed when modules are loaded, such as the bounds of hostile input,
and properties; cosmic-ray runs all tests for each mutant.)
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from screen import say

from campaigns.base import working_folder
from campaigns.mutating import Mutant, mutants
from campaigns.reached import KILLED, SLOW, SURVIVED, UNREACHED, Map, Tree
from tests.support import CHECKOUT

MUTATED = ("ibtfs/format", "ibtfs/store")
FAST = (
    "tests/format", "tests/store", "tests/actions", "tests/view", "tests/toolkit",
    "tests/cli/commands/test_diff_versions.py", "tests/docs/test_format_document.py",
    *(f"tests/promises/test_{name}.py" for name in (
        "counts", "faults_of_removal", "fixtures", "healing", "healing_contents", "hostile",
        "lost_locks", "partly_damaged", "removal", "trust",
    )),
)  # fmt: skip
EXPLAINED = Path(__file__).with_name("mutants.txt")
"""Survivors that are no gaps: a line each, as `signature` gives it, and below those lines why."""
ANOTHER = "another number"
"""Instead of a change: any number in the place of one that stands in that line."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this campaign to *parser*."""
    parser.add_argument("--budget", type=float, default=30, help="minutes, without the map [30]")
    parser.add_argument("--seed", type=int, default=1, help="which mutants are drawn [1]")
    parser.add_argument("--sample", type=int, help="at most so many mutants")
    parser.add_argument("--only", nargs="+", metavar="PATH", default=list(MUTATED),
                        help="files and folders whose code is changed")  # fmt: skip
    parser.add_argument("--tests", nargs="+", metavar="PATH", default=list(FAST),
                        help="where the tests are taken from")  # fmt: skip
    parser.add_argument("--most", type=float, default=60,
                        help="seconds of tests for one mutant, as without it [60]")  # fmt: skip
    parser.add_argument("--again", type=Path, metavar="FILE",
                        help="only the mutants that lines of FILE begin with")  # fmt: skip
    parser.add_argument("--map", type=Path, metavar="FILE",
                        help="where the map is kept; made there if FILE does not exist, and what "
                             "is new in --tests is added")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time [1]")
    parser.add_argument("--work", help="folder to work in, best in memory [/dev/shm]")


def run(options: argparse.Namespace) -> int:
    """Do it all; 1 if any mutant survived that is not explained."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with working_folder("mutants", options.work or memory) as work:
        trees = [Tree(work / str(number)) for number in range(options.jobs)]
        try:
            reached = Map.made(trees[0], options.tests, options.map)
            drawn = draw(options)
            say(f"{len(drawn):,} mutants, drawn with seed {options.seed}; {len(reached.seconds):,} "
                f"tests, {sum(reached.seconds.values()):.0f} s")  # fmt: skip
            found = Trial(drawn, reached, options.most, 60 * options.budget).run(trees)
        finally:
            for tree in trees:
                tree.close()
    return report(found)


def draw(options: argparse.Namespace) -> list[Mutant]:
    """The mutants, in the order in which they are tried."""
    every = []
    for only in options.only:
        below = CHECKOUT / only
        for path in sorted(below.rglob("*.py")) if below.is_dir() else [below]:
            every += mutants(str(path.relative_to(CHECKOUT)), path.read_bytes())
    if options.again:
        lines = options.again.read_text().splitlines()
        every = [mutant for mutant in every if any(line.startswith(str(mutant)) for line in lines)]
    random.Random(options.seed).shuffle(every)
    return every[: options.sample]


class Trial:
    """Tries mutants until the time is over, in as many threads as there are trees."""

    def __init__(self, drawn: Iterable[Mutant], reached: Map, most: float, seconds: float) -> None:
        self._waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
        for mutant in drawn:
            self._waiting.put(mutant)
        self._map, self._most = reached, most
        self._end = time.monotonic() + seconds
        self.found: list[tuple[Mutant, str]] = []
        self._failed: list[BaseException] = []

    def run(self, trees: list[Tree]) -> list[tuple[Mutant, str]]:
        """The mutants that were tried, and what became of each."""
        threads = [threading.Thread(target=self._work, args=(tree,)) for tree in trees]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failed:
            raise self._failed[0]
        return self.found

    def _work(self, tree: Tree) -> None:
        try:
            while time.monotonic() < self._end and not self._failed:
                mutant = self._waiting.get_nowait()
                tests = self._map.tests_of(mutant, self._most)
                outcome, how = tree.tried(mutant, tests) if tests else (UNREACHED, "")
                self.found.append((mutant, outcome))
                say(f"{len(self.found)} {outcome}: {mutant}  [{how}]")
        except queue.Empty:
            pass
        except BaseException as error:
            self._failed.append(error)


def report(found: list[tuple[Mutant, str]]) -> int:
    """Print how many were killed, by module, and the survivors; the exit code."""
    modules: dict[str, Counter[str]] = {}
    for mutant, outcome in found:
        modules.setdefault(mutant.path, Counter())[outcome] += 1
    say(f"\n{'module':<44}{KILLED:>9}{SLOW:>11}{SURVIVED:>10}{UNREACHED:>13}")
    every: Counter[str] = Counter()
    for name, counts in [*sorted(modules.items()), ("all", every)]:
        say(f"{name:<44}{counts[KILLED]:>9}{counts[SLOW]:>11}{counts[SURVIVED]:>10}"
            f"{counts[UNREACHED]:>13}")  # fmt: skip
        every += counts if name != "all" else Counter()
    left = sorted(
        (m for m, o in found if o in (SURVIVED, UNREACHED)), key=lambda m: (m.path, m.line)
    )
    known = EXPLAINED.read_text().splitlines()
    new = [mutant for mutant in left if not is_explained(mutant, known)]
    if new:
        say(f"\nSurvivors that {EXPLAINED.name} does not explain, what no test reaches among them:")
    for mutant in new:
        say(f"{mutant}\n    {signature(mutant)}")
    share = 100 * (1 - len(left) / len(found)) if found else 0
    say(f"\n{len(found):,} mutants, {share:.1f} % killed; of the others {len(left) - len(new)} are "
        "explained")  # fmt: skip
    return 1 if new else 0


def is_explained(mutant: Mutant, known: Sequence[str]) -> bool:
    """Whether a mutant is among those that are *known*."""
    is_number = mutant.before.replace(".", "").isdigit()
    return signature(mutant) in known or (is_number and f"{_place(mutant)} | {ANOTHER}" in known)


def signature(mutant: Mutant) -> str:
    """How EXPLAINED names a mutant: by its line as it reads, for numbers of lines change."""
    return f"{_place(mutant)} | {mutant.before} -> {mutant.after}"


def _place(mutant: Mutant) -> str:
    line = (CHECKOUT / mutant.path).read_text().splitlines()[mutant.line - 1].strip()
    return f"{mutant.path}: {line}"
