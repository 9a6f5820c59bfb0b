"""The command as a whole: help, start-up, version, wrong usage."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ibtfs import __version__
from ibtfs.cli.main import COMMANDS, cli
from tests.support.commands import outside, run, run_json

# Help and start-up


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name: str) -> None:
    shown = run(name, "--help").stdout
    assert "\nExamples:\n" in shown
    examples = shown.split("\nExamples:\n")[1].splitlines()
    assert any(f"ibtfs {name}" in line for line in examples)
    assert all(line.startswith("  ") for line in examples)
    assert "REPO" in shown or name in {"umount", "help", "copy", "serve-store"}
    # the section of options holds nothing but options
    assert re.search(r"^Output:\n(  -|$)", shown, re.MULTILINE) is not None


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    for parameter in found.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name


def test_help_lists_all_commands_without_importing_them() -> None:
    shown = run("--help").stdout
    for name, lazy in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(lazy.help)}$", shown, re.MULTILINE)
    for code in (0, 1, 2, 3, 10, 11, 130):
        assert re.search(rf"(^|\s){code}  \w", shown)


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_start_imports_little(option: str) -> None:
    script = (
        "import sys\nfrom ibtfs.cli.main import main\nsys.argv = ['ibtfs', sys.argv[1]]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "print(len(sys.modules), *sys.modules, file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, option], capture_output=True, text=True, check=True
    )
    count, *modules = result.stderr.split()
    script = "import sys, click\nprint(*sys.modules)"  # which imports more with some Pythons
    words = [sys.executable, "-c", script]
    click_needs = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"rich", "zstandard", "pathspec", "msgpack", "blake3", "librsync", "fuse", "mfusepy",
             "sqlite3", "json", "logging", "subprocess", "traceback", "dirtools2"}  # fmt: skip
    assert not heavy.intersection(modules).difference(click_needs)
    assert not [m for m in modules if m.startswith(("ibtfs.store", "ibtfs.actions", "ibtfs.mount"))]
    assert int(count) < 220


def test_version() -> None:
    result = outside("--version")
    assert result.stdout.decode() == f"ibtfs {__version__}\n"


def test_import_of_the_library_needs_no_click() -> None:
    modules = "ibtfs, ibtfs.actions.backup.run, ibtfs.actions.restore.run"
    script = f"import sys, {modules}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not {"click", "rich"}.intersection(result.stdout.split())


# Wrong usage


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["bakcup"],
        ["backup"],
        ["backup", "only-one"],
        ["backup", "", "repo"],
        ["backup", "--nonsense", "a", "b"],
        ["backup", "--name", "x", "a", "b", "repo"],
        ["backup", "--name", "a/b", "a", "repo"],
        ["backup", "--host", "a/b", "a", "repo"],
        ["backup", "--tag", "a/b", "a", "repo"],
        ["backup", "--tag", "", "a", "repo"],
        ["backup", "--tag", ".hidden", "a", "repo"],
        ["backup", "--tag", "x" * 101, "a", "repo"],
        ["backup", "--tag", "\udcff", "a", "repo"],
        ["backup", "--comment", "two\nlines", "a", "repo"],
        ["backup", "--exclude-larger-than", "much", "a", "repo"],
        ["backup", "--exclude-larger-than", "0", "a", "repo"],
        ["backup", "--exclude-from", "missing", "a", "repo"],
        ["backup", "--exclude", "[[:alpha:]]", "/", "repo"],
        ["backup", "--exclude-if-present", "a/b", "a", "repo"],
        ["backup", "--stdin-name", "a/b", "repo"],
        ["backup", "--stdin-name", "..", "repo"],
        ["backup", "--stdin-name", "x", "source", "repo"],
        ["backup", "--stdin-name", "x", "--exclude-from", "-", "repo"],
        ["backup", "--inodes", "perhaps", "a", "repo"],
        ["init"],
        ["init", "--compression", "20", "repo"],
        ["list"],
        ["ls", "repo"],
        ["cat", "repo", "latest"],
        ["restore", "repo", "latest"],
        ["restore", "--overwrite", "perhaps", "repo", "latest", "out"],
        ["mount", "repo"],
        ["umount"],
        ["check"],
    ],
)
def test_wrong_usage(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words, code=2)
    assert result.stdout == ""
    assert result.stderr.startswith(("ibtfs: ", "Usage: ibtfs"))
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "repo").exists()
    if words and words[0] in COMMANDS and words[0] != "cat":
        assert "error" in run_json(*words, code=2)


def test_no_command_shows_help_on_stderr() -> None:
    assert "Commands:" in run(code=2).stderr


def test_wrong_usage_says_where_help_is(tmp_path: Path) -> None:
    lines = run("backup", "--nonsense", code=2).stderr.splitlines()
    assert lines[0].startswith("ibtfs: No such option")
    assert lines[1:] == ["ibtfs: See: ibtfs backup --help"]
