"""What is printed: names made printable, JSON, tables, and numbers for people."""

from __future__ import annotations

import binascii
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import click

from ibtfs.cli.exit_codes import ALARMED, FAILURE

_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x1b": "\\e"}
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_AGES = ((365 * 86400, "y"), (30 * 86400, "mo"), (7 * 86400, "w"), (86400, "d"), (3600, "h"))


def printable(text: str) -> str:
    """*text* in one line, with nothing in it that would change a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if char in _ESCAPES:
        return _ESCAPES[char]
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(path: bytes) -> str:
    """A path or name as a terminal may show it."""
    return printable(os.fsdecode(path))


def say(text: str = "") -> None:
    """Print a line to standard output."""
    click.echo(text)


def complain(text: str) -> None:
    """Print a line to standard error, made printable."""
    click.echo(f"ibtfs: {printable(text)}", err=True)


def say_name(before: str, name: bytes) -> None:
    """Print a line that ends with a name: made printable on a terminal, as it is in a pipe."""
    if sys.stdout.isatty():
        click.echo(before + shown(name))
    else:
        click.echo(before.encode("utf-8", "backslashreplace") + name)


def emit_json(result: Mapping[str, Any]) -> None:
    """Print the one JSON object of a command."""
    import json

    context = click.get_current_context(silent=True)
    if context is not None and context.meta.get(ALARMED) and not result.get("exit_code"):
        result = {**result, "exit_code": FAILURE, "error": context.meta[ALARMED]}
    click.echo(json.dumps(result))
    sys.stdout.flush()


def json_bytes(value: bytes, key: str = "path") -> dict[str, str]:
    """*value* as a field of JSON; if it is not UTF-8, there is a second one with all its bytes."""
    try:
        return {key: value.decode()}
    except UnicodeDecodeError:
        encoded = binascii.b2a_base64(value, newline=False).decode()
        return {key: value.decode("utf-8", "replace"), f"{key}_base64": encoded}


def json_time(time_ns: int) -> str:
    """A moment as ISO 8601 in UTC, to the microsecond."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return f"@{seconds}"  # beyond the year 9999
    return moment.replace(microsecond=rest // 1000).isoformat()


def local_time(time_ns: int) -> str:
    """A moment for people, in local time, to the second."""
    seconds = time_ns // 1_000_000_000
    try:
        return datetime.fromtimestamp(seconds).isoformat(" ")
    except (ValueError, OverflowError, OSError):
        return f"@{seconds}"  # beyond the year 9999


def human_size(size: int) -> str:
    """Bytes for people: ``4.2 MiB``."""
    if size < 1024:
        return f"{size} B"
    value, unit = size / 1024, 0
    while value >= 999.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:,.1f} {_UNITS[unit]}"


def human_seconds(seconds: float) -> str:
    """A length of time for people: ``0.8 s``, ``2:05 min``, ``1:02:05 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def human_age(seconds: float) -> str:
    """How long ago something was: ``3d``; usable as a moment on the command line."""
    if seconds < 0:
        return "future"
    for length, unit in _AGES:
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds // 60)}min" if seconds >= 60 else f"{int(seconds)}s"


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 file``, ``1,200 files``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def screen_width() -> int:
    """How many columns the terminal has; 0 if standard output is none."""
    if not sys.stdout.isatty():
        return 0
    import shutil  # takes 3 ms, and who writes to a file or a pipe needs none of it

    return shutil.get_terminal_size().columns


def can_show(text: str) -> bool:
    """Whether standard output takes *text* as it is: not all locales have UTF-8."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def cut(text: str, width: int) -> str:
    """*text*, no longer than *width*; 0 is any width."""
    if not width or len(text) <= width:
        return text
    return text[: max(width - 1, 0)] + ("…" if can_show("…") else "~")


def fitting(rows: Sequence[Sequence[str]], width: int, dispensable: Sequence[int]) -> list[int]:
    """Which columns of *rows*, the first being their header, fit into *width*; 0 is any width.

    Columns without contents go first, then *dispensable* ones in their order.
    """
    columns = list(zip(*rows))
    widths = [max(map(len, column)) for column in columns]
    kept = list(range(len(columns)))
    empty = [number for number, column in enumerate(columns) if not any(column[1:])]
    for number in dict.fromkeys([*empty, *dispensable]):
        if not width or sum(widths[n] + 2 for n in kept) - 2 <= width:
            break
        kept.remove(number)
    return kept


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[int]) -> str:
    """Columns with two blanks between them; those in *right* end at the same place."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = []
    for line in lines:
        cells = [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)
