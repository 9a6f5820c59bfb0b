"""The commands as they tell of themselves, in reStructuredText: the page ``commands.rst``."""

from __future__ import annotations

import inspect
import textwrap
from typing import NamedTuple

import click

from ibtfs.cli.command import Command
from ibtfs.cli.exit_codes import EXIT_CODES
from ibtfs.cli.main import COMMANDS, EXAMPLES, PROGRAM, cli

WIDTH, INDENT = 100, " " * 4
TITLE = "Commands: usage, options, examples, exit codes"
INTRODUCTION = """\
This page is made from the commands themselves; ``ibtfs COMMAND --help`` and ``ibtfs help COMMAND``
say the same of one. What POINT, MOMENT and PATH mean: `ibtfs help points <points.rst>`_.

``--debug`` before the command, or the variable ``IBTFS_DEBUG=1``, shows what happens and where an
error comes from. With ``--json`` a command (all but ``cat`` and ``serve-store``) prints one JSON
object, also when it fails. ``mount.ibtfs``, for fstab: `ibtfs help mounts <mounts.rst>`_."""
SIGNALS = """\
A command that is ended by a signal other than Ctrl-C gives 128 and the number of the signal. One
whose reader goes away ends without a word and gives 141, as git does (a shell tells it only with
``pipefail``)."""


class CommandText(NamedTuple):
    """What a command says of itself, as reStructuredText without headings."""

    name: str
    summary: str
    usage: str
    text: str
    sections: dict[str, str]
    """Options and examples, by the headings that they stand under."""


def described(name: str) -> CommandText:
    """The command of ibtfs that is called *name*."""
    context = click.Context(cli, info_name=PROGRAM)
    command = cli.get_command(context, name)
    assert isinstance(command, Command)
    below = click.Context(command, info_name=name, parent=context)
    summary, _, text = inspect.cleandoc(command.help or "").partition("\n\n")
    return CommandText(
        f"{PROGRAM} {name}",
        _marked(summary),
        " ".join([PROGRAM, name, *command.collect_usage_pieces(below)]),
        _marked(text),
        {
            **{title: options(records) for title, records in command.sections(below).items()},
            "Examples": literal(command.examples),
        },
    )


def described_program() -> CommandText:
    """``ibtfs`` itself."""
    context = click.Context(cli, info_name=PROGRAM)
    summary, _, text = inspect.cleandoc(cli.help or "").partition("\n\n")
    records = [parameter.get_help_record(context) for parameter in cli.get_params(context)]
    return CommandText(
        PROGRAM,
        _marked(summary),
        f"{PROGRAM} [OPTIONS] COMMAND [ARGS]...",
        _marked(text),
        {
            "Options": options([record for record in records if record is not None]),
            "Commands": options([(f"{PROGRAM} {n}", lazy.help) for n, lazy in COMMANDS.items()]),
            "Examples": literal(EXAMPLES.partition("\n")[2]),
        },
    )


def options(records: list[tuple[str, str]]) -> str:
    """A list of definitions."""
    return "\n".join(f"``{words}``\n{_indented(_marked(meaning))}" for words, meaning in records)


def literal(lines: str) -> str:
    """A block of lines to be shown as they are."""
    return "::\n\n" + "\n".join(INDENT + line.strip() for line in lines.strip().splitlines())


def section(title: str, line: str, text: str) -> str:
    """*text* under a heading, underlined by *line*; nothing if there is no text."""
    return f"\n{title}\n{line * len(title)}\n\n{text}\n" if text else ""


def exit_codes() -> str:
    """The table of exit codes, and what it leaves out."""
    rule = f"===== {'=' * max(map(len, EXIT_CODES.values()))}"
    rows = [f"{code:<5} {meaning}" for code, meaning in EXIT_CODES.items()]
    return "\n".join([rule, "Code  Meaning", rule, *rows, rule, "", SIGNALS])


def commands_page() -> str:
    """The whole page."""
    commands = [described_program(), *map(described, COMMANDS)]
    pages = [_page(command) for command in commands]
    codes = section("Exit codes", "-", exit_codes())
    return f"{TITLE}\n{'=' * len(TITLE)}\n\n{INTRODUCTION}\n\n" + "\n".join([*pages, codes])


def _page(command: CommandText) -> str:
    text = f"{command.summary}\n\n{literal(command.usage)}"
    if command.text:
        text += f"\n\n{command.text}"
    parts = [section(title, "~", part) for title, part in command.sections.items()]
    return section(command.name, "-", text) + "".join(parts)


def _indented(text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False
    )


def _marked(text: str) -> str:
    """Text of click's, in which one backquote marks what is to be typed."""
    return text.replace("`", "``")
