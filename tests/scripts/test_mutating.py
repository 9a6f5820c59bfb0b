"""What a mutant is, and what is left alone."""

from __future__ import annotations

import ast

import pytest
from campaigns.mutating import mutants


def changed(code: str) -> list[str]:
    """*code* in each of its mutants, as Python writes it."""
    data = code.encode()
    return [ast.unparse(ast.parse(mutant.applied(data))) for mutant in mutants("m.py", data)]


@pytest.mark.parametrize(
    ("code", "others"),
    [
        ("x = a < b", ["x = a <= b", "x = a >= b"]),
        ("x = 'ä' is not a in b", ["x = 'ä' is a in b", "x = 'ä' is not a not in b"]),
        ("x = a + b", ["x = a - b"]),
        ("x = a and b and c", ["x = a or b or c"]),
        ("x = (a or\n  b) and c", ["x = (a or b) or c", "x = (a and b) and c"]),
        ("x = not a", ["x = a"]),
        ("x = 5", ["x = 6", "x = 4"]),
        ("x = True", ["x = False"]),
        ("x += a", ["x -= a"]),
        ("if a:\n    b()", ["if not a:\n    b()", "if a:\n    pass"]),
        ("while a:\n    break", ["while not a:\n    break", "while a:\n    continue"]),
        ("def f(a=True):\n    return a", ["def f(a=False):\n    return a",
                                          "def f(a=True):\n    return None"]),
        ("raise E(1 + 1)", ["pass"]),
    ],
)  # fmt: skip
def test_each_mutant_is_one_small_change(code: str, others: list[str]) -> None:
    assert changed(code) == others


@pytest.mark.parametrize(
    "code",
    [
        '"""Text."""',
        "def f(a: 'int | None') -> X[1]:\n    return None",
        "@d(1)\nclass C:\n    __slots__ = a(1)",
        "assert a < b, 1 + 2",
        "x = f'{a + 1}' + b",
        "x = a | None",
        "if TYPE_CHECKING:\n    x = 1",
        "raise NotImplementedError",
    ],
)
def test_what_does_nothing_to_a_value_is_left_alone(code: str) -> None:
    assert changed(code) == []


def test_what_is_done_once_shows_where_its_name_is_used() -> None:
    limit, default, inside = mutants("m.py", b"N = True\ndef f(a=True):\n    return\\\n True\n")[:3]
    assert (limit.lines, limit.watched) == (set(), "N")
    assert default.lines == {3, 4}
    assert 3 in inside.lines
