"""``ibtfs cat``."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import outside, run


def test_cat(repo: Path, source: Path) -> None:
    result = outside("cat", repo, "latest", "sub/b.bin")
    assert result.stdout == (source / "sub" / "b.bin").read_bytes()
    assert run("cat", repo, "latest~1", source / "a.txt").stdout == "first\n"
    for path in ("sub", "missing", "a.txt/below"):
        assert run("cat", repo, "latest", path, code=1).stderr.startswith("ibtfs: ")
