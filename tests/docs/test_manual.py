"""The manual is true: its commands are run, its tables held against the code, its pages valid."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from docutils.core import publish_doctree
from docutils.utils import SystemMessage
from manuals import man
from manuals.reference import commands_page

from ibtfs import errors
from ibtfs.cli.exit_codes import (
    EXIT_CODES,
    INTERRUPTED,
    LOCKED,
    NO_REPOSITORY,
    READER_GONE,
    USAGE,
)
from ibtfs.cli.main import COMMANDS, cli
from ibtfs.cli.manual import TOPICS
from ibtfs.cli.mount_helper import mount_words
from ibtfs.toolkit import list_points
from tests.support import CHECKOUT
from tests.support.documents import PAGES, README, literal_blocks, section

WARNING = 2
WIDTH = 110
"""Columns that the widest table needs."""

MAN_PAGES = {
    "ibtfs.1", "ibtfs-format.5", "mount.ibtfs.8", *(f"ibtfs-{name}.1" for name in COMMANDS),
    *(f"ibtfs-{name}.7" for name in TOPICS if name not in {"commands", "format"}),
}  # fmt: skip


# ---- the pages ---------------------------------------------------------------------------------


def test_every_page_is_a_topic_and_every_topic_has_a_page() -> None:
    folder = CHECKOUT / "ibtfs" / "manual"
    pages = {f"manual/{path.name}" for path in folder.glob("*.rst")}
    assert pages == {place for place in TOPICS.values() if place.startswith("manual/")}
    assert {path.suffix for path in folder.iterdir()} == {".rst", ".svg"}
    assert not set(TOPICS) & set(COMMANDS)


@pytest.mark.parametrize("name", ["README", "CHANGELOG", *PAGES])
def test_a_page_is_valid(name: str) -> None:
    text = PAGES.get(name) or (CHECKOUT / f"{name}.rst").read_text(encoding="utf-8")
    told = io.StringIO()
    settings = {"report_level": WARNING, "warning_stream": told, "_disable_config": True}
    publish_doctree(text, source_path=name, settings_overrides=settings)
    assert told.getvalue() == ""


@pytest.mark.parametrize("topic", PAGES)
def test_links_and_pictures_lead_to_what_they_say(topic: str) -> None:
    place = (CHECKOUT / "ibtfs" / TOPICS[topic]).parent
    links = re.findall(r"`([^`<]+) <([^>]+)>`_", PAGES[topic])
    for words, target in links:
        found = re.fullmatch(r"ibtfs help (\w+)", words)
        assert found, words
        there = CHECKOUT / "ibtfs" / TOPICS[found[1]]
        assert (place / target).resolve() == there
    for picture in re.findall(r"^\.\. image:: (\S+)", PAGES[topic], re.M):
        assert (place / picture).is_file()


@pytest.mark.parametrize("topic", PAGES)
def test_the_files_that_it_names_exist(topic: str) -> None:
    for name in set(re.findall(r"``((?:scripts|ibtfs)/[\w./-]+|\.ci/\w+)", PAGES[topic])):
        assert (CHECKOUT / name).exists(), name


def test_the_rooms_that_it_names_exist() -> None:
    rooms = [line for block in literal_blocks(PAGES["developing"]) for line in block]
    named = [line.split()[0] for line in rooms if re.match(r"\w+/\S* ", line)]
    assert len(named) > 30
    for name in named:
        assert (CHECKOUT / "ibtfs" / name).exists(), name
    inside = re.findall(r"(\w+\.py)\b", "\n".join(rooms))
    known = {path.name for path in (CHECKOUT / "ibtfs").rglob("*.py")}
    assert set(inside) <= known


# ---- the commands ------------------------------------------------------------------------------


def command_called(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def options_of(name: str) -> set[str]:
    """The options that `ibtfs NAME --help` shows."""
    return {
        word
        for parameter in command_called(name).get_params(click.Context(cli))
        if isinstance(parameter, click.Option) and not parameter.hidden
        for word in (*parameter.opts, *parameter.secondary_opts)
    }


def told(name: str) -> str:
    return section(PAGES["commands"], f"ibtfs {name}")


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    assert PAGES["commands"] == commands_page(), "scripts/make-manuals writes it anew"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_all_its_options_and_no_others(name: str) -> None:
    terms = re.findall(r"^``(-.*)``\n    \S", told(name), re.M)
    words = {word for term in terms for word in re.findall(r"(?<!\S)--?[a-zA-Z][a-z-]*", term)}
    assert words == options_of(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_usage_and_its_line(name: str) -> None:
    command = command_called(name)
    usage = " ".join(command.collect_usage_pieces(click.Context(command)))
    summary, _, rest = told(name).strip().partition("\n")
    assert rest.startswith(f"\n::\n\n    ibtfs {name} {usage}\n")
    assert summary == (command.help or "").partition("\n")[0]
    assert section(told(name), "Examples", "~").count("ibtfs ") >= 2


def commands_shown() -> list[str]:
    """All command lines of ibtfs in README and the manual, in blocks and in the text."""
    texts = [README, *PAGES.values()]
    blocks = [line for text in texts for block in literal_blocks(text) for line in block]
    inline = [words for text in texts for words in re.findall(r"``(ibtfs [^`]+)``", text)]
    lines = [line.removeprefix("$ ").partition("  #")[0] for line in [*blocks, *inline]]
    shown = [line for line in lines if re.match(r"(\w+ \w+ \| )?ibtfs [a-z]+", line)]
    return [line for line in shown if "[OPTIONS]" not in line]


def test_options_of_all_commands_shown_exist() -> None:
    checked = 0
    for line in commands_shown():
        words = shlex.split(line.partition("ibtfs ")[2].partition(" | ")[0])
        assert words[0] in COMMANDS, line
        given = {word for word in words if re.match(r"--?[a-zA-Z]", word)}
        assert given <= options_of(words[0]), line
        checked += len(given)
    assert checked > 30


def test_all_commands_but_two_print_json() -> None:
    assert "(all but ``cat`` and ``serve-store``)" in PAGES["commands"]
    assert {name for name in COMMANDS if "--json" not in options_of(name)} == {"cat", "serve-store"}


@pytest.mark.parametrize("script", ["bench", "make-manuals"])
def test_options_of_scripts_shown_exist(script: str) -> None:
    shown = re.findall(rf"scripts/{script}((?: [^\s#]+)*)", README + "".join(PAGES.values()))
    usage = subprocess.run(
        [sys.executable, CHECKOUT / "scripts" / script, "--help"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    options = {word for words in shown for word in re.findall(r"--[a-z]+", words)}
    assert options
    for option in options:
        assert re.search(rf"^  {option}\b|[\[ ]{option}\b", usage, re.M), option


def test_the_line_of_fstab_is_understood() -> None:
    (line,) = [b[0] for b in literal_blocks(PAGES["mounts"]) if b[0].startswith("/media")]
    repository, mountpoint, kind, options, *zeros = line.split()
    assert (kind, zeros) == ("ibtfs", ["0", "0"])
    words = mount_words([repository, mountpoint, "-o", options])
    assert words == ["mount", "--quiet", "--allow-other", "--source=photos", "--uid=1000", "--",
                     repository, mountpoint]  # fmt: skip


# ---- exit codes --------------------------------------------------------------------------------


def codes_of(kind: type[errors.IbtfsError]) -> set[int]:
    return {kind.exit_code}.union(*map(codes_of, kind.__subclasses__()))


def test_the_codes_of_the_errors_are_in_the_table() -> None:
    assert codes_of(errors.IbtfsError) <= set(EXIT_CODES)
    assert errors.UsageError.exit_code == click.UsageError.exit_code == USAGE
    assert errors.NotARepository.exit_code == NO_REPOSITORY
    assert errors.RepositoryLocked.exit_code == LOCKED


def test_the_tree_of_errors_tells_the_codes() -> None:
    for name, code in re.findall(r"(\w+) +exit (\d+)", errors.__doc__ or ""):
        assert getattr(errors, name).exit_code == int(code)


def test_the_codes_of_the_manual_and_of_the_help_are_those_of_the_table() -> None:
    table = section(PAGES["commands"], "Exit codes")
    rows = re.findall(r"^(\d+) +(\S.*)$", table, re.M)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES
    shown = cli.get_help(click.Context(cli)).partition("Exit codes:\n")[2]
    assert shown.splitlines() == [f"  {code:3}  {line}" for code, line in EXIT_CODES.items()]
    assert (INTERRUPTED, READER_GONE) == (130, 141)


# ---- Python ------------------------------------------------------------------------------------


def python_of(title: str) -> list[str]:
    blocks = literal_blocks(section(PAGES["library"], title))
    return ["\n".join(block) for block in blocks]


def test_the_example_of_whole_backups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example, removal = python_of("Whole backups")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "first.txt").write_text("Dear reader,\n")
    exec(compile(example, "library.rst", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"documents [\da-f_-]+ 1 files", first)
    assert re.fullmatch(r"documents [\da-f_-]+ 1 files", second)
    assert (tmp_path / "restored" / "first.txt").read_text() == "Dear reader,\n"
    exec(compile(removal, "library.rst", "exec"), {})
    (left,) = list_points("backups")
    assert left.full


def test_the_example_of_what_points_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backups, (costs,) = python_of("Whole backups")[0], python_of("What points cost")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents").mkdir()
    exec(compile(backups, "library.rst", "exec"), {})
    capsys.readouterr()
    exec(compile(costs, "library.rst", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"documents \S+( \d+){3}", first)
    assert re.fullmatch(r"documents \S+( \d+){3}", second)


def test_the_example_of_building_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, compare, apply = python_of("Building blocks")
    monkeypatch.chdir(tmp_path)
    for folder in ("documents", "copy"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "numbers.txt").write_text("".join(f"{n}\n" for n in range(20_000)))
        (tmp_path / folder / "old.txt").write_text("Gone soon\n")
        for name in ("numbers.txt", "old.txt", ""):
            os.utime(tmp_path / folder / name, (1_700_000_000, 1_700_000_000))
    names: dict[str, object] = {}
    exec(compile(keep, "library.rst", "exec"), names)
    with (tmp_path / "documents" / "numbers.txt").open("a") as file:
        file.write("and so on\n")
    (tmp_path / "documents" / "old.txt").unlink()
    (tmp_path / "documents" / "new.txt").write_text("Dear reader,\n")
    exec(compile(compare, "library.rst", "exec"), names)
    exec(compile(apply, "library.rst", "exec"), names)
    subprocess.run(["diff", "-r", "documents", "copy"], check=True)
    assert (tmp_path / "2.data").stat().st_size < 10_000


# ---- man pages ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def man_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all man pages."""
    folder = tmp_path_factory.mktemp("man")
    written = man.write_man_pages(folder)
    assert {path.name for path in written} == MAN_PAGES
    return folder


@pytest.mark.parametrize("name", sorted(MAN_PAGES))
def test_a_man_page_is_shown_without_a_warning(name: str, man_pages: Path) -> None:
    number = name.rpartition(".")[2]
    shown = subprocess.run(
        ["groff", "-K", "utf8", "-t", "-s", "-man", "-T", "utf8", "-ww", "-W", "break",
         "-P", "-c", f"-rLL={WIDTH}n", f"man{number}/{name}"],
        cwd=man_pages, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stderr == ""
    title = "ibtfs-mounts(7)" if name == "mount.ibtfs.8" else f"{name[:-2]}({number})"
    assert shown.stdout.startswith(title)


def test_man_pages_refer_to_man_pages(man_pages: Path) -> None:
    referred = set()
    for path in man_pages.rglob("ibtfs*"):
        plain = re.sub(r"\\f[A-Z]", "", path.read_text()).replace("\\-", "-")
        referred |= set(re.findall(r"(?<![\w.-])(ibtfs(?:-\w+)?)\((\d)\)", plain))
    assert len(referred) > 8
    assert {f"{name}.{number}" for name, number in referred} <= MAN_PAGES


def test_what_is_not_valid_becomes_no_man_page() -> None:
    with pytest.raises(SystemMessage):
        man._made("ibtfs-x", 7, "a page", "An *open emphasis")


def make_manuals(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CHECKOUT / "scripts" / "make-manuals", *map(str, words)],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_man_pages_are_installed_where_man_looks(tmp_path: Path, man_pages: Path) -> None:
    result = make_manuals("--install", tmp_path / "prefix")
    assert (result.returncode, result.stderr) == (0, "")
    subprocess.run(["diff", "-r", tmp_path / "prefix" / "share" / "man", man_pages], check=True)


def test_that_docutils_is_missing_is_told(tmp_path: Path) -> None:
    (tmp_path / "docutils").mkdir()
    missing = 'raise ModuleNotFoundError("no", name="docutils")\n'
    (tmp_path / "docutils" / "__init__.py").write_text(missing)
    result = make_manuals("--output", tmp_path / "out", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    told = "docutils is not installed: pip install '.[manual]', in the checkout\n"
    assert (result.stdout, result.stderr) == ("", told)
    assert not (tmp_path / "out").exists()


def test_man_pages_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = make_manuals("--output", tmp_path / "file")
    assert result.returncode == 1
    assert result.stderr == f"{tmp_path}/file/man1: Not a directory\n"
