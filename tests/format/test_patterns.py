"""What is left out: exactly what git leaves out by the same lines."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtfs.errors import UsageError
from ibtfs.format.patterns import Patterns, _rule

FILES = [
    *(b"x.o", b"d/x.o", b"build/f", b"sub/build/f", b"sub2/build", b"root.txt", b"d/root.txt"),
    *(b"docs/a.txt", b"docs/keep.txt", b"docs/n/a.txt", b"a/z", b"a/b/z", b"a/b/c/z", b"deep/x"),
    *(b"p/deep/x", b"p/deep/y", b"logs/q", b"logs/keep", b"logs/s/t", b"#hash", b"!bang"),
    *(b"trail", b"esc ", b"ax", b"d/bx", b"qaz", b"q/z", b"ret", b"rxt", b"main.c", b"src/main.c"),
    *(b"src/n.h", b"foo/bar/1", b"foo/baz", b"dir/keep", b"dir/other/k", b"important.tmp"),
    *(b"d/important.tmp", b"d/i.tmp", b"caf\xc3\xa9", b"caf\xc3\xa0", b"\xff\xfeq", b"1.one"),
    *(b"\xc3\xa9.one", b"cache/f", b"s/cache", b"new\nline/foo", b"foo\n", b"tab\t", b"sp /x"),
    b"back\\slash",
]
ENTRIES = sorted(
    {(path, False) for path in FILES}
    | {
        (b"/".join(parts[:depth]), True)
        for parts in (path.split(b"/") for path in FILES)
        for depth in range(1, len(parts))
    }
)

LINES: dict[str, list[bytes]] = {
    "names": [b"*.o", b"# *.txt", b"", b"build/", b"/root.txt", b"[ab]x", b"q?z", b"r[!x]t"],
    "paths": [b"docs/*.txt", b"!docs/keep.txt", b"a/**/z", b"**/deep/x", b"foo/bar/"],
    "escapes": [b"\\#hash", b"\\!bang", b"trail   ", b"esc\\ ", b"tab\t", b"back\\\\slash"],
    "spaces": [b"trail\\  ", b"esc\\ \\ ", b"sp /", b"  x.o", b"tab\\\t", b"ax \\", b"ret\r\n"],
    "inside": [b"dir/**", b"!dir/keep", b"logs/**/", b"p/**/*", b"!p/deep/"],
    "only": [b"*", b"!*/", b"!*.c"],
    "only this": [b"/*", b"!/foo", b"/foo/*", b"!/foo/bar"],
    "all below": [b"**", b"!/*", b"!/d/**"],
    "everything": [b"/**/*", b"!a", b"!a/**/c"],
    "again": [b"*.tmp", b"!important.tmp", b"/d/*.tmp", b"!*/important.tmp"],
    "bytes": [b"caf\xc3\xa9", b"\xff\xfe*", b"caf\xc3\xa0", b"?.one", b"caf?"],
    "directories": [b"cache", b"!cache/", b"**/", b"!a/", b"!s/"],
    "newlines": [b"foo", b"!new?line"],
    "void": [b"/", b"!", b"!/", b"//", b"foo//", b"[z-a]x", b"[ax", b"   ", b"!# x"],
    "classes": [b"[^a]x.o", b"[]a]x", b"r[a-y]t", b"[!!]bang", b"[#]hash"],
    "no slashes": [b"d[!y]x.o", b"src[--9]n.h", b"*[!x]*x.o", b"q[^a]z"],
    "slash": [b"*/", b"!/d/", b"*/b/", b"**/s"],
}


def lines_that_compile(lines: list[bytes]) -> list[bytes]:
    def compiles(line: bytes) -> bool:
        try:
            Patterns.from_lines([line])
        except UsageError:
            return False
        return True

    return [line for line in lines if compiles(line)]


def excluded(match: Callable[[bytes, bool], bool]) -> set[bytes]:
    """What a walk leaves out that does not enter what is left out."""
    found: set[bytes] = set()
    for path, is_dir in ENTRIES:
        parts = path.split(b"/")
        above = (b"/".join(parts[:depth]) for depth in range(1, len(parts)))
        if any(parent in found for parent in above) or match(path, is_dir):
            found.add(path)
    return found


@pytest.fixture(scope="module")
def git_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", root], check=True)
    for path in FILES:
        full = os.path.join(os.fsencode(root), path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb"):
            pass
    return root


def git_excluded(root: Path, lines: list[bytes]) -> set[bytes]:
    (root / ".git/info/exclude").write_bytes(b"\n".join(lines) + b"\n")
    result = subprocess.run(
        ["git", "-C", str(root), "-c", "core.excludesFile=/dev/null"]
        + ["check-ignore", "--no-index", "-z", "--stdin"],
        input=b"".join(path + b"\0" for path, _ in ENTRIES),
        capture_output=True,
        check=False,
    )
    assert result.returncode in (0, 1), result.stderr
    return set(result.stdout.split(b"\0")) - {b""}


@pytest.mark.parametrize("name", LINES)
def test_like_git(name: str, git_repository: Path) -> None:
    lines = lines_that_compile(LINES[name])
    assert excluded(Patterns.from_lines(lines).match) == git_excluded(git_repository, lines)


@pytest.mark.parametrize("seed", range(60))
def test_like_git_at_random(seed: int, git_repository: Path) -> None:
    chance = random.Random(seed)
    names = sorted(set(b"/".join(FILES).split(b"/")) - {b"foo\n", b"new\nline"})
    globs = [b"*", b"**", b"?", b"*x*", b"[a-d]*", b"*.*", b"[!a]", b"s*", b"??"]

    def segment() -> bytes:
        name = chance.choice(names) if chance.random() < 0.6 else chance.choice(globs)
        return name.replace(b"\\", b"\\\\").replace(b"#", b"\\#").replace(b" ", b"\\ ")

    lines = [
        chance.choice([b"", b"", b"!"])
        + chance.choice([b"", b"", b"/"])
        + b"/".join(segment() for _ in range(chance.choice([1, 1, 2, 3])))
        + chance.choice([b"", b"", b"/"])
        for _ in range(chance.randrange(1, 7))
    ]
    assert lines_that_compile(lines) == lines
    assert excluded(Patterns.from_lines(lines).match) == git_excluded(git_repository, lines)


def test_text_and_bytes_are_the_same() -> None:
    lines = ["café", "\udcff*", "*.o\n", "docs/\r\n"]
    patterns = Patterns.from_lines(lines)
    assert patterns.match("d/café".encode(), False)
    assert patterns.match(b"\xff1", False)
    assert patterns.match(b"x.o", False)
    assert patterns.match(b"docs", True)
    assert not patterns.match(b"docs", False)


def test_later_sources_win() -> None:
    first, second = ["*.log", "!keep.log"], [b"keep.log", b"!x.log"]
    patterns = Patterns.from_lines(chain(first, second))
    assert patterns.match(b"keep.log", False)
    assert not patterns.match(b"x.log", False)
    assert patterns.match(b"y.log", False)


@pytest.mark.parametrize("lines", [[], [""], ["# x", "  ", "\n"], ["!x"], ["/"], ["[a"]])
def test_nothing_to_exclude_is_false(lines: list[str]) -> None:
    patterns = Patterns.from_lines(lines)
    assert not patterns
    assert not patterns.match(b"x", True)


def test_something_to_exclude_is_true() -> None:
    assert Patterns.from_lines(["x"])
    assert Patterns.from_lines(["x/", "!x"])


@pytest.mark.parametrize("line", ["x\\", "[z-a]", "[[:alpha:]]x"])
def test_a_line_that_does_not_work_is_named(line: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(line))):
        Patterns.from_lines(["ok", line])


def test_pathspec_is_not_imported_before_use() -> None:
    code = (
        "import sys\nfrom ibtfs.format.patterns import Patterns\n"
        "Patterns.from_lines(['', '# none'])\nassert 'pathspec' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"*a" * 40 + b"*b", b"a" * 250),
        (b"*a?" * 40 + b"[b-d]", b"a" * 250),
        (b"*a/" * 3 + b"*a" * 30 + b"*b", b"/".join([b"a" * 250] * 4)),
        (b"a/" + b"**/a/" * 40 + b"b", b"/".join([b"a"] * 400)),
        (b"**/*a*a*/" * 20 + b"b", b"/".join([b"a" * 20] * 100)),
        (b"*" * 200 + b"b", b"a" * 250),
    ],
)
@pytest.mark.parametrize("others", [[], [b"*x*y", b"**/*q*/**/z"]])
def test_stars_do_not_try_every_way(line: bytes, path: bytes, others: list[bytes]) -> None:
    """The old way would not have come to an end."""
    patterns = Patterns.from_lines([line, *others])
    assert not patterns.match(path, False)
    assert not patterns.match(path + b"/c", True)
    last = b"/b" if line.endswith(b"/b") else b"d" if line.endswith(b"]") else b"b"
    assert patterns.match(path + last, False)


@pytest.mark.parametrize("line", [b" " * (1 << 18) + b"x", b"[" * (1 << 18), b"a" * (1 << 18)])
def test_long_lines(line: bytes) -> None:
    assert not Patterns.from_lines([line]).match(b"a", False)


_ALPHABET = st.sampled_from(
    [
        b"a",
        b"b",
        b"*",
        b"*",
        b"**",
        b"**/",
        b"/",
        b"?",
        b"[ab]",
        b"[!a]",
        b"[--9]",
        b"\\*",
        b"(?P<s0_0>)",
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.lists(_ALPHABET, min_size=1, max_size=9).map(b"".join), min_size=1, max_size=3),
    st.lists(st.text("ab*", min_size=1, max_size=4), min_size=1, max_size=5),
    st.booleans(),
)
def test_the_same_as_with_the_expressions_of_pathspec(
    lines: list[bytes], names: list[str], is_dir: bool
) -> None:
    lines = lines_that_compile(lines)
    path = "/".join(names).encode()
    seen = Patterns.from_lines(lines).match(path, is_dir)
    rules = [rule for rule in map(_rule, lines) if rule is not None]
    for rule in reversed(rules):
        if is_dir or not rule.directories_only:
            found = re.compile(rule.source, re.DOTALL).search(path)
            if found and (rule.reaches_everything or found.end() == len(path)):
                assert seen is rule.excludes
                return
    assert not seen
