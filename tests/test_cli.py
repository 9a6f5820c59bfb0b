"""The command line from outside: exit codes, messages, JSON, help, start-up."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from ibtfs import __version__
from ibtfs.cli.main import COMMANDS, cli
from ibtfs.store.lock import EXCLUSIVE, Lock
from ibtfs.store.repository import Repository

ROOT = Path(__file__).resolve().parent.parent
ODD = b"odd \xff\n\x1b[31m"
Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("IBTFS_DEBUG", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"first\n")
    (folder / "sub" / "b.bin").write_bytes(bytes(range(256)) * 400)
    os.symlink("a.txt", folder / "link")
    (folder / os.fsdecode(ODD)).write_bytes(b"odd")
    return folder


@pytest.fixture
def repo(tmp_path: Path, source: Path) -> Path:
    """A repository with two points of `documents`."""
    path = tmp_path / "repo"
    run("backup", source, path, "--tag", "old")
    (source / "a.txt").write_bytes(b"first\nsecond\n")
    (source / "new.txt").write_bytes(b"new")
    run("backup", source, path, "--comment", "für alle")
    return path


def run(*words: object, code: int = 0, stdin: bytes | None = None) -> Result:
    """Run a command within this process; it must end with *code*."""
    result = CliRunner().invoke(cli, [_text(word) for word in words], input=stdin)
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def run_json(*words: object, code: int = 0, stdin: bytes | None = None) -> dict[str, Any]:
    result = run(*words, "--json", code=code, stdin=stdin)
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    assert answer["exit_code"] == code
    assert ("error" in answer) == (code not in (0, 3))
    return answer


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "ibtfs", *map(_text, words)]


def outside(*words: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own."""
    return subprocess.run(command(*words), capture_output=True, check=False, timeout=60, **options)


def _text(word: object) -> str:
    return os.fsdecode(word) if isinstance(word, (bytes, Path)) else str(word)


# Help and start-up


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name: str) -> None:
    shown = run(name, "--help").stdout
    assert "\nExamples:\n" in shown
    examples = shown.split("\nExamples:\n")[1].splitlines()
    assert any(f"ibtfs {name}" in line for line in examples)
    assert all(line.startswith("  ") for line in examples)
    assert "REPO" in shown or name in {"umount", "help"}
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


def test_source_inside_the_repository(repo: Path) -> None:
    assert "inside the repository" in run("backup", repo / "points", repo, code=2).stderr


def test_restore_keeps_off_the_repository(repo: Path) -> None:
    assert "inside" in run("restore", repo, "latest", repo / "x", code=2).stderr
    words = ("restore", "--overwrite", "always", "--delete", repo, "latest", repo.parent)
    assert "repository" in run(*words, code=2).stderr


# Failures


@pytest.mark.parametrize("words", [["list"], ["check"], ["ls", "latest"], ["cat", "latest", "a"],
                                   ["restore", "latest", "out"], ["mount", "mnt"]])  # fmt: skip
def test_no_repository(words: list[str], tmp_path: Path) -> None:
    name, *rest = words
    result = run(name, tmp_path / "none", *rest, code=10)
    assert result.stdout == ""
    assert re.fullmatch(r"ibtfs: No such repository: [^\n]+ does not exist\n", result.stderr)
    if name != "cat":
        assert run_json(name, tmp_path / "none", *rest, code=10)["error"]


def test_dry_run_without_a_repository(tmp_path: Path, source: Path) -> None:
    result = run("backup", "-n", source, tmp_path / "repo", code=10)
    assert "first backup would" in result.stderr
    assert not (tmp_path / "repo").exists()


def test_parent_of_the_repository_must_exist(tmp_path: Path, source: Path) -> None:
    assert "unplugged" in run("backup", source, tmp_path / "disk" / "repo", code=1).stderr


def test_repository_in_a_folder_that_is_not_empty(tmp_path: Path, source: Path) -> None:
    assert "not empty" in run("backup", source, source / "sub", code=1).stderr


def test_missing_source_makes_no_repository(tmp_path: Path) -> None:
    assert "no such file" in run("backup", tmp_path / "x", tmp_path / "repo", code=1).stderr
    assert not (tmp_path / "repo").exists()


def test_missing_source_does_not_stop_the_others(tmp_path: Path, source: Path) -> None:
    repo = tmp_path / "repo"
    answer = run_json("backup", tmp_path / "x", source, repo, code=1)
    assert [point["source"] for point in answer["points"]] == ["documents"]
    assert answer["errors"][0]["path"] == str(tmp_path / "x")
    assert answer["created"] is True


def test_locked(repo: Path, source: Path) -> None:
    storage = Repository.open(os.fsencode(repo)).storage
    with Lock(storage, EXCLUSIVE, host="elsewhere", process=1, token="0" * 8):
        assert "locked" in run("backup", source, repo, code=11).stderr
        assert run_json("backup", source, repo, code=11)["points"] == []
    run("backup", source, repo)


def test_unexpected_error_is_one_line(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ValueError("out of the\nblue")

    monkeypatch.setattr(Repository, "points", broken)
    lines = run("list", repo, code=1).stderr.splitlines()
    assert lines[0] == "ibtfs: Unexpected error: ValueError: out of the\\nblue"
    assert "--debug" in lines[1]
    assert len(lines) == 2
    assert "ValueError" in run_json("list", repo, code=1)["error"]
    assert "in broken" in run("--debug", "list", repo, code=1).stderr
    monkeypatch.setenv("IBTFS_DEBUG", "1")
    assert "in broken" in run("list", repo, code=1).stderr


def test_failure_of_the_system_is_one_line(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise OSError(28, "No space left on device", "/some/where")

    monkeypatch.setattr(Repository, "points", broken)
    assert run("list", repo, code=1).stderr == "ibtfs: /some/where: No space left on device\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(number: int, code: int, tmp_path: Path) -> None:
    words = command("backup", "--stdin-name", "endless", tmp_path / "repo")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + 30
        # a signal between the making of a name and the next statement leaves what the next run
        # removes (*.part); what is tested is a lock that is held
        while not list(tmp_path.glob("repo/locks/*[!t]")) and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert process.returncode == code
    assert b"Traceback" not in told
    assert told == (b"\nibtfs: Interrupted\n" if number == signal.SIGINT else b"")
    assert not list(tmp_path.glob("repo/locks/*"))
    assert run_json("list", tmp_path / "repo")["points"] == []


def test_reader_that_has_seen_enough(repo: Path) -> None:
    for words in (["cat", repo, "latest", "sub/b.bin"], ["ls", "-lR", repo, "latest"]):
        reading, writing = os.pipe()
        os.close(reading)
        result = subprocess.run(
            command(*words), stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60
        )
        os.close(writing)
        assert (result.returncode, result.stderr) == (141, b"")


# What commands do


def test_backup_makes_the_repository_and_says_so(tmp_path: Path, source: Path) -> None:
    shown = run("backup", source, tmp_path / "repo").stdout
    assert f"Made the repository {tmp_path / 'repo'}" in shown
    assert re.search(r"4 new, 0 changed, 0 unchanged, 0 gone", shown)
    assert re.search(r"read, .* stored, in ", shown)
    look = re.search(r"ibtfs (ls .*)", shown)
    assert look is not None
    assert "a.txt" in run(*look[1].split()).stdout
    assert (tmp_path / "cache" / "ibtfs" / "CACHEDIR.TAG").exists()


def test_backup_json(repo: Path, source: Path) -> None:
    (source / "a.txt").unlink()
    answer = run_json("backup", source, repo)
    (point,) = answer["points"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d{6}(-\d+)?", point["name"])
    assert [point[key] for key in ("files", "new", "gone")] == [4, 0, 1]
    assert point["changed"] + point["unchanged"] == 4  # a racily clean file is read again
    assert point["source"] == "documents"
    assert point["problems"] == []
    assert point["full"] is answer["created"] is False
    assert {"bytes_read", "bytes_stored", "seconds", "id", "path"} <= point.keys()


def test_dry_run_stores_nothing(repo: Path, source: Path) -> None:
    (source / "another").write_bytes(b"x")
    before = sorted(path for path in repo.rglob("*") if path.is_file())
    (point,) = run_json("backup", "--dry-run", source, repo)["points"]
    assert (point["id"], point["new"]) == (None, 1)
    assert sorted(path for path in repo.rglob("*") if path.is_file()) == before
    assert "dry run" in run("backup", "-n", source, repo).stdout


def test_quiet_and_verbose(repo: Path, source: Path) -> None:
    (source / "more.txt").write_bytes(b"x")
    assert "new       more.txt" in run("backup", "--verbose", source, repo).stdout
    (source / os.fsdecode(b"2" + ODD)).write_bytes(b"x")
    assert "new       2odd \\xff\\n\\e[31m\n" in run("backup", "-v", source, repo).stdout
    quiet = run("backup", "--quiet", source, repo)
    assert (quiet.stdout, quiet.stderr) == ("", "")


def test_some_files_missed(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a real unreadable file needs somebody who is not root
    real = os.open

    def guarded(path: Any, *words: Any, **options: Any) -> int:
        if path in (b"a.txt", "a.txt"):
            raise PermissionError(13, "Permission denied")
        return real(path, *words, **options)

    monkeypatch.setattr(os, "open", guarded)
    (point,) = run_json("backup", source, tmp_path / "repo", code=3)["points"]
    assert point["problem_count"] == 1
    assert [problem["path"] for problem in point["problems"]] == ["a.txt"]
    told = run("backup", "--reread", source, tmp_path / "repo", code=3).stderr
    assert f"ibtfs: {source}/a.txt: " in told


def test_what_is_left_out(tmp_path: Path, source: Path) -> None:
    for folder in ("cached", "marked"):
        (source / folder).mkdir()
        (source / folder / "inside").write_bytes(b"x")
    tag = b"Signature: 8a477f597d28d172789f06886806bc55"
    (source / "cached" / "CACHEDIR.TAG").write_bytes(tag)
    (source / "marked" / ".nobackup").touch()
    (source / "large").write_bytes(bytes(3 << 10))
    (tmp_path / "patterns").write_bytes(b"# mine\nodd*\n")
    run(
        "backup", "--exclude", "/a.txt", "--exclude-from", tmp_path / "patterns",
        "--exclude-caches", "--exclude-if-present", ".nobackup", "--exclude-larger-than", "2K",
        source, tmp_path / "repo",
    )  # fmt: skip
    rows = run_json("ls", "-R", tmp_path / "repo", "latest")["entries"]
    assert [row["path"] for row in rows] == [
        "cached", "cached/CACHEDIR.TAG", "link", "marked", "marked/.nobackup", "sub"
    ]  # fmt: skip


def test_exclude_file_of_the_source_is_mentioned(tmp_path: Path, source: Path) -> None:
    (source / ".exclude").write_bytes(b"sub/\n")
    result = run("backup", source, tmp_path / "repo")
    assert ".exclude" in result.stderr
    assert run("ls", tmp_path / "repo", "latest", "a.txt").stdout == "a.txt\n"
    assert "sub" not in run("ls", tmp_path / "repo", "latest").stdout
    (point,) = run_json("backup", source, tmp_path / "repo")["points"]
    assert len(point["notes"]) == 1


def test_standard_input(tmp_path: Path) -> None:
    words = ("backup", "--stdin-name", "shop.sql", tmp_path / "repo")
    assert run_json(*words, stdin=b"one")["points"][0]["source"] == "shop.sql"
    run(*words, stdin=b"one two")
    assert run("cat", tmp_path / "repo", "latest~1", "shop.sql").stdout == "one"
    assert run("cat", tmp_path / "repo", "latest", "/shop.sql").stdout == "one two"


def test_list(repo: Path) -> None:
    points = run_json("list", repo)["points"]
    assert [point["sequence"] for point in points] == [1, 2]
    first, second = points
    assert (first["tags"], first["full"], first["comment"]) == (["old"], True, "")
    assert (second["tags"], second["full"], second["comment"]) == ([], False, "für alle")
    keys = ("id", "name", "source", "host", "path", "time", "epoch", "files", "bytes",
            "bytes_stored")  # fmt: skip
    assert set(keys) <= first.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", first["time"])
    shown = run("list", repo).stdout
    assert shown.startswith("documents  (")
    for point in points:
        assert point["id"] in shown
        assert point["name"] in shown


def test_list_of_an_empty_repository(tmp_path: Path) -> None:
    run("init", tmp_path / "repo")
    assert run_json("list", tmp_path / "repo") == {"points": [], "exit_code": 0}
    assert "ibtfs backup" in run("list", tmp_path / "repo").stdout
    assert "no backup points" in run("ls", tmp_path / "repo", "latest", code=1).stderr


@pytest.mark.damaged
def test_damaged_manifest(repo: Path) -> None:
    first, second = (point["id"] for point in run_json("list", repo)["points"])
    manifest = repo / "points" / second
    manifest.write_bytes(manifest.read_bytes()[:-1])
    result = run("list", repo, code=1)
    assert first in result.stdout
    assert second in result.stderr
    answer = run_json("list", repo, code=1)
    assert [point["id"] for point in answer["points"]] == [first]
    assert [point["id"] for point in answer["damaged"]] == [second]
    assert second in run("ls", repo, "latest").stderr
    damages = run_json("check", repo, code=1)["damages"]
    assert any(second in damage["points"] for damage in damages)
    assert second in run("check", repo, code=1).stderr


@pytest.mark.damaged
def test_damaged_data(repo: Path) -> None:
    for file in repo.glob("archives/*/*"):
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 1
        file.chmod(0o600)
        file.write_bytes(data)
    answer = run_json("check", "--read-data", repo, code=1)
    assert {"object", "message", "points", "paths"} == answer["damages"][0].keys()
    assert run("check", "--read-data", repo, code=1).stderr.count("\n") > 1


def test_ls(repo: Path, source: Path) -> None:
    odd = json.dumps(ODD.decode("utf-8", "replace"))
    rows = {row["path"]: row for row in run_json("ls", repo, "latest")["entries"]}
    assert list(rows) == ["a.txt", "link", "new.txt", json.loads(odd), "sub"]
    assert base64.b64decode(rows[json.loads(odd)]["path_base64"]) == ODD
    assert rows["link"]["target"] == "a.txt"
    assert rows["a.txt"]["mtime_ns"] == (source / "a.txt").stat().st_mtime_ns
    assert [row["type"] for row in rows.values()] == [
        "file",
        "symlink",
        "file",
        "file",
        "directory",
    ]
    assert run("ls", "-R", repo, "latest", "sub").stdout == "sub/b.bin\n"
    assert run("ls", repo, "latest", source / "sub").stdout == "b.bin\n"
    shown = run("ls", "-l", repo, "documents/latest").stdout
    assert re.search(r"^-rw-r--r-- +1 \w+ +\w+ +13 \d{4}-\d\d-\d\d \S+ a\.txt$", shown, re.M)
    assert "link -> a.txt\n" in shown


def test_names_in_a_pipe_are_as_they_are(repo: Path) -> None:
    assert b"\n" + ODD + b"\n" in outside("ls", repo, "latest").stdout


def test_names_on_a_terminal_are_printable(repo: Path) -> None:
    reading, terminal = pty.openpty()
    subprocess.run(command("ls", repo, "latest"), stdout=terminal, check=True, timeout=60)
    os.close(terminal)
    shown = os.read(reading, 1 << 16)
    os.close(reading)
    assert b"\r\nodd \\xff\\n\\e[31m\r\n" in shown


def test_cat(repo: Path, source: Path) -> None:
    result = outside("cat", repo, "latest", "sub/b.bin")
    assert result.stdout == (source / "sub" / "b.bin").read_bytes()
    assert run("cat", repo, "latest~1", source / "a.txt").stdout == "first\n"
    for path in ("sub", "missing", "a.txt/below"):
        assert run("cat", repo, "latest", path, code=1).stderr.startswith("ibtfs: ")


@pytest.mark.parametrize("words", ["latest~7", "zzzz", "2001-01-01", "nowhere/latest"])
def test_no_such_point(repo: Path, words: str) -> None:
    assert run("ls", repo, words, code=1).stderr.startswith("ibtfs: No ")


def test_several_sources_must_be_told_apart(repo: Path, source: Path) -> None:
    run("backup", source / "sub", repo)
    told = run("ls", repo, "latest", code=2).stderr
    assert "documents/latest" in told
    assert "sub/latest" in told
    assert run("ls", repo, "sub/latest").stdout == "b.bin\n"


def test_restore(repo: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = run_json("restore", repo, "latest", out)
    assert (answer["files"], answer["problems"], answer["dry_run"]) == (5, [], False)
    assert answer["point"]["source"] == "documents"
    assert sorted(os.listdir(os.fsencode(out))) == sorted(os.listdir(os.fsencode(source)))
    assert "not empty" in run("restore", repo, "latest", out, code=2).stderr
    (out / "a.txt").write_bytes(b"mine")
    (out / "extra").write_bytes(b"")
    run("restore", "--overwrite", "never", repo, "latest", out)
    assert (out / "a.txt").read_bytes() == b"mine"
    shown = run("restore", "--overwrite", "always", "--delete", "-v", repo, "latest", out).stdout
    assert (out / "a.txt").read_bytes() == b"first\nsecond\n"
    assert not (out / "extra").exists()
    assert "restored  a.txt\n" in shown
    assert "1 deleted" in shown


def test_restore_of_parts(repo: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("restore", repo, "latest", "sub/b.bin", source / "a.txt", out)
    assert sorted(os.listdir(out)) == ["a.txt", "b.bin"]
    run("restore", "--include", "*.txt", "--exclude", "new*", repo, "latest", tmp_path / "some")
    assert os.listdir(tmp_path / "some") == ["a.txt"]
    assert "Would restore" in run("restore", "-n", repo, "latest", tmp_path / "none").stdout
    assert not (tmp_path / "none").exists()
    run("restore", repo, "latest", "missing", tmp_path / "none", code=1)


def test_check(repo: Path) -> None:
    assert run("check", repo).stdout.startswith("No damage: 2 points")
    answer = run_json("check", "--read-data", repo)
    assert answer["damages"] == []
    assert answer["counts"]["points"] == 2
    assert run("check", "-q", repo).stdout == ""


def test_init(tmp_path: Path) -> None:
    answer = run_json("init", tmp_path / "repo", "--compression", "9")
    config = json.loads((tmp_path / "repo" / "ibtfs.json").read_text())
    assert (config["id"], config["compression"]) == (answer["id"], 9)
    assert (tmp_path / "repo").stat().st_mode & 0o7777 == 0o700
    run("init", "--shared", tmp_path / "ours")
    assert (tmp_path / "ours").stat().st_mode & 0o7777 == 0o2770
    assert "already" in run("init", tmp_path / "repo", code=1).stderr


# Mounts, real ones


def test_mount_in_the_background(repo: Path, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    assert "does not exist" in run("mount", repo, mountpoint, code=1).stderr
    mountpoint.mkdir()
    result = outside("mount", repo, mountpoint)
    try:
        assert result.returncode == 0, result.stderr
        shown = result.stdout.decode()
        assert shown.count("\n") == 1
        assert f"Mounted on {mountpoint}: 2 backup points" in shown
        seen = (mountpoint / "documents" / "latest" / "a.txt").read_bytes()
        assert seen == b"first\nsecond\n"
        assert "already mounted" in run("mount", repo, mountpoint, code=1).stderr
    finally:
        ended = run("umount", mountpoint)
    assert ended.stdout == f"Unmounted {mountpoint}\n"
    assert "Nothing is mounted" in run_json("umount", mountpoint, code=1)["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_mount_in_the_foreground(number: int, repo: Path, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    words = command("mount", "--foreground", "--json", repo, mountpoint)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        answer = json.loads(process.stdout.readline())
        assert answer == {"mountpoint": str(mountpoint), "points": 2, "exit_code": 0}
        assert os.listdir(mountpoint) == ["documents"]
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (0, b"")
    assert not os.path.ismount(mountpoint)


def test_mount_point_refused(repo: Path, tmp_path: Path, source: Path) -> None:
    assert "not empty" in run("mount", repo, source, code=1).stderr
    assert "overlap" in run("mount", repo, tmp_path, code=1).stderr
    assert "overlap" in run("mount", repo, repo / "points", code=1).stderr
