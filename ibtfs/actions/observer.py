"""What a long action tells while it runs; the command line shows it, the library may ignore it."""

from __future__ import annotations

from collections import Counter


class Observer:
    """Hears of every file, of progress, and of problems; does nothing with them by itself."""

    def file(self, kind: str, path: bytes) -> None:
        """A file was handled: *kind* is new, changed, unchanged, gone, restored, and so on."""

    def progress(self, files: int, size: int) -> None:
        """So many more files and bytes are done."""

    def problem(self, path: bytes, message: str) -> None:
        """Something about *path* could not be done; the rest goes on."""

    def note(self, message: str) -> None:
        """Something worth saying that is not a problem."""


class Tally:
    """Counts by name, and the problems met."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.counts: Counter[str] = Counter()
        self.problems: list[tuple[bytes, str]] = []

    def file(self, kind: str, path: bytes) -> None:
        """Count a file by what has become of it, and tell of it."""
        self.counts[kind] += 1
        self.observer.file(kind, path)

    def problem(self, path: bytes, message: str) -> None:
        """Count a problem and pass it on."""
        self.counts["problems"] += 1
        if len(self.problems) < 10_000:
            self.problems.append((path, message))
        self.observer.problem(path, message)
