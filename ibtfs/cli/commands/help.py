"""``ibtfs help``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ibtfs.cli import manual
from ibtfs.cli.command import Command, json_option
from ibtfs.cli.main import COMMANDS, cli
from ibtfs.cli.output import emit_json
from ibtfs.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

EXAMPLES = """
    ibtfs help
    ibtfs help mounts
    ibtfs help backup
"""
HOW = "`ibtfs help TOPIC` shows a page, `ibtfs help COMMAND` the help of a command."


def _completions(
    _context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """The topics and commands whose names begin so."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(name, help=line) for name, line in _known() if name.startswith(begun)]


@click.command("help", cls=Command, examples=EXAMPLES)
@click.argument("topic", required=False, shell_complete=_completions)
@json_option
@click.pass_context
def command(ctx: click.Context, /, *, topic: str | None, as_json: bool) -> int:
    """Show a page of the manual, or the help of a command.

    TOPIC is one of those that are listed without it, or a command. On a terminal the page is shown
    by $PAGER, or by less.
    """
    if topic is None:
        _list(ctx, as_json=as_json)
        return 0
    text = _text(ctx, topic)
    if as_json:
        emit_json({"topic": topic, "text": text, "exit_code": 0})
    else:
        click.echo_via_pager(text)
    return 0


def _topics() -> list[tuple[str, str]]:
    return [(topic, manual.summary(topic)) for topic in manual.TOPICS]


def _known() -> list[tuple[str, str]]:
    """All that there is help for: names, each with a line."""
    return [*_topics(), *((name, lazy.help) for name, lazy in COMMANDS.items())]


def _list(ctx: click.Context, *, as_json: bool) -> None:
    topics = _topics()
    if as_json:
        listed = [{"name": name, "summary": line} for name, line in topics]
        emit_json({"topics": listed, "exit_code": 0})
        return
    formatter = ctx.make_formatter()
    with formatter.section("Topics"):
        formatter.write_dl(topics)
    formatter.write(
        "\n`ibtfs help TOPIC` shows a page, `ibtfs help COMMAND` the help of a command.\n"
    )
    click.echo(formatter.getvalue(), nl=False)


def _text(ctx: click.Context, topic: str) -> str:
    """The page on *topic*, or the help of the command called so.  Raises UsageError."""
    if topic in manual.TOPICS:
        return manual.readable(manual.page(topic)).rstrip("\n")
    found = cli.get_command(ctx, topic)
    if found is None:
        raise UsageError(_no_topic(topic))
    return found.get_help(click.Context(found, info_name=topic, parent=ctx.parent))


def _no_topic(topic: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(topic, [name for name, _ in _known()])
    hint = f"did you mean {', '.join(near)}?" if near else "ibtfs help lists the topics"
    return f"No topic or command {topic!r}: {hint}"
