"""The page of promises names tests: each exists, and each module of such tests is told of."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support import CHECKOUT
from tests.support.documents import PAGES

NAMED = sorted(set(re.findall(r"``(tests/[\w/]+\.py)::(test_\w+)``", PAGES["promises"])))
TOLD_WHOLE = ("tests/promises/test_several.py",)
"""Modules of which each test is a promise."""


def collected(module: str) -> set[str]:
    """The tests that pytest would collect of a module."""
    body = ast.parse((CHECKOUT / module).read_text()).body
    return {
        one.name
        for one in body
        if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")
    }


def test_there_are_promises() -> None:
    assert len(NAMED) > 40
    assert PAGES["promises"].count("::test_") == len(
        re.findall(r"``tests/[\w/]+\.py::test_\w+``", PAGES["promises"])
    )


@pytest.mark.parametrize("module", sorted({module for module, _ in NAMED}))
def test_each_test_that_is_named_exists(module: str) -> None:
    named = {test for where, test in NAMED if where == module}
    assert named - collected(module) == set()


@pytest.mark.parametrize("module", TOLD_WHOLE)
def test_each_promise_is_told(module: str) -> None:
    assert collected(module) - {test for where, test in NAMED if where == module} == set()


def test_each_promise_has_a_test() -> None:
    promises = re.split(r"^\* ", PAGES["promises"], flags=re.M)[1:]
    assert [one for one in promises if "::test_" not in one] == []
