"""Which paths to leave out, by git's rules for its ignore files; the only importer of pathspec.

pathspec's ``GitIgnoreSpec`` translates each line to a regular expression.  Which line decides is
settled here, for a walk that does not enter what is excluded: the last line that matches the
entry itself.  (GitIgnoreSpec answers for files and takes a match of a parent directory for one of
the entry, so that with it ``*``, ``!*/``, ``!*.c`` and ``dir/**``, ``!dir/keep`` exclude
everything, which git does not.)

Those expressions try every way in which their stars can share out a name: with ten of them, for
ever.  So what lies between two stars, or two ``**``, is taken where it is found first, and stays
there: most is left then for what follows, so nothing is missed.

As in git, paths and lines are bytes: ``?`` is one byte of a character of several.  Unlike git,
there are no ``[[:alpha:]]`` classes (refused), and ``]`` cannot be escaped within brackets.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ibtfs.errors import UsageError

_POSIX_CLASS = re.compile(rb"\[:\w+:\]")
# how pathspec writes its parts; as all else that is special is escaped, they are nothing else
_BEFORE, _BETWEEN, _STAR = b"^(?:.+/)?", b"(?:/.+)?", b"[^/]*"
_ATOM = re.compile(rb"\\.|\[\^?\]?[^]]*\]", re.DOTALL)
_NAMED_SLASH, _END = b"(?P<ps_d>/)", b"(?:/|$)"
# pathspec strips what a str takes for white space; in a class it is safe
_STRIPPED_BY_PATHSPEC = re.compile(rb"\\?([\t-\r\x1c-\x20\x85\xa0])\Z")


class _Rule(NamedTuple):
    """One line: an entry matches if *regex* is found and reaches to the end of its path.

    *source* is its expression, as :func:`_settled` makes it of any prefix.
    """

    regex: re.Pattern[bytes]
    source: bytes
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
    glob = _without_spaces(raw.removesuffix(b"\n").removesuffix(b"\r"))
    if glob.startswith(b"#"):
        return None
    directories_only = glob.endswith(b"/")
    glob = _STRIPPED_BY_PATHSPEC.sub(rb"[\1]", glob.removesuffix(b"/"))
    if glob in (b"", b"!"):
        return None
    compiled = _compile(glob, raw)
    if compiled is None:
        return None
    source, excludes = compiled
    # a name may hold a newline
    regex = re.compile(_settled(source, 0), re.DOTALL)
    return _Rule(regex, source, excludes, directories_only, _reaches_everything(glob))


def _without_spaces(glob: bytes) -> bytes:
    """*glob* without the spaces that it ends in, but one that is escaped."""
    rest = glob.rstrip(b" ")
    is_escaped = (len(rest) - len(rest.rstrip(b"\\"))) % 2
    return glob[: len(rest) + 1] if is_escaped else rest


def _compile(glob: bytes, line: bytes) -> tuple[bytes, bool] | None:
    """Return pathspec's expression for *glob*, and whether it excludes; None if it is void."""
    from pathspec import GitIgnoreSpec

    shown = line.decode("utf-8", "backslashreplace")
    if _POSIX_CLASS.search(glob, glob.find(b"[") + 1):
        raise UsageError(f"Pattern {shown!r} has a named class; write out its characters")
    try:
        (pattern,) = GitIgnoreSpec.from_lines([glob], backend="simple").patterns
    except (ValueError, re.error) as error:
        raise UsageError(f"Pattern {shown!r} can match nothing") from error
    if pattern.regex is None or pattern.include is None:
        return None
    source = pattern.regex.pattern.replace(_NAMED_SLASH, b"/")
    return _ATOM.sub(_without_slash, source), pattern.include


def _without_slash(found: re.Match[bytes]) -> bytes:
    """An atom of an expression; no class, such as ``[!a]`` or ``[+-9]``, is a slash in git."""
    atom = found[0]
    return b"(?!/)" + atom if atom.startswith(b"[") and atom != b"[^/]" else atom


def _settled(source: bytes, number: int) -> bytes:
    """Pathspec's expression *source*, so that no two of its stars try all places together.

    *number* tells its groups from those of others in one expression.
    """
    body = source.removesuffix(_END)
    end = source[len(body) :]
    groups = (b"s%d_%d" % (number, group) for group in itertools.count())
    first, *others = body.split(_BETWEEN)
    if not others:
        return _segments(first, groups) + end
    *middle, last = others
    if first.startswith(_BEFORE):
        anywhere = b"(?:.+?/)??" + _segments(first.removeprefix(_BEFORE), groups)
        first = b"^" + _once(anywhere + b"(?=/)", groups)
    else:
        first = _segments(first, groups)
    found = [_once(b"(?:/.+?)??" + _segments(m, groups) + b"(?=/)", groups) for m in middle]
    return first + b"".join(found) + _BETWEEN + _segments(last, groups) + end


def _segments(source: bytes, groups: Iterator[bytes]) -> bytes:
    """The expression of what has no ``**`` in it: all but its last star are settled."""
    first, *others = source.split(_STAR)
    if not others:
        return first
    *middle, last = others
    found = [_once(b"[^/]*?" + part, groups) for part in middle if part]
    return first + b"".join(found) + _STAR + last


def _once(source: bytes, groups: Iterator[bytes]) -> bytes:
    """*source*, which is matched in one way only: Python has no other word for it before 3.11."""
    group = next(groups)
    return b"(?=(?P<%b>%b))(?P=%b)" % (group, source, group)


def _reaches_everything(glob: bytes) -> bool:
    body = glob.removeprefix(b"!")
    *parents, last = body.removeprefix(b"/").split(b"/")
    return last == b"**" or (last == b"*" and set(parents) <= {b"**"} and body != b"/*")


def _any_of(rules: Iterable[_Rule]) -> re.Pattern[bytes] | None:
    """Return one expression that is found wherever one of the rules' is: most paths have none."""
    sources = [_settled(rule.source, number) for number, rule in enumerate(rules)]
    return re.compile(b"|".join(sources), re.DOTALL) if sources else None
