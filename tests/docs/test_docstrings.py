"""Docstrings tell what is: modules that they name exist, the tree of errors is the one drawn."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ibtfs import errors
from tests.support import CHECKOUT

NAMED = re.compile(r":mod:`([.\w]+)`")
ALL = sorted((CHECKOUT / "ibtfs").rglob("*.py"))
MODULES = [path for path in ALL if ":mod:" in path.read_text()]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_the_modules_that_it_names_exist(path: Path) -> None:
    for name in NAMED.findall(path.read_text()):
        start = path.parent if name.startswith(".") else CHECKOUT
        module = start.joinpath(*name.strip(".").split("."))
        assert module.with_suffix(".py").is_file() or (module / "__init__.py").is_file(), name


def tree_of(kind: type[BaseException], depth: int = 0) -> list[tuple[int, str]]:
    """The errors below *kind* that errors.py defines, in their order, each with its depth."""
    below = [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
    return [item for one in below for item in ((depth, one.__name__), *tree_of(one, depth + 1))]


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"^     ([| ]*)\+- (\w+)", errors.__doc__ or "", re.MULTILINE)
    assert [(len(indent) // 4, name) for indent, name in drawn] == tree_of(errors.IbtfsError)


def test_errors_are_defined_in_one_place() -> None:
    """What raises may lie anywhere; who catches finds all that there is in one module."""
    elsewhere = []
    for path in ALL:
        if path == CHECKOUT / "ibtfs/errors.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                found = any(hasattr(errors, name) for name in bases)
                elsewhere += [f"{path}:{node.lineno}: {node.name}"] if found else []
    assert elsewhere == []
