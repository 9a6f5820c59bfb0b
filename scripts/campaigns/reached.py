"""Which tests reach what of the code, and a copy of the project to run them in; for `mutants`."""

from __future__ import annotations

import ast
import functools
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import IO, Any, NamedTuple

from screen import say

from campaigns.command import Failure
from campaigns.mutating import Mutant
from tests.support import CHECKOUT

MAP_SECONDS = 3600
START_SECONDS = 60
FIRST_SECONDS = 4
SURVIVED, KILLED, SLOW, UNREACHED = "survived", "killed", "timed out", "not reached"


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
        names, pinning = list(self.seconds), set[str]()
        if not mutant.lines:
            numbers = self._naming(mutant.watched)
            pinning = {name for name in names if names_any(source(name), mutant.watched)}
        ranks: Counter[str] = Counter()
        order = []
        reaching = {names[number] for number in numbers} | pinning
        for name in sorted(reaching, key=self.seconds.__getitem__):
            module = name.partition("::")[0]
            ranks[module] += 1
            near = nearness(mutant.path, module)
            order.append((name not in pinning, -near, ranks[module], self.seconds[name], name))
        chosen: dict[str, float] = {}
        for *_, took, name in sorted(order):
            if not chosen or took <= most:
                chosen[name] = took
                most -= took
        return chosen

    def _naming(self, watched: str) -> set[int]:
        """The tests that reach a line with a name that is *watched*."""
        found = set[int]()
        for path, lines in self.lines.items():
            for number, line in enumerate((CHECKOUT / path).read_text().splitlines(), 1):
                if names_any(line, watched):
                    found |= lines.get(number, set())
        return found


def names_any(text: str, names: str) -> bool:
    """Whether *text* has any of *names*, words with spaces between."""
    return not set(re.findall(r"\w+", text)).isdisjoint(names.split())


def source(test: str) -> str:
    """The source of a test."""
    module, _, function = test.partition("::")
    return functions(module).get(function.partition("[")[0], "")


@functools.cache
def functions(module: str) -> dict[str, str]:
    """The source of each function of a module of tests."""
    text = (CHECKOUT / module).read_text()
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }


def nearness(path: str, tests: str) -> int:
    """How much of its way a module of tests shares with the module at *path* that is changed."""
    ways = zip(Path(path).parts[1:], Path(tests.replace("/test_", "/")).parts[1:])
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ways))
