"""Which paths are meant: patterns by git's rules, and absolute paths of what was backed up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ibtfs.errors import UsageError
from ibtfs.format.patterns import Patterns
from ibtfs.format.point import Point


class Matcher:
    """Tells what is meant in the points of one root."""

    def __init__(self, patterns: Patterns, exact: frozenset[bytes]) -> None:
        self._patterns, self._exact = patterns, exact

    def match(self, path: bytes, is_dir: bool) -> bool:
        """Whether *path*, relative to the root, is meant, whatever it lies in."""
        return path in self._exact or self._patterns.match(path, is_dir)

    def match_any(self, path: bytes) -> bool:
        """Whether *path*, or any folder that it lies in, is meant."""
        names = path.split(b"/")
        folders = (b"/".join(names[:count]) for count in range(1, len(names)))
        return any(self.match(folder, True) for folder in folders) or (
            self.match(path, True) or self.match(path, False)
        )


class Words:
    """What a person said is to go; *words* are bytes, one a pattern or path."""

    def __init__(self, words: Sequence[bytes], points: Iterable[Point]) -> None:
        """Raises UsageError if one is none, or means a whole source, or if nothing could go."""
        self._words = words
        roots = {point.root_path for point in points}
        self._absolute = {word for word in words if any(_below(root, word) for root in roots)}
        for word in words:
            whole = next((root for root in sorted(roots) if _is_above(word, root)), None)
            if whole is not None and word not in self._absolute:
                shown = whole.decode(errors="backslashreplace")
                raise UsageError(
                    f"{shown} as a whole was backed up: remove its points with ibtfs forget"
                )
        if not Patterns.from_lines(words):
            raise UsageError("No pattern here means any path")
        self._matchers: dict[bytes, Matcher] = {}

    def matcher(self, root: bytes) -> Matcher:
        """For the points whose root had the path *root*; the same for the same root."""
        if root not in self._matchers:
            lines: list[bytes] = []
            exact: set[bytes] = set()
            for word in self._words:
                if word not in self._absolute:
                    lines.append(word)
                    continue
                inside = _below(root, word)
                if inside:
                    lines.append(b"/" + inside)
                    exact.add(inside)
            self._matchers[root] = Matcher(Patterns.from_lines(lines), frozenset(exact))
        return self._matchers[root]


def _below(root: bytes, word: bytes) -> bytes:
    """What of the absolute path *word* lies below *root*; empty if it does not."""
    folder = root.rstrip(b"/") + b"/"
    return word[len(folder) :] if word.startswith(folder) else b""


def _is_above(word: bytes, root: bytes) -> bool:
    """Whether *word* is the absolute path *root*, or of a folder that has it."""
    path = word.rstrip(b"/")
    return word.startswith(b"/") and bool(path) and (root + b"/").startswith(path + b"/")
