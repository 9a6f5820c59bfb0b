"""The manual: its topics, and their pages as they lie in the package; nobody else reads them."""

from __future__ import annotations

import re

TOPICS = {
    "commands": "manual/commands.rst",
    "points": "manual/points.rst",
    "exclusion": "manual/exclusion.rst",
    "mounts": "manual/mounts.rst",
    "deltas": "manual/deltas.rst",
    "removal": "manual/removal.rst",
    "storage": "manual/storage.rst",
    "remote": "manual/remote.rst",
    "copying": "manual/copying.rst",
    "sealing": "manual/sealing.rst",
    "promises": "manual/promises.rst",
    "space": "manual/space.rst",
    "format": "format/FORMAT.rst",
    "performance": "manual/performance.rst",
    "comparison": "manual/comparison.rst",
    "library": "manual/library.rst",
    "developing": "manual/developing.rst",
}
"""Where the page of each topic lies, below the package; in the order in which they are listed."""

_DIRECTIVE = re.compile(r"^\.\. (?:_|[a-z-]+::)(.*)\n(?:   :.*\n)*\n?", re.MULTILINE)
_LINK = re.compile(r"`([^`<]+?)(?: <[^>`]+>)?`_(?!\w)")
_LITERAL = re.compile(r"``([^`]+)``")
_BLOCK = re.compile(r"^::\n\n|(?<=\S:):$", re.MULTILINE)


def page(topic: str) -> str:
    """The page on *topic*, as it was written: reStructuredText.  Raises KeyError."""
    from importlib.resources import files

    return files("ibtfs").joinpath(TOPICS[topic]).read_text(encoding="utf-8")


def summary(topic: str) -> str:
    """What the page on *topic* tells, in a line: its title behind the colon."""
    title = next(line for line in page(topic).splitlines() if line.strip("="))
    return title.partition(": ")[2]


def readable(text: str) -> str:
    """A page for people: without directives, targets of links, and marks of literals."""
    text = _DIRECTIVE.sub(_heading, text)
    for markup, shown in ((_LINK, r"\1"), (_LITERAL, r"\1"), (_BLOCK, "")):
        text = markup.sub(shown, text)
    return text


def _heading(directive: re.Match[str]) -> str:
    """What is left of a directive: of a table, its title."""
    table = directive[0].startswith(".. list-table::")
    return f"{directive[1].strip()}:\n\n" if table and directive[1] else ""
