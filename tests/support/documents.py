"""The documents of the project, and what of them can be run: README, the manual, FORMAT.rst."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from ibtfs.cli.manual import TOPICS, page
from tests.support import CHECKOUT

README = (CHECKOUT / "README.rst").read_text(encoding="utf-8")
PAGES = {topic: page(topic) for topic in TOPICS}
PROGRAM = f"""#!/bin/sh
exec {shlex.quote(sys.executable)} -c 'from ibtfs.cli.%s import main; main()' "$@"
"""
Row = dict[str, str]
"""A row of a table: column to cell."""


def section(text: str, title: str, line: str = "-") -> str:
    """What stands in *text* below a heading underlined by *line*, up to the next of its kind."""
    parts = rf"^{re.escape(title)}\n{line}+\n(.*?)(?=^[^\n]+\n{line}{line}{line}+\n|\Z)"
    found = re.search(parts, text, re.M | re.S)
    assert found, f"No section {title!r}"
    return found[1]


def literal_blocks(text: str) -> list[list[str]]:
    """The literal blocks of *text*, line by line, without their indentation."""
    blocks = re.findall(r"::\n\n((?:    .*\n|\n(?=    ))+)", text)
    return [[line[4:] for line in block.splitlines()] for block in blocks]


def list_tables(text: str) -> dict[str, list[Row]]:
    """The list-tables by title: a row is a dict of column to cell, without markup."""
    tables: dict[str, list[Row]] = {}
    for block in re.split(r"^\.\. list-table:: ", text, flags=re.MULTILINE)[1:]:
        title, _, rest = block.partition("\n")
        indented = re.match(r"(?:   .*\n|\n)*", rest)
        assert indented is not None
        rows: list[list[str]] = []
        for line in indented[0].splitlines():
            if line.startswith("   * -"):
                rows.append([line[6:].strip()])
            elif line.startswith("     -"):
                rows[-1].append(line[6:].strip())
            elif rows and line.strip():
                rows[-1][-1] += " " + line.strip()
        names, *cells = [[cell.replace("``", "") for cell in row] for row in rows]
        assert all(len(row) == len(names) for row in cells), title
        assert title not in tables
        tables[title] = [dict(zip(names, row)) for row in cells]
    return tables


def make_programs(folder: Path) -> None:
    """Make *folder*, with an `ibtfs` and a `mount.ibtfs` that are this checkout's."""
    folder.mkdir()
    for name, module in (("ibtfs", "main"), ("mount.ibtfs", "mount_helper")):
        make_program(folder / name, PROGRAM % module)


def make_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def environment(home: Path, programs: Path) -> dict[str, str]:
    """That of a user whose home is *home*, with *programs* on the PATH."""
    return {
        "HOME": str(home), "LC_ALL": "C.UTF-8", "PYTHONPATH": str(CHECKOUT),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }  # fmt: skip
