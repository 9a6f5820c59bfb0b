"""`ibtfs help`: topics, commands, near misses, the pager, completion; what a page looks like."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from ibtfs.cli.main import COMMANDS, cli
from ibtfs.cli.manual import TOPICS, page, readable, summary
from tests.support import CHECKOUT
from tests.support.documents import PAGES


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def run_json(*words: str, code: int = 0) -> dict[str, Any]:
    answer = json.loads(run("help", "--json", *words, code=code).stdout)
    assert answer.pop("exit_code") == code
    return dict(answer)


def test_the_list_of_topics() -> None:
    shown = run("help").stdout
    lines = [line.split(maxsplit=1) for line in shown.splitlines() if line.startswith("  ")]
    assert lines == [[topic, summary(topic)] for topic in TOPICS]
    assert "`ibtfs help COMMAND`" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    listed = [{"name": topic, "summary": summary(topic)} for topic in TOPICS]
    assert run_json() == {"topics": listed}


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_its_page(topic: str) -> None:
    shown = run("help", topic).stdout
    assert shown == readable(page(topic))
    assert len(summary(topic)) > 10
    # what it says is there, and what only reStructuredText needs is not
    for words in ("``", "`_", "\n.. ", ":header-rows:"):
        assert words not in shown.replace("\n.. [", ""), words
    words = [word for word in PAGES[topic].split() if word.isalpha()]
    assert len([word for word in shown.split() if word.isalpha()]) > len(words) * 0.9
    assert run_json(topic) == {"topic": topic, "text": shown.rstrip("\n")}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command(name: str) -> None:
    shown = run("help", name).stdout
    assert shown == run(name, "--help").stdout
    assert shown.startswith(f"Usage: ibtfs {name} ")
    assert run_json(name) == {"topic": name, "text": shown.rstrip("\n")}


def test_the_format_is_read_from_the_package() -> None:
    text = (CHECKOUT / "ibtfs" / "format" / "FORMAT.rst").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("   ") and "`" not in line]
    shown = run("help", "format").stdout.splitlines()
    assert len(lines) > 500
    assert set(lines) - set(shown) <= {line for line in lines if line.startswith("   :")}


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("mout", ["mount", "mounts"]), ("formt", ["format"]), ("bakup", ["backup"]),
        ("comands", ["commands"]), ("Mounts", ["mounts"]), ("perfomance", ["performance"]),
    ],
)  # fmt: skip
def test_near_misses(word: str, near: list[str]) -> None:
    result = run("help", word, code=2)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    start = f"ibtfs: No topic or command {word!r}: did you mean "
    assert line.startswith(start)
    assert line.endswith("?")
    assert set(near) <= set(line[len(start) : -1].split(", "))
    assert run_json(word, code=2)["error"] == line.removeprefix("ibtfs: ")


def test_a_word_that_is_near_to_nothing() -> None:
    (line,) = run("help", "xyzzy", code=2).stderr.splitlines()
    assert line == "ibtfs: No topic or command 'xyzzy': ibtfs help lists the topics"


def test_one_topic_at_a_time() -> None:
    assert "unexpected extra argument" in run("help", "mounts", "deltas", code=2).stderr


def ibtfs(*words: str) -> list[str]:
    return [sys.executable, "-m", "ibtfs", *words]


def test_on_a_terminal_a_pager_shows_it(tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > {tmp_path}/shown\necho paged\n")
    pager.chmod(0o755)
    leader, terminal = pty.openpty()
    environment = {**os.environ, "PAGER": str(pager), "PYTHONPATH": str(CHECKOUT)}
    subprocess.run(
        ibtfs("help", "deltas"), stdin=terminal, stdout=terminal, env=environment, check=True
    )
    os.close(terminal)
    assert os.read(leader, 1000).split() == [b"paged"]
    os.close(leader)
    assert (tmp_path / "shown").read_text() == readable(page("deltas"))


def test_a_reader_that_has_seen_enough() -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        ibtfs("help", "format"), stdout=write, stderr=subprocess.PIPE, cwd=CHECKOUT, check=False
    )
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")


def test_a_terminal_that_knows_ascii_only() -> None:
    result = subprocess.run(
        ibtfs("help", "mounts"), env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True, cwd=CHECKOUT, check=True,
    )  # fmt: skip
    assert b"Mounts" in result.stdout


def completed(*words: str) -> dict[str, str | None]:
    """What a shell offers for the last of *words*, with the lines that go with it."""
    *before, last = words
    found = ShellComplete(cli, {}, "ibtfs", "_IBTFS_COMPLETE").get_completions(before, last)
    return {item.value: item.help for item in found}


def test_topics_are_completed() -> None:
    lines = {name: lazy.help for name, lazy in COMMANDS.items()}
    assert completed("help", "") == {topic: summary(topic) for topic in TOPICS} | lines
    assert completed("help", "mou") == {"mounts": summary("mounts"), "mount": lines["mount"]}
    assert completed("help", "x") == {}
    assert "help" in completed("he")


def test_it_imports_neither_the_library_nor_docutils() -> None:
    script = (
        "import sys\nfrom ibtfs.cli.main import main\nsys.argv = ['ibtfs', 'help', 'mounts']\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    words = [sys.executable, "-c", script]
    result = subprocess.run(words, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    parts = {name.partition(".")[0] for name in result.stderr.split()}
    assert not parts & {"docutils", "msgpack", "zstandard", "blake3", "rich"}
    assert not [name for name in result.stderr.split() if name.startswith("ibtfs.store")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a ``word`` and\n``two\nwords``", "a word and\ntwo\nwords"),
        ("see `ibtfs help mounts <mounts.rst>`_.", "see ibtfs help mounts."),
        ("see `Rules for readers`_", "see Rules for readers"),
        ("as here::\n\n    code::\n", "as here:\n\n    code:\n"),
        ("\n::\n\n    code\n", "\n    code\n"),
        (".. _anchor:\n\ntext\n", "text\n"),
        (".. image:: bench.svg\n   :alt: what is\n   :width: 100%\n\ntext\n", "text\n"),
        (".. list-table:: Sizes\n   :header-rows: 1\n\n   * - a\n", "Sizes:\n\n   * - a\n"),
        (".. list-table::\n   :header-rows: 1\n\n   * - a\n", "   * - a\n"),
        (".. code-block:: text\n   :name: hex\n\n   00 ff\n", "   00 ff\n"),
        (".. [1] a footnote\n", ".. [1] a footnote\n"),
        ("``_`` between ``x``_y and `a`", "_ between x_y and `a`"),
        ("**bold**, *so*, :: and a|b", "**bold**, *so*, :: and a|b"),
    ],
)  # fmt: skip
def test_what_a_page_looks_like(text: str, shown: str) -> None:
    assert readable(text) == shown
