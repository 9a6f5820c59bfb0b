"""Chosen tests of a copy of this project, each run in a process of its own, for `mutants`.

A program: reads runs from its input, each a line of JSON, and prints what came of each, the same
way.  It has imported what tests need of others, and nothing of this project: a run is a fork of
it, which starts in a tenth of the time.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

MEMORY_BYTES = 4 << 30
FAST_SECONDS = 10
"""What takes longer is no fast test: it is not mapped."""
SLACK_SECONDS, SLACK_FACTOR = 15, 6
"""A test may take so much longer than it took without a mutant; others use the machine, too."""


@contextmanager
def without_lines() -> Iterator[None]:
    """Have a failure shown without its lines: where a tracer is interrupted, there may be none."""
    try:
        yield
    except pytest.fail.Exception as failure:
        raise pytest.fail.Exception(str(failure), pytrace=False) from None


class Chosen:
    """Has only some tests run, in their order, and notes the first that fails."""

    def __init__(self, seconds: dict[str, float], result: Path) -> None:
        self._seconds, self._result = seconds, result

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the chosen ones, in their order, each with its limit of time."""
        found = {item.nodeid: item for item in items}
        items[:] = [found[name] for name in self._seconds if name in found]
        for item in items:
            limit = SLACK_SECONDS + SLACK_FACTOR * self._seconds[item.nodeid]
            item.add_marker(pytest.mark.timeout(limit))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure at once: what comes after it may hang."""
        if report.failed:
            told = report.longreprtext.strip().rpartition("\n")[2]
            slow = "Timeout (>" in report.longreprtext
            self._result.write_text(json.dumps({"test": report.nodeid, "told": told, "slow": slow}))


class Mapped:
    """Notes the seconds of each test that passes, and which lines of ibtfs it reaches."""

    def __init__(self, result: Path) -> None:
        import coverage

        self._result, self._seconds = result, dict[str, float]()
        self._failed: set[str] = set()
        self._coverage = coverage.Coverage(source_pkgs=["ibtfs"], data_file=None)

    def pytest_sessionstart(self) -> None:
        """Start to look."""
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Look at one test."""
        self._coverage.switch_context(item.nodeid)
        began = time.monotonic()
        done = yield
        self._seconds[item.nodeid] = time.monotonic() - began
        self._coverage.switch_context("")
        return done

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Iterator[None]:
        """As `pytest_runtest_call`."""
        with without_lines():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        """Tell of a test that takes too long in short."""
        with without_lines():
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What fails without a mutant tells nothing of mutants."""
        if report.failed or report.skipped:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write it all down."""
        self._coverage.stop()
        data, here = self._coverage.get_data(), Path.cwd()
        tests = {name: took for name, took in self._seconds.items() if name not in self._failed}
        numbers = {name: number for number, name in enumerate(tests)}
        lines = {
            str(Path(file).relative_to(here)): {
                line: [numbers[name] for name in names if name in numbers]
                for line, names in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
            if data.contexts_by_lineno(file)
        }
        found = {"tests": tests, "lines": lines, "failed": sorted(self._failed)}
        self._result.write_text(json.dumps(found))


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Fork, run the tests there, and tell how it ended."""
    result = Path(order["work"]) / "result.json"
    result.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            os._exit(in_the_child(order, result))
        finally:
            os._exit(99)
    code = waited(child, order["seconds"])
    told = json.loads(result.read_text()) if result.exists() and not order.get("map") else {}
    return {"code": code, **told}


def in_the_child(order: dict[str, Any], result: Path) -> int:
    """Run pytest in the copy; the exit code."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    log = os.open(f"{order['work']}/log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.chdir(order["tree"])
    sys.path.insert(0, order["tree"])
    words = [
        "-q",
        "--tb=native",
        f"--timeout={FAST_SECONDS}",
        "-p",
        "no:cacheprovider",
        f"--basetemp={order['work']}/tests",
    ]
    plugin: object = Mapped(result)
    if not order.get("map"):
        plugin = Chosen(order["tests"], result)
        words.append("-x")
    files = order.get("map") or list(dict.fromkeys(name.split("::")[0] for name in order["tests"]))
    return int(pytest.main([*words, *files], plugins=[plugin]))


def waited(child: int, seconds: float) -> int:
    """The exit code of *child*, negative for a signal; its whole session ends with it."""
    limit = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done or time.monotonic() > limit:
            break
        time.sleep(0.01)
    try:
        os.killpg(child, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    if not done:
        os.waitpid(child, 0)
        return -signal.SIGKILL
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    """Serve runs until the input ends."""
    sys.path.pop(0)  # this folder, whose modules have common names
    import blake3
    import hypothesis
    import msgpack
    import zstandard

    assert all((blake3, hypothesis, msgpack, zstandard))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
