"""Progress: on a terminal, where it does not disturb, and rarely."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from ibtfs.cli import progress
from ibtfs.cli.progress import Reporter


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at_terminal(monkeypatch: pytest.MonkeyPatch, **words: Any) -> str:
    """Tell of 50,000 files and a problem; what a terminal gets to see of that."""
    fake = _Terminal()
    monkeypatch.setattr(sys, "stderr", fake)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress, "INTERVAL", 0.002)
    options = {"quiet": False, "verbose": False, "as_json": False, **words}
    with Reporter(**options) as reporter:
        for _ in range(50_000):
            reporter.progress(1, 1000)
        reporter.problem(b"x[bold]\xff", "is\x1b gone")
    return fake.getvalue()


@pytest.mark.parametrize("total", [0, 40_000])
def test_progress_on_a_terminal(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = at_terminal(monkeypatch, total=total)
    assert "files/s" in text
    assert "ibtfs: x[bold]\\xff: is\\e gone" in text
    assert "\x1b[?25h" in text  # the cursor is shown again


@pytest.mark.parametrize("option", ["quiet", "verbose", "as_json"])
def test_no_progress_where_it_would_disturb(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "" if option == "as_json" else "ibtfs: x[bold]\\xff: is\\e gone\n"
    assert at_terminal(monkeypatch, **{option: True}) == expected


def test_a_problem_names_its_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for path, message, line in (
        (b"a", "cannot be read", "a: cannot be read"),
        (b"a", "point: 'a': damaged", "point: 'a': damaged"),
        (b"", "all of it", "all of it"),
    ):
        fake = io.StringIO()
        monkeypatch.setattr(sys, "stderr", fake)
        with Reporter(quiet=False, verbose=False, as_json=False) as reporter:
            reporter.problem(path, message)
        assert fake.getvalue() == f"ibtfs: {line}\n"


def test_progress_is_shown_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(10**6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times) / 10_000)
    shown_at: list[float] = []
    monkeypatch.setattr(Reporter, "_show", lambda _, now: shown_at.append(now))
    monkeypatch.setattr(sys, "stderr", _Terminal())
    with Reporter(quiet=False, verbose=False, as_json=False) as reporter:
        for _ in range(50_000):  # five seconds of this clock
            reporter.progress(1, 0)
    assert 45 <= len(shown_at) <= 50
