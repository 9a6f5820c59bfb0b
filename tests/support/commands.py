"""The command, run within this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from ibtfs.cli.main import cli
from tests.support.prepared import prepared

ODD = b"odd \xff\n\x1b[31m"
Run = Callable[..., Result]
PATIENCE = 240


def run(*words: object, code: int = 0, stdin: bytes | None = None) -> Result:
    """Run a command within this process; it must end with *code*."""
    result = CliRunner().invoke(cli, [_text(word) for word in words], input=stdin)
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def run_json(*words: object, code: int = 0, stdin: bytes | None = None) -> dict[str, Any]:
    result = run(*words, "--json", code=code, stdin=stdin)
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    assert answer["exit_code"] == code
    assert ("error" in answer) == (code not in (0, 3))
    return answer


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "ibtfs", *map(_text, words)]


def outside(*words: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own; it starts at once if there are no *options*."""
    return in_process(command() if options else [str(prepared())], *words, **options)


def in_process(
    program: list[str], *words: object, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run *program*; it is stopped only when it hangs, however busy the machine is."""
    texts = [_text(word) for word in words]
    return subprocess.run(
        [*program, *texts], capture_output=True, check=False, timeout=PATIENCE, **options
    )


def _text(word: object) -> str:
    return os.fsdecode(word) if isinstance(word, (bytes, Path)) else str(word)
