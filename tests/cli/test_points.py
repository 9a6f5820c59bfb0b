"""How a command's words name a point."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.support.commands import run, run_json
from tests.support.faking import Patch, set_clock
from tests.support.views import SECOND


@pytest.mark.parametrize("words", ["latest~7", "zzzz", "2001-01-01", "nowhere/latest"])
def test_no_such_point(repo: Path, words: str) -> None:
    assert run("ls", repo, words, code=1).stderr.startswith("ibtfs: No ")


def test_several_sources_must_be_told_apart(repo: Path, source: Path) -> None:
    run("backup", source / "sub", repo)
    told = run("ls", repo, "latest", code=2).stderr
    assert "documents/latest" in told
    assert "sub/latest" in told
    assert run("ls", repo, "sub/latest").stdout == "b.bin\n"


# A manifest that cannot be read


@pytest.fixture
def earlier() -> Iterator[Patch]:
    """The clock is set back until that is undone."""
    with Patch.context() as patch:
        set_clock(patch, time.time_ns() - 2 * SECOND)  # ids tell seconds
        yield patch


@pytest.fixture
def spoilt(earlier: Patch, repo: Path, source: Path) -> tuple[Path, str, str]:
    """A repository whose newest manifest is damaged; that point, and the one before."""
    earlier.undo()
    (source / "new").write_text("only the newest has it\n")
    run("backup", source, repo)
    older, newest = (point["id"] for point in run_json("list", repo)["points"][-2:])
    path = repo / "points" / newest
    path.write_bytes(path.read_bytes()[:-9] + bytes(9))
    return repo, newest, older


@pytest.mark.parametrize("words", ["latest", "now", "@now"])
@pytest.mark.parametrize(
    "command", [("ls",), ("cat",), ("diff",), ("restore", "--overwrite", "always", "--delete")]
)
def test_words_that_may_mean_a_damaged_point_are_not_answered_by_another(
    spoilt: tuple[Path, str, str], tmp_path: Path, words: str, command: tuple[str, ...]
) -> None:
    repo, newest, older = spoilt
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "new").write_text("precious")
    verb, *options = command
    more = {"cat": ["a.txt"], "restore": [tmp_path / "live"]}.get(verb, [])
    result = run(verb, *options, repo, words, *more, code=1)
    assert f"{newest} is damaged, and may be what '{words}' means" in result.stderr
    assert older in result.stderr
    assert (tmp_path / "live" / "new").read_text() == "precious"


def test_words_that_cannot_mean_it_are_answered(spoilt: tuple[Path, str, str]) -> None:
    repo, newest, older = spoilt
    stamp = older.partition("_")[0]
    moment = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    for words in (older, older[:-2], f"{moment.astimezone():%Y-%m-%dT%H:%M:%S}"):
        assert "a.txt" in run("ls", repo, words).stdout
    assert newest in run("ls", repo, newest, code=1).stderr
