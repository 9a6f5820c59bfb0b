"""Which paths to leave out, by git's rules for its ignore files; the only importer of pathspec.

pathspec's ``GitIgnoreSpec`` translates each line to a regular expression.  Which line decides is
settled here, for a walk that does not enter what is excluded: the last line that matches the
entry itself.  (GitIgnoreSpec answers for files and takes a match of a parent directory for one of
the entry, so that with it ``*``, ``!*/``, ``!*.c`` and ``dir/**``, ``!dir/keep`` exclude
everything, which git does not.)

As in git, paths and lines are bytes: ``?`` is one byte of a character of several.  Unlike git,
there are no ``[[:alpha:]]`` classes (refused), and ``]`` cannot be escaped within brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ibtfs.errors import UsageError

_POSIX_CLASS = re.compile(rb"\[.*\[:\w+:\]")
_NAMED_GROUP = re.compile(rb"\(\?P<\w+>")
_TRAILING_SPACES = re.compile(rb"\A((?:\\.|[^\\])*?) *\Z", re.DOTALL)  # not escaped ones
# pathspec strips what a str takes for white space; in a class it is safe
_STRIPPED_BY_PATHSPEC = re.compile(rb"\\?([\t-\r\x1c-\x20\x85\xa0])\Z")


class _Rule(NamedTuple):
    """One line: an entry matches if *regex* is found and reaches to the end of its path."""

    regex: re.Pattern[bytes]
    excludes: bool
    directories_only: bool
    reaches_everything: bool  # the regex ends early, but all that is below matches as well


class Patterns:
    """Lines of patterns, ready to match; false if no line of them can exclude anything.

    Immutable, may be shared by threads.
    """

    def __init__(self, rules: Iterable[_Rule]) -> None:
        self._rules = tuple(reversed(tuple(rules)))
        self._excludes = any(rule.excludes for rule in self._rules)
        self._seems_for_directories = _any_of(self._rules)
        self._seems_for_others = _any_of(r for r in self._rules if not r.directories_only)

    @classmethod
    def from_lines(cls, lines: Iterable[str | bytes]) -> Patterns:
        """Compile *lines* as git reads them from a file; of several sources, the later wins.

        Blank lines and those that begin with ``#`` are skipped.  A *str* line is UTF-8, with
        surrogate escapes.  Raises UsageError for a line that can match nothing, such as one that
        ends in a backslash, or has a class such as ``[[:alpha:]]``.
        """
        rules = (_rule(line) for line in lines)
        return cls(rule for rule in rules if rule is not None)

    def __bool__(self) -> bool:
        return self._excludes

    def match(self, path: bytes, is_dir: bool) -> bool:
        """Return whether to leave out *path*, which is relative to the source, without ``./``.

        Whether a parent of it is left out is for the caller to know, who does not enter it.
        """
        seems = self._seems_for_directories if is_dir else self._seems_for_others
        if seems is None or seems.search(path) is None:
            return False
        for rule in self._rules:
            if is_dir or not rule.directories_only:
                found = rule.regex.search(path)
                if found and (rule.reaches_everything or found.end() == len(path)):
                    return rule.excludes
        return False


def check_lines(lines: Iterable[str | bytes], name: str) -> None:
    """Raise UsageError, with the line's number, if one of the file called *name* is no pattern."""
    for number, line in enumerate(lines, 1):
        try:
            _rule(line)
        except UsageError as error:
            raise UsageError(f"{name}, line {number}: {error}") from error


def _rule(line: str | bytes) -> _Rule | None:
    raw = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
    glob = _TRAILING_SPACES.sub(rb"\1", raw.removesuffix(b"\n").removesuffix(b"\r"))
    if glob.startswith(b"#"):
        return None
    directories_only = glob.endswith(b"/")
    glob = _STRIPPED_BY_PATHSPEC.sub(rb"[\1]", glob.removesuffix(b"/"))
    if glob in (b"", b"!"):
        return None
    compiled = _compile(glob, raw)
    if compiled is None:
        return None
    regex, excludes = compiled
    return _Rule(regex, excludes, directories_only, _reaches_everything(glob))


def _compile(glob: bytes, line: bytes) -> tuple[re.Pattern[bytes], bool] | None:
    """Return the regular expression of *glob*, and whether it excludes; None if it is void."""
    from pathspec import GitIgnoreSpec

    shown = line.decode("utf-8", "backslashreplace")
    if _POSIX_CLASS.search(glob):
        raise UsageError(f"Pattern {shown!r} has a named class; write out its characters")
    try:
        (pattern,) = GitIgnoreSpec.from_lines([glob], backend="simple").patterns
    except (ValueError, re.error) as error:
        raise UsageError(f"Pattern {shown!r} can match nothing") from error
    if pattern.regex is None or pattern.include is None:
        return None
    # a name may hold a newline
    return re.compile(pattern.regex.pattern, re.DOTALL), pattern.include


def _reaches_everything(glob: bytes) -> bool:
    body = glob.removeprefix(b"!")
    *parents, last = body.removeprefix(b"/").split(b"/")
    return last == b"**" or (last == b"*" and set(parents) <= {b"**"} and body != b"/*")


def _any_of(rules: Iterable[_Rule]) -> re.Pattern[bytes] | None:
    """Return one expression that is found wherever one of the rules' is: most paths have none."""
    sources = [_NAMED_GROUP.sub(b"(?:", rule.regex.pattern) for rule in rules]
    return re.compile(b"|".join(sources), re.DOTALL) if sources else None
