"""Man pages: the pages of the manual, and what each command says of itself, through docutils."""

from __future__ import annotations

import re
from pathlib import Path

from docutils.core import publish_parts
from docutils.writers import manpage

from ibtfs import __version__
from ibtfs.cli.main import COMMANDS, PROGRAM
from ibtfs.cli.manual import TOPICS, page, summary
from manuals.reference import (
    CommandText,
    described,
    described_program,
    exit_codes,
    literal,
    section,
)

COMMAND, FILE_FORMAT, TOPIC, ADMINISTRATION = 1, 5, 7, 8
"""Sections of the system's manual."""

IN_OTHER_PAGES = {"commands"}
"""Topics that have no page of their own: the commands have one each."""

WARNING = 2
_HEADING = re.compile(r"\A(=+\n)?.+\n=+\n\n")
_NO_USE = re.compile(r"^\.\. (?:image|contents)::.*\n(?:   .*\n)*\n", re.MULTILINE)
_LINK = re.compile(r"`ibtfs help (\w+) <[^>]+>`_")
_FIRST_SECTION = re.compile(r"^[^\n]+\n(?:-+|=+)$", re.MULTILINE)


def man_pages() -> dict[str, str]:
    """All man pages by their names: ``ibtfs.1``, ``ibtfs-mounts.7``."""
    pages = {f"{PROGRAM}.{COMMAND}": _program_page()}
    for name in COMMANDS:
        pages[f"{PROGRAM}-{name}.{COMMAND}"] = _command_page(described(name))
    for topic in set(TOPICS) - IN_OTHER_PAGES:
        pages[f"{PROGRAM}-{topic}.{_section_of(topic)}"] = _topic_page(topic)
    # what somebody looks for who has read of it in his fstab
    pages[f"mount.{PROGRAM}.{ADMINISTRATION}"] = f".so man{TOPIC}/{PROGRAM}-mounts.{TOPIC}\n"
    return pages


def write_man_pages(folder: Path) -> list[Path]:
    """Write all man pages to *folder*, each below ``man1`` and the like; where they are."""
    written = []
    for name, text in sorted(man_pages().items()):
        path = folder / f"man{name.rpartition('.')[2]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _program_page() -> str:
    command = described_program()
    topics = "\n".join(
        f"``{_page_of(topic)}``\n    {summary(topic)}" for topic in TOPICS if topic != "commands"
    )
    text = _command_text(command) + section("Exit status", "-", exit_codes())
    return _made(PROGRAM, COMMAND, command.summary, text + section("See also", "-", topics))


def _command_page(command: CommandText) -> str:
    text = _command_text(command) + section("See also", "-", _page_of("commands"))
    return _made(command.name.replace(" ", "-"), COMMAND, command.summary, text)


def _command_text(command: CommandText) -> str:
    parts = {
        "Synopsis": literal(command.usage),
        "Description": command.text or command.summary,
        **command.sections,
    }
    return "".join(section(title, "-", part) for title, part in parts.items())


def _topic_page(topic: str) -> str:
    text = _NO_USE.sub("", _HEADING.sub("", page(topic)))
    found = _FIRST_SECTION.search(text)
    start = found.start() if found else len(text)
    line = found[0][-1] if found else "-"
    text = section("Description", line, text[:start].strip()) + "\n" + text[start:]
    text += section("See also", line, _page_of("commands"))
    return _made(f"{PROGRAM}-{topic}", _section_of(topic), summary(topic), text)


def _section_of(topic: str) -> int:
    return FILE_FORMAT if topic == "format" else TOPIC


def _page_of(topic: str) -> str:
    """How one man page refers to the one of *topic*."""
    if topic == "commands":
        return f"{PROGRAM}({COMMAND})"
    return f"{PROGRAM}-{topic}({_section_of(topic)})"


def _made(name: str, number: int, line: str, text: str) -> str:
    """A man page.  Raises docutils.utils.SystemMessage where there is something to warn of."""
    head = f"{_overlined(name, '=')}\n{_overlined(line.rstrip('.'), '-')}\n"
    head += f":Version: {PROGRAM} {__version__}\n:Manual section: {number}\n"
    head += f":Manual group: {PROGRAM}\n\n"
    text = _LINK.sub(lambda found: _page_of(found[1]), text)
    parts = publish_parts(
        head + text,
        source_path=f"{name}.{number}",
        writer=manpage.Writer(),
        settings_overrides={
            "report_level": WARNING, "halt_level": WARNING, "input_encoding": "unicode",
            "output_encoding": "unicode", "_disable_config": True,
        },
    )  # fmt: skip
    return _with_narrow_tables(str(parts["whole"]))


def _overlined(title: str, line: str) -> str:
    return "\n".join([line * len(title), title, line * len(title), ""])


def _with_narrow_tables(text: str) -> str:
    """Tables with less between their columns, and words that need not reach from edge to edge."""
    text = re.sub(r"^\.TS$", ".na\n.TS", text, flags=re.MULTILINE)
    text = re.sub(r"^\.TE$", ".TE\n.ad", text, flags=re.MULTILINE)
    columns = re.compile(r"^(?:l\|)+l\.$", re.MULTILINE)
    return columns.sub(lambda line: line[0].replace("|", "1|"), text)
