"""The ``ibtfs`` command: finds the command that is meant, imports it, and runs it.

Nothing else is imported before it is needed, so that help and completion are there at once.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from typing import Any, NamedTuple, NoReturn

import click

from ibtfs import __version__
from ibtfs.cli.exit_codes import ALARMED, EXIT_CODES, FAILURE, USAGE
from ibtfs.cli.failures import ReaderGone, debug_in_environment, exit_code_of

PROGRAM = "ibtfs"


class _Lazy(NamedTuple):
    """Where a command is, and its line in the list of commands."""

    module: str
    help: str


COMMANDS = {
    "init": _Lazy("init", "Make a new, empty repository."),
    "backup": _Lazy("backup", "Back up folders or files into a repository."),
    "list": _Lazy("list", "List the backup points of a repository."),
    "ls": _Lazy("ls", "List the files in a backup point."),
    "cat": _Lazy("cat", "Write a file of a backup point to standard output."),
    "diff": _Lazy("diff", "Show what differs between two backup points, or a point and now."),
    "versions": _Lazy("versions", "List the versions of a file, oldest first."),
    "restore": _Lazy("restore", "Restore a backup point, or parts of it, to a folder."),
    "tag": _Lazy("tag", "Tag backup points, take tags away, or list them."),
    "undo": _Lazy("undo", "Take back the last backup of a source."),
    "forget": _Lazy("forget", "Remove backup points: those named, or those that no rule keeps."),
    "copy": _Lazy("copy", "Copy backup points into another repository."),
    "delta": _Lazy("delta", "Write the difference of two versions of a file for rdiff."),
    "mount": _Lazy("mount", "Show all backup points as ordinary, read-only folders."),
    "umount": _Lazy("umount", "Take a mounted repository away."),
    "stats": _Lazy("stats", "What a repository takes, and what removing points would free."),
    "prune": _Lazy("prune", "Free the space of what no backup point needs."),
    "purge": _Lazy("purge", "Take files out of all backup points, and off the disk."),
    "protect": _Lazy("protect", "Add parity, by which damage up to a share heals."),
    "check": _Lazy("check", "Check a repository for damage."),
    "repair": _Lazy("repair", "Take what is damaged from a copy of the repository."),
    "serve-store": _Lazy("serve_store", "Serve a repository to an ibtfs on another machine."),
    "key": _Lazy("key", "Change what opens a sealed repository."),
    "help": _Lazy("help", "Show a page of the manual, or the help of a command."),
}

EXAMPLES = """\
Examples:
  ibtfs backup ~/documents /media/disk/backups
  ibtfs list /media/disk/backups
  ibtfs mount /media/disk/backups /mnt/backups
  ibtfs restore /media/disk/backups yesterday letter.txt ~/rescued
"""


class LazyGroup(click.Group):
    """Commands from a table, each imported when it is called; errors end in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table: as a person meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called *cmd_name*, imported; None if there is none."""
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        command: click.Command = importlib.import_module(
            f"ibtfs.cli.commands.{found.module}"
        ).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Add the examples as they are written, and the exit codes."""
        codes = "".join(f"  {code:3}  {meaning}\n" for code, meaning in EXIT_CODES.items())
        formatter.write(f"\n{EXAMPLES}\nExit codes:\n{codes}")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click itself would make a failure of a reader that goes away."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            if ctx.meta.get(ALARMED) and not result:
                return FAILURE
        except BrokenPipeError as error:
            raise ReaderGone from error
        return result

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run the command that the arguments name, and exit with its code."""
        given = args[0] if args else options.pop("args", None)
        words = sys.argv[1:] if given is None else list(given)
        options.update(prog_name=PROGRAM, standalone_mode=False)
        sys.exit(exit_code_of(lambda: super(LazyGroup, self).main(words, **options), words))


@click.group(cls=LazyGroup, invoke_without_command=True)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show what happens, and where an error comes from.")
@click.pass_context
def cli(ctx: click.Context, *, debug: bool) -> None:
    """Incremental backups that you can walk through in time.

    A repository holds backup points. Each is one state of one source, complete and readable by
    itself, though only what has changed was stored.
    """
    import logging

    level = logging.DEBUG if debug or debug_in_environment() else logging.WARNING
    logging.basicConfig(level=level, format=f"{PROGRAM}: %(message)s")
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


def main() -> NoReturn:
    """The entry point of the ``ibtfs`` command."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminated)
    _raise_descriptors()
    # rows and records are tuples that hold no cycles: looking for some cost a twentieth of a backup
    gc.set_threshold(100_000, 50, 1000)
    cli.main()


def _open_standard_streams() -> None:
    """Give what was closed by whoever started us a place to go to, or to come from."""
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _raise_descriptors() -> None:
    """Allow as many open files as the system lets us: a deep tree needs one a level."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return  # what was allowed before has to do


def _terminated(number: int, _frame: object) -> NoReturn:
    # as an exception, so that locks are given back and the terminal is left in order
    sys.exit(128 + number)
