"""Docstrings name modules that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r":mod:`([.\w]+)`")
MODULES = [
    path for path in sorted((CHECKOUT / "ibtfs").rglob("*.py")) if ":mod:" in path.read_text()
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_the_modules_that_it_names_exist(path: Path) -> None:
    for name in NAMED.findall(path.read_text()):
        start = path.parent if name.startswith(".") else CHECKOUT
        module = start.joinpath(*name.strip(".").split("."))
        assert module.with_suffix(".py").is_file() or (module / "__init__.py").is_file(), name
