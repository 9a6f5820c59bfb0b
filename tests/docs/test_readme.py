"""The README is true: its tour is run word by word, its tables are held against the code."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from ibtfs import errors
from ibtfs.cli import failures
from ibtfs.cli.main import COMMANDS, cli

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.rst").read_text(encoding="utf-8")
MARK = "@@ the exit code is"


def section(title: str) -> str:
    """The text below the heading *title*, up to the next of its kind."""
    found = re.search(rf"^{re.escape(title)}\n-+\n(.*?)(?=^[^\n]+\n---+\n|\Z)", README, re.M | re.S)
    assert found, f"README has no section {title!r}"
    return found[1]


def literal_blocks(text: str) -> list[list[str]]:
    """The literal blocks of *text*, line by line, without their indentation."""
    blocks = re.findall(r"::\n\n((?:    .*\n|\n(?=    ))+)", text)
    return [[line[4:] for line in block.splitlines()] for block in blocks]


# ---- the tour ----------------------------------------------------------------------------------


class Step(NamedTuple):
    """A command of the tour, and what it printed, by the README."""

    command: str
    output: list[str]


def tour() -> list[Step]:
    steps: list[Step] = []
    for block in literal_blocks(section("A tour of five minutes")):
        if not block[0].startswith("$ "):
            continue
        for line in block:
            if line.startswith("$ "):
                steps.append(Step(line[2:], []))
            else:
                steps[-1].output.append(line)
    return steps


def comparable(line: str) -> str:
    """*line* without what differs from run to run: numbers with their units, widths of columns."""
    line = re.sub(r"\d{8}T\d{6}Z_\S+", "#", line)
    line = re.sub(r"\d[\w.,:-]*(?: [KMG]iB\b| B\b| s\b)?", "#", line)
    return " ".join(line.split())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home folder, with an `ibtfs` that is this checkout's on its PATH."""
    place = tmp_path / "home" / "me"
    command = tmp_path / "bin" / "ibtfs"
    place.mkdir(parents=True)
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ibtfs "$@"\n')
    command.chmod(0o755)
    yield place
    mountpoint = place / "tour" / "mnt"
    if os.path.ismount(mountpoint):
        end = [command, "umount", "--lazy", mountpoint]
        subprocess.run(end, env=environment(place), check=False)


def environment(home: Path) -> dict[str, str]:
    return {
        "HOME": str(home), "LC_ALL": "C.UTF-8", "PYTHONPATH": str(CHECKOUT),
        "PATH": f"{home.parent.parent / 'bin'}:{os.environ['PATH']}",
    }  # fmt: skip


def pause(step: Step) -> str:
    return "sleep 1" if step.command.startswith("ibtfs backup") else ""


def walked(home: Path, steps: list[Step]) -> list[tuple[int, list[str]]]:
    """The exit code and output of each step, all run by one shell."""
    # a second later: two points of one second would be named, and sorted, in another way
    script = "".join(f"{step.command}\necho '{MARK}' $?\n{pause(step)}\n" for step in steps)
    with (home.parent / "output").open("w+") as output:
        # a file, not a pipe: what goes on in the background could hold that open
        subprocess.run(
            ["bash", "-c", script], cwd=home, env=environment(home), timeout=120, check=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
        output.seek(0)
        text = output.read()
    text = text.replace(str(home), "/home/me").replace(f"({socket.gethostname()}:", "(pc:")
    printed = re.split(rf"^{MARK} (\d+)\n", text, flags=re.M)
    return [(int(code), out.splitlines()) for out, code in zip(printed[::2], printed[1::2])]


def test_the_tour_does_and_prints_what_the_readme_says(home: Path) -> None:
    steps = tour()
    assert len(steps) > 10
    results = walked(home, steps)
    assert len(results) == len(steps)
    for step, (code, output) in zip(steps, results):
        expected = [comparable(line) for line in step.output]
        assert [comparable(line) for line in output] == expected, step.command
        assert code == (1 if step.command.startswith("diff ") else 0), step.command
    tour_folder = home / "tour"
    assert (tour_folder / "rescued.txt").read_text() == "Dear reader,\n"
    assert (tour_folder / "restored/letters/first.txt").read_text() == "Dear reader,\n"
    assert (tour_folder / "first.txt").read_text() == "Dear reader,\n"
    assert not os.path.ismount(tour_folder / "mnt")


def test_the_tour_uses_the_commands_that_a_beginner_needs() -> None:
    used = {match[1] for step in tour() for match in re.finditer(r"\bibtfs (\w+)", step.command)}
    assert used == set(COMMANDS) - {"init", "delta"}


def test_the_python_example_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = literal_blocks(section("A tour of five minutes"))
    (example,) = ("\n".join(block) for block in blocks if block[0].startswith("from ibtfs"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "first.txt").write_text("Dear reader,\n")
    exec(compile(example, "README.rst", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"documents [\d_-]+ 1 files", first)
    assert re.fullmatch(r"documents [\d_-]+ 1 files", second)
    assert (tmp_path / "restored" / "first.txt").read_text() == "Dear reader,\n"


# ---- the tables --------------------------------------------------------------------------------


def command_called(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def options_of(name: str) -> set[str]:
    """The options that `ibtfs NAME --help` shows."""
    return {
        word
        for parameter in command_called(name).params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for word in parameter.opts
    }


def rows() -> dict[str, str]:
    """The rows of the table of commands, each by the name of its command."""
    table = section("The commands").partition("``ibtfs COMMAND --help``")[0]
    found = re.findall(r"^   \* - ``ibtfs (\w+)(.*?)(?=^   \* - |\Z)", table, re.M | re.S)
    return dict(found)


def test_every_command_of_the_help_has_a_row() -> None:
    command = [sys.executable, "-m", "ibtfs", "--help"]
    shown = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    listed = re.search(r"^Commands:\n((?:  .*\n)+)", shown, re.M)
    assert listed
    assert set(re.findall(r"^  (\w+)", listed[1], re.M)) == set(rows())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_row_has_all_options_and_no_others(name: str) -> None:
    assert set(re.findall(r"``(--?[a-zA-Z][a-z-]*)", rows()[name])) == options_of(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_row_has_the_arguments_of_the_usage(name: str) -> None:
    command = command_called(name)
    usage = " ".join(command.collect_usage_pieces(click.Context(command))[1:])
    assert rows()[name].partition("``")[0].strip() == usage


def commands_shown() -> list[str]:
    """All command lines of ibtfs in the README, in blocks and in the text."""
    blocks = [line for block in literal_blocks(README) for line in block]
    inline = re.findall(r"``(ibtfs [^`]+)``", README)
    lines = [line.removeprefix("$ ").partition("  #")[0] for line in [*blocks, *inline]]
    return [line for line in lines if re.match(r"(\w+ \w+ \| )?ibtfs [a-z]+", line)]


def test_options_of_all_commands_shown_exist() -> None:
    checked = 0
    for line in commands_shown():
        words = shlex.split(line.partition("ibtfs ")[2])
        assert words[0] in COMMANDS, line
        given = {word for word in words if re.match(r"--?[a-zA-Z]", word)}
        assert given <= options_of(words[0]), line
        checked += len(given)
    assert checked > 5


def codes_of(kind: type[errors.IbtfsError]) -> set[int]:
    return {kind.exit_code}.union(*map(codes_of, kind.__subclasses__()))


def test_the_table_of_exit_codes_is_that_of_the_code() -> None:
    table = re.search(r"^Code  Meaning\n[= ]+\n(.*?)^=", README, re.M | re.S)
    assert table
    shown = set(map(int, re.findall(r"^(\d+) ", table[1], re.M)))
    ends = {failures.FAILURE, failures.USAGE, failures.INCOMPLETE, failures.INTERRUPTED}
    assert shown == {0} | ends | codes_of(errors.IbtfsError)


# ---- the files ---------------------------------------------------------------------------------


def test_the_first_screen_has_the_two_commands() -> None:
    screen = "".join(README.splitlines(keepends=True)[:24])
    for name in ("scripts/demo", "scripts/test"):
        assert f"    {name} " in screen
        assert os.access(CHECKOUT / name, os.X_OK)


def test_the_modules_that_it_names_exist() -> None:
    named = re.findall(r"^``((?:format|store|actions|mount|toolkit|cli)/[\w/, ]+)``", README, re.M)
    assert len(named) > 15
    for names in named:
        folder, _, rest = names.partition("/")
        for name in rest.split(", "):
            path = CHECKOUT / "ibtfs" / folder / name
            assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_the_files_that_it_names_exist() -> None:
    for name in set(re.findall(r"``((?:scripts|ibtfs)/[\w./-]+|\.ci/\w+)``", README)):
        assert (CHECKOUT / name).exists(), name
