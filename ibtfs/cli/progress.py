"""What a long command shows while it runs: progress on a terminal, files, problems, notes."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ibtfs.actions.observer import Observer
from ibtfs.cli.output import complain, counted, human_size, json_bytes, printable, say, shown

if TYPE_CHECKING:
    from rich.progress import Progress

INTERVAL = 0.1


class Reporter(Observer):
    """Tells what an action tells; a context manager that clears the progress when it ends.

    Progress is shown only where standard error is a terminal that shows nothing else; *total* is
    the number of files to expect, if that is known.  Paths are shown below *base*.  With *as_json*
    nothing is printed; notes and problems are kept for the result.
    """

    def __init__(
        self, *, quiet: bool, verbose: bool, as_json: bool, base: bytes = b"", total: int = 0
    ) -> None:
        self._quiet, self._verbose, self._as_json, self._base = quiet, verbose, as_json, base
        self._files = self._bytes = 0
        self._began = self._shown = time.monotonic()
        self._progress: Progress | None = None
        self._total = total
        self._live = not (quiet or verbose or as_json) and sys.stderr.isatty()
        self.notes: list[str] = []

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def file(self, kind: str, path: bytes) -> None:
        """Name the file, with --verbose."""
        if self._verbose and not self._quiet:
            line = f"{kind:<9} {shown(path)}"
            try:
                if self._as_json:
                    print(line, file=sys.stderr)
                else:
                    say(line)
            except OSError:
                self._verbose = False  # nobody reads it any more: that must not end the work

    def progress(self, files: int, size: int) -> None:
        """Count; show it when the last time is long enough ago."""
        self._files += files
        self._bytes += size
        if self._live:
            now = time.monotonic()
            if now - self._shown >= INTERVAL:
                self._shown = now
                self._show(now)

    def problem(self, path: bytes, message: str) -> None:
        """Tell a problem at once, unless the result will."""
        if self._as_json:
            return
        name = os.path.join(self._base, path) if self._base else path
        # some messages name the file already, in quotes
        named = not path or repr(os.fsdecode(path)) in message
        self._say(message if named else f"{os.fsdecode(name)}: {message}")

    def note(self, message: str) -> None:
        """Tell something worth knowing, unless asked to be quiet."""
        self.notes.append(message)
        if not self._quiet and not self._as_json:
            self._say(message)

    def _say(self, message: str) -> None:
        with suppress(OSError):  # nobody reads it any more: that must not end the work
            self._print(message)

    def _print(self, message: str) -> None:
        if self._progress is None:
            complain(message)
        else:
            text = f"ibtfs: {printable(message)}"
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(self, now: float) -> None:
        if self._progress is None:
            self._progress = _make_progress()
            self._progress.start()
            self._progress.add_task("", total=self._total or None)
        seconds = max(now - self._began, INTERVAL)
        text = f"{counted(self._files, 'file')}, {human_size(self._bytes)}"
        rate = f"{human_size(int(self._bytes / seconds))}/s, {self._files / seconds:,.0f} files/s"
        self._progress.update(
            self._progress.task_ids[0],
            completed=min(self._files, self._total) if self._total else self._files,
            description=f"{text} ({rate})",
        )
        with suppress(OSError):  # a terminal that is gone ends no backup
            self._progress.refresh()


def _make_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        BarColumn(bar_width=24),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
    )


def json_problems(problems: list[tuple[bytes, str]]) -> list[dict[str, Any]]:
    """Problems as the results of all commands show them."""
    return [{**json_bytes(path), "message": message} for path, message in problems]
