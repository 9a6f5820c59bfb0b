"""What ends a command: one clear line, or one JSON object, and the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import click

from ibtfs.cli.exit_codes import DONE, FAILURE, INTERRUPTED, READER_GONE
from ibtfs.cli.output import complain, emit_json
from ibtfs.errors import IbtfsError


class ReaderGone(Exception):
    """Whoever read standard output has seen enough."""


class Failure(NamedTuple):
    """Why a command ended: message, code, and a hint that is for people only."""

    message: str
    exit_code: int
    hint: str = ""


def exit_code_of(run: Callable[[], object], words: Sequence[str]) -> int:
    """Run a command; its exit code, after whatever went wrong was told.

    *words* are its arguments: they tell how to tell.
    """
    try:
        code = run()
        sys.stdout.flush()
    except SystemExit:
        raise
    except (ReaderGone, BrokenPipeError):
        return _quiet_pipe()
    except BaseException as error:
        return _tell(error, words)
    return code if isinstance(code, int) else DONE


def _quiet_pipe() -> int:
    """Whoever read standard output has seen enough."""
    try:
        # what is still buffered would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:
        pass
    return READER_GONE


def _tell(error: BaseException, words: Sequence[str]) -> int:
    failure = _failure(error)
    if _wants_debug(words) and not isinstance(error, (click.ClickException, click.Abort)):
        import traceback

        traceback.print_exception(error)
    if _wants_json(words):
        try:
            emit_json({"error": failure.message, "exit_code": failure.exit_code})
        except BrokenPipeError:
            return _quiet_pipe()
        except OSError:
            complain(failure.message)  # standard output is full: the other may not be
    else:
        complain(failure.message)
        if failure.hint:
            complain(failure.hint)
    return failure.exit_code


def _failure(error: BaseException) -> Failure:
    if isinstance(error, IbtfsError):
        return Failure(str(error), error.exit_code)
    if isinstance(error, click.ClickException):
        return _usage_failure(error)
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return Failure("Interrupted", INTERRUPTED)
    if isinstance(error, OSError):
        return Failure(_os_message(error), FAILURE)
    if isinstance(error, MemoryError):
        return Failure("Out of memory", FAILURE)
    return Failure(
        f"Unexpected error: {type(error).__name__}: {error}",
        FAILURE,
        "This is a bug; to see where, run it again with IBTFS_DEBUG=1 or ibtfs --debug",
    )


def _usage_failure(error: click.ClickException) -> Failure:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"See: {context.command_path} --help" if context else ""
    return Failure(" ".join(error.format_message().split()), error.exit_code, hint)


def _os_message(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return reason
    name = error.filename
    return f"{os.fsdecode(name) if isinstance(name, (str, bytes)) else name}: {reason}"


def _wants_json(words: Sequence[str]) -> bool:
    """Whether --json is among the options, looked up here since parsing them may have failed."""
    return "--json" in _options(words)


def _wants_debug(words: Sequence[str]) -> bool:
    return "--debug" in _options(words) or debug_in_environment()


def debug_in_environment() -> bool:
    """Whether the environment asks for details."""
    return os.environ.get("IBTFS_DEBUG", "") not in {"", "0"}


def _options(words: Sequence[str]) -> Sequence[str]:
    return words[: words.index("--")] if "--" in words else words
