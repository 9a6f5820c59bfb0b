"""How a command's words name a point."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import run


@pytest.mark.parametrize("words", ["latest~7", "zzzz", "2001-01-01", "nowhere/latest"])
def test_no_such_point(repo: Path, words: str) -> None:
    assert run("ls", repo, words, code=1).stderr.startswith("ibtfs: No ")


def test_several_sources_must_be_told_apart(repo: Path, source: Path) -> None:
    run("backup", source / "sub", repo)
    told = run("ls", repo, "latest", code=2).stderr
    assert "documents/latest" in told
    assert "sub/latest" in told
    assert run("ls", repo, "sub/latest").stdout == "b.bin\n"
