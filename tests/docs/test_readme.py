"""The README is true: its tour is run word by word, and what it names is there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ibtfs.cli.main import COMMANDS
from ibtfs.cli.manual import TOPICS, summary
from tests.support import CHECKOUT
from tests.support.documents import README, environment, literal_blocks, make_programs, section

LONGEST = 200
MARK = "@@ the exit code is"


# ---- the tour ----------------------------------------------------------------------------------


class Step(NamedTuple):
    """A command of the tour, and what it printed, by the README."""

    command: str
    output: list[str]


def tour() -> list[Step]:
    steps: list[Step] = []
    for block in literal_blocks(section(README, "A tour of five minutes")):
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
    place.mkdir(parents=True)
    make_programs(tmp_path / "bin")
    yield place
    mountpoint = place / "tour" / "mnt"
    if os.path.ismount(mountpoint):
        end = [tmp_path / "bin" / "ibtfs", "umount", "--lazy", mountpoint]
        subprocess.run(end, env=of_user(place), check=False)


def of_user(home: Path) -> dict[str, str]:
    return environment(home, home.parent.parent / "bin")


def pause(step: Step) -> str:
    return "sleep 1" if step.command.startswith("ibtfs backup") else ""


def walked(home: Path, steps: list[Step]) -> list[tuple[int, list[str]]]:
    """The exit code and output of each step, all run by one shell."""
    # a second later: two points of one second would be named, and sorted, in another way
    script = "".join(f"{step.command}\necho '{MARK}' $?\n{pause(step)}\n" for step in steps)
    with (home.parent / "output").open("w+") as output:
        # a file, not a pipe: what goes on in the background could hold that open
        subprocess.run(
            ["bash", "-c", script], cwd=home, env=of_user(home), timeout=240, check=True,
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
    assert used == set(COMMANDS) - {
        "init", "delta", "help", "tag", "undo", "prune", "purge", "stats", "protect", "repair",
        "copy", "serve-store", "key",
    }  # fmt: skip


# ---- the files ---------------------------------------------------------------------------------


def test_the_first_screen_has_the_two_commands() -> None:
    screen = "".join(README.splitlines(keepends=True)[:24])
    for name in ("scripts/demo", "scripts/test"):
        assert f"    {name} " in screen
        assert os.access(CHECKOUT / name, os.X_OK)


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


def test_it_leads_to_every_page_of_the_manual() -> None:
    shown = re.findall(r"^\* `(\w+) <ibtfs/([\w./]+)>`_: (.+)$", README, re.M)
    assert shown == [(topic, place, summary(topic)) for topic, place in TOPICS.items()]


def test_the_files_that_it_names_exist() -> None:
    named = set(re.findall(r"(?:``|<)((?:scripts|ibtfs)/[\w./-]+|\.ci/\w+)", README))
    assert len(named) > 10
    for name in named:
        assert (CHECKOUT / name).exists(), name
