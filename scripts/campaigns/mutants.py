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
import itertools
import json
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

from screen import say

from campaigns.base import working_folder
from campaigns.command import Failure
from campaigns.mutating import Mutant, mutants
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
"""Survivors that are no gaps: a line each, as `signature` gives it, and below it why."""
MAP_SECONDS = 3600
START_SECONDS = 60
FIRST_SECONDS = 4
SURVIVED, KILLED, SLOW, UNREACHED = "survived", "killed", "timed out", "not reached"


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


class Tree:
    """A copy of the project below *work*, and the process that runs tests of it."""

    def __init__(self, work: Path) -> None:
        self.work, self.path = work, work / "tree"
        left = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__")
        shutil.copytree(CHECKOUT, self.path, symlinks=True, ignore=left)
        environment = {**os.environ, "PYTHONPATH": str(self.path), "TMPDIR": str(work)}
        command = [sys.executable, str(CHECKOUT / "scripts/campaigns/chosen_tests.py")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, seconds: float, **order: object) -> dict[str, Any]:
        """Run tests; what came of them."""
        asked = {"work": str(self.work), "tree": str(self.path), "seconds": seconds, **order}
        to, out = _open(self._process.stdin), _open(self._process.stdout)
        to.write(json.dumps(asked) + "\n")
        to.flush()
        told: dict[str, Any] = json.loads(out.readline())
        return told

    def tried(self, mutant: Mutant, tests: dict[str, float]) -> tuple[str, str]:
        """What becomes of a mutant, and by what."""
        file = self.path / mutant.path
        code = file.read_bytes()
        told: dict[str, Any] = {}
        try:
            self._write(file, mutant.applied(code))
            for part in parts(tests):
                told = self.ask(START_SECONDS + 4 * sum(part.values()), tests=part)
                if told["code"] != 0:
                    break
        finally:
            self._write(file, code)
        how = f"{told.get('test', 'loading tests')}: {told.get('told', told['code'])}"
        if told["code"] == 5:
            raise Failure(f"No tests of {list(tests)} were found")
        if told["code"] == 0:
            return SURVIVED, f"{len(tests)} tests"
        return SLOW if told.get("slow") or told["code"] == -9 else KILLED, how

    @staticmethod
    def _write(file: Path, code: bytes) -> None:
        for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
            compiled.unlink()  # its code's time and size may be those of the new code, too
        file.write_bytes(code)

    def close(self) -> None:
        """End the process."""
        _open(self._process.stdin).close()
        self._process.wait()


def parts(tests: dict[str, float]) -> list[dict[str, float]]:
    """*tests* in two: those of FIRST_SECONDS, which kill most, and the rest, if there is any.

    Loading many modules of tests would take longer than the first tests.
    """
    first: dict[str, float] = {}
    for name, took in tests.items():
        if first and sum(first.values()) + took > FIRST_SECONDS:
            break
        first[name] = took
    rest = {name: took for name, took in tests.items() if name not in first}
    return [first, rest] if rest else [first]


def _open(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


class Map(NamedTuple):
    """How long each test takes, *seconds*, and which of them reach a line, by their numbers."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, set[int]]]

    @classmethod
    def made(cls, tree: Tree, tests: list[str], kept: Path | None) -> Map:
        """The map of *tests*, or of what *kept* has not yet."""
        is_kept = kept is not None and kept.exists()
        found = json.loads(kept.read_text()) if kept and is_kept else {"tests": {}, "lines": {}}
        files = [path for name in tests for path in (
                 sorted((CHECKOUT / name).rglob("test_*.py")) or [CHECKOUT / name])]  # fmt: skip
        known = {CHECKOUT / name for name in found.get("files", ())}
        made = kept.stat().st_mtime if kept and is_kept else 0
        new = [str(path.relative_to(CHECKOUT)) for path in files
               if path not in known or path.stat().st_mtime > made]  # fmt: skip
        for number, file in enumerate(new):
            if number % 20 == 0:
                say(f"what tests reach: {number} of {len(new)} modules")
            if tree.ask(MAP_SECONDS, map=[file])["code"] not in (0, 1):
                raise Failure(f"No map: {(tree.work / 'log.txt').read_text()[-2000:]}")
            cls._add(found, json.loads((tree.work / "result.json").read_text()))
            found["files"] = [*found.get("files", ()), file]
            if kept:
                kept.write_text(json.dumps(found))
        return cls(found["tests"], {
            path: {int(line): set(numbers) for line, numbers in reached.items()}
            for path, reached in found["lines"].items()
        })  # fmt: skip

    @staticmethod
    def _add(found: dict[str, Any], added: dict[str, Any]) -> None:
        for test in added["failed"]:
            say(f"not used, for it fails without a mutant, or takes too long: {test}")
        found["tests"] |= added["tests"]
        places = {name: place for place, name in enumerate(found["tests"])}
        numbers = [places[name] for name in added["tests"]]
        for path, reached in added["lines"].items():
            lines = found["lines"].setdefault(path, {})
            for line, those in reached.items():
                lines.setdefault(line, []).extend(numbers[one] for one in those)

    def tests_of(self, mutant: Mutant, most: float) -> dict[str, float]:
        """The tests that a mutant may fail, in a good order, of *most* seconds at most."""
        lines = self.lines.get(mutant.path, {})
        numbers = set[int]().union(*(lines.get(line, ()) for line in mutant.lines))
        if not mutant.lines:
            numbers = self._naming(mutant.watched)
        names = list(self.seconds)
        ranks: Counter[str] = Counter()
        order = []
        for name in sorted((names[number] for number in numbers), key=self.seconds.__getitem__):
            module = name.partition("::")[0]
            ranks[module] += 1
            order.append((-nearness(mutant.path, module), ranks[module], self.seconds[name], name))
        chosen: dict[str, float] = {}
        for *_, took, name in sorted(order):
            if not chosen or took <= most:
                chosen[name] = took
                most -= took
        return chosen

    def _naming(self, name: str) -> set[int]:
        """The tests that reach a line with *name* in it."""
        word = re.compile(rf"\b{re.escape(name)}\b")
        found = set[int]()
        for path, lines in self.lines.items():
            text = (CHECKOUT / path).read_text().splitlines() if name else []
            for number, line in enumerate(text, 1):
                if word.search(line):
                    found |= lines.get(number, set())
        return found


def nearness(path: str, tests: str) -> int:
    """How much of its way a module of tests shares with the module at *path* that is changed."""
    ways = zip(Path(path).parts[1:], Path(tests.replace("/test_", "/")).parts[1:])
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ways))


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
    new = [mutant for mutant in left if signature(mutant) not in known]
    if new:
        say(f"\nSurvivors that {EXPLAINED.name} does not explain, what no test reaches among them:")
    for mutant in new:
        say(f"{mutant}\n    {signature(mutant)}")
    share = 100 * (1 - len(left) / len(found)) if found else 0
    say(f"\n{len(found):,} mutants, {share:.1f} % killed; of the others {len(left) - len(new)} are "
        "explained")  # fmt: skip
    return 1 if new else 0


def signature(mutant: Mutant) -> str:
    """How EXPLAINED names a mutant: by its line as it reads, for numbers of lines change."""
    line = (CHECKOUT / mutant.path).read_text().splitlines()[mutant.line - 1].strip()
    return f"{mutant.path}: {line} | {mutant.before} -> {mutant.after}"
