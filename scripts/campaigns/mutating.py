"""Small changes of Python code, one at a time, that tests should notice; for `mutants`.

Left alone is what does nothing to a value: annotations, docstrings, decorators, ``__slots__``, what
errors say, text put together, types, and asserts, which are there for the reader.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

COMPARED: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn], ast.NotIn: [ast.In],
}  # fmt: skip
COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult, ast.Mod: ast.FloorDiv, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd, ast.Pow: ast.Mult,
}  # fmt: skip
PLAIN = (ast.Name, ast.Attribute, ast.Call, ast.NamedExpr, ast.Subscript)
"""Conditions that are negated; others have an operator of their own to change."""
TYPES = {"int", "str", "bytes", "float", "None", "object", "bytearray", "memoryview"}


@dataclass(frozen=True)
class Mutant:
    """A change of the bytes from *start* to *end* of the file at *path*.

    It shows in runs that reach one of *lines*; or, if what is changed is done when the module is
    loaded, where one of the names that are *watched* is used.
    """

    path: str
    line: int
    start: int
    end: int
    before: str
    after: str
    lines: frozenset[int]
    watched: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before} -> {self.after}"

    def applied(self, code: bytes) -> bytes:
        """The whole file, changed."""
        return code[: self.start] + self.after.encode() + code[self.end :]


def mutants(path: str, code: bytes) -> list[Mutant]:
    """All mutants of the module at *path*, in the order of the code."""
    return list(_Finder(path, code).found(ast.parse(code)))


class _Finder:
    """Finds the mutants of one module."""

    def __init__(self, path: str, code: bytes) -> None:
        self._path = path
        self._starts = [0]
        for line in code.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def found(
        self, node: ast.AST, lines: frozenset[int] = frozenset(), watched: str = ""
    ) -> Iterator[Mutant]:
        """The mutants of *node* and of all below it, for runs that reach *lines*."""
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = frozenset(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
            for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
                yield from self.found(default, body)
            for statement in node.body:
                yield from self.found(statement, frozenset({-1}))
            return
        if isinstance(node, ast.ClassDef):
            for statement in node.body:
                yield from self.found(statement, frozenset(), node.name)
            return
        if isinstance(node, ast.stmt) and not lines and (named := _named(node)):
            watched = named
        if isinstance(node, (ast.stmt, ast.expr)) and (-1 in lines or not lines):
            first = node.lineno
            own = range(first, (node.end_lineno or first) + 1)
            reached = frozenset(own if isinstance(node, ast.expr) else {first})
        else:
            reached = lines
        for old, after in [*((node, new) for new in _changed(node)), *_negated(node)]:
            yield self._mutant(old, after, reached if lines else frozenset(), watched)
        for child in _below(node):
            yield from self.found(child, lines, watched)

    def _mutant(self, node: ast.AST, after: ast.AST, lines: frozenset[int], watched: str) -> Mutant:
        assert isinstance(node, (ast.stmt, ast.expr))
        text = ast.unparse(after)
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        changed = f"({text})" if isinstance(node, ast.expr) else text
        return Mutant(
            self._path, node.lineno, start, end, ast.unparse(node), changed, lines, watched
        )


def _named(statement: ast.stmt) -> str:
    """The names that a statement gives values to, a space between any two."""
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return ""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return " ".join(
        name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
    )


def _below(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes right below *node* that may be changed."""
    if isinstance(node, (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom)):
        return
    if isinstance(node, ast.stmt) and _named(node) in ("__slots__", "__all__"):
        return
    if _is_for_types(node):
        return
    if isinstance(node, ast.BinOp) and _is_text(node):
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("cast", "TypeVar", "NewType"):
        return
    left = {"annotation", "returns", "decorator_list"}
    for name, value in ast.iter_fields(node):
        if name not in left:
            yield from (one for one in (value if isinstance(value, list) else [value])
                        if isinstance(one, ast.AST))  # fmt: skip


def _is_text(node: ast.BinOp) -> bool:
    """Whether text is put together, or types."""
    return any(
        isinstance(side, ast.JoinedStr)
        or (isinstance(side, ast.Constant) and isinstance(side.value, (str, type(None))))
        or (isinstance(side, ast.Name) and side.id in TYPES)
        for side in (node.left, node.right)
    )


def _negated(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The conditions of *node* that have no operator, and what they are changed to."""
    if not isinstance(node, (ast.If, ast.While, ast.IfExp)) or _is_for_types(node):
        return
    if isinstance(node.test, PLAIN):
        yield node.test, ast.UnaryOp(ast.Not(), node.test)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    """What *node* itself is changed to; what is below it stays."""
    if isinstance(node, ast.expr):
        yield from _changed_expression(node)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()
    elif isinstance(node, ast.Raise):
        if "NotImplementedError" not in ast.unparse(node):
            yield ast.Pass()
    elif isinstance(node, ast.Break):
        yield ast.Continue()
    elif isinstance(node, ast.Continue):
        yield ast.Break()
    elif isinstance(node, ast.Return):
        if node.value and ast.unparse(node.value) != "None":
            yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.AugAssign) and type(node.op) in COUNTED:
        yield ast.AugAssign(node.target, COUNTED[type(node.op)](), node.value)


def _changed_expression(node: ast.expr) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in COMPARED[type(operator)]:
                ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
                yield ast.Compare(node.left, ops, node.comparators)
    elif isinstance(node, ast.BinOp):
        if not _is_text(node) and type(node.op) in COUNTED:
            yield ast.BinOp(node.left, COUNTED[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not):
            yield node.operand
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, (int, float)):
            yield from (ast.Constant(node.value + step) for step in (1, -1))
