"""What a user meets at the edges: places that are not there or full, odd names, small screens."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import random
import shutil
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import (
    HOST,
    Recorder,
    back_up,
    create,
    damages,
    reopened,
    restored_tree,
    the_point,
)
from support import differences, snapshot

from ibtfs.actions.backup import entry as store_file
from ibtfs.actions.backup import run as backup_module
from ibtfs.actions.backup.plan import Plan
from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.cli.main import cli
from ibtfs.store.repository import Repository
from ibtfs.store.trees import directory as states

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    (folder / "sub").mkdir(parents=True)
    for number in range(3):
        (folder / "sub" / f"{number}.txt").write_text(str(number))
    return folder


def run(*words: object, code: int = 0, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(cli, list(map(str, words)), input=stdin)
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


# Repositories


@pytest.mark.parametrize(
    "words", [["list"], ["check"], ["ls", "@", "latest"], ["restore", "@", "latest", "elsewhere"]]
)
def test_a_repository_that_is_not_there_is_told_so(words: list[str], tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    command = [missing if word == "@" else word for word in words]
    said = run(*(command if "@" in words else [*command, missing]), code=10).stderr
    assert said == f"ibtfs: No such repository: {missing!r} does not exist\n"
    assert "is not an ibtfs repository" in run("list", tmp_path, code=10).stderr


@pytest.fixture
def read_only(tmp_path: Path, source: Path) -> Iterator[Path]:
    """A repository on a read-only file system."""
    assert os.geteuid() == 0, "only root can mount: run the suite as root"
    path = tmp_path / "repository"
    run("backup", source, path)
    subprocess.run(["mount", "--bind", path, path], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_backup_to_a_read_only_repository_names_it(read_only: Path, source: Path) -> None:
    said = run("backup", source, read_only, code=1).stderr
    assert said == (
        f"ibtfs: The repository {str(read_only)!r} is not writable: "
        "its file system is mounted read-only\n"
    )
    assert "documents" in run("list", read_only).stdout


def test_a_user_who_may_not_write_is_told_where(tmp_path: Path, source: Path) -> None:
    repository = tmp_path / "repository"
    run("backup", source, repository)
    code = (
        "import os, sys\n"
        "from ibtfs.errors import RepositoryError\n"
        "from ibtfs.store.repository import Repository\n"
        "repo = Repository.open(os.fsencode(sys.argv[1]))\n"
        "os.setresuid(65534, 0, 0)\n"  # access asks for the real user
        "try: repo.require_writable()\n"
        "except RepositoryError as error: print(error)\n"
    )
    for folder in (tmp_path, repository):
        folder.chmod(0o755)
    ended = subprocess.run(
        [sys.executable, "-c", code, repository], capture_output=True, text=True, check=True
    )
    assert "is not writable: this user may not write to" in ended.stdout


# Words


def test_a_wrong_pattern_names_its_file_and_line(tmp_path: Path, source: Path) -> None:
    patterns, repository = tmp_path / "patterns", tmp_path / "repository"
    patterns.write_bytes(b"# fine\n*.o\n[[:alpha:]]\n")
    told = run("backup", "--exclude-from", patterns, source, repository, code=2).stderr
    assert f"{patterns}, line 3: Pattern '[[:alpha:]]' has a named class" in told
    told = run(
        "backup", "--exclude-from", "-", source, repository, code=2, stdin=b"\n[[:alpha:]]"
    ).stderr
    assert "standard input, line 2: Pattern" in told
    assert not repository.exists()
    (source / ".exclude").write_bytes(b"*.o\n\n\n[[:digit:]]x\n")
    told = run("backup", source, repository, code=2).stderr
    assert f"{source}/.exclude, line 4: Pattern" in told


@pytest.mark.parametrize("name", ["latest", "latest~2", ".hidden", "@3d", "a/b", "", "..", "."])
def test_names_that_no_source_can_have(name: str, tmp_path: Path, source: Path) -> None:
    told = run("backup", "--name", name, source, tmp_path / "repository", code=2).stderr
    assert "Invalid value for '--name'" in told
    assert not (tmp_path / "repository").exists()


def test_a_dry_run_says_would(tmp_path: Path, source: Path) -> None:
    repository = tmp_path / "repository"
    run("backup", source, repository)
    (source / "new").write_bytes(bytes(2048))
    told = run("backup", "-n", source, repository).stdout
    assert "would read 2.0 KiB, and would store what is new in that, in " in told
    assert " read," not in told.replace("would read 2.0 KiB,", "")


# Screens


def on_terminal(columns: int, *words: object) -> list[str]:
    """The lines that a command prints on a terminal so wide."""
    reading, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
    command = [sys.executable, "-m", "ibtfs", *map(str, words)]
    with subprocess.Popen(command, stdout=terminal, stdin=terminal, env=environment) as process:
        os.close(terminal)
        text = b""
        try:
            while data := os.read(reading, 65536):
                text += data
        except OSError:
            pass  # the end of a terminal
        assert process.wait() == 0
    os.close(reading)
    return text.decode().splitlines()


def test_list_fits_narrow_terminals(tmp_path: Path, source: Path) -> None:
    repository = tmp_path / "repository"
    run(
        "backup", "--tag", "before-upgrade", "--comment", "a comment, long " * 5, source, repository
    )
    piped = run("list", repository).stdout.splitlines()
    shown = {columns: on_terminal(columns, "list", repository) for columns in (20, 40, 80, 300)}
    for columns, lines in shown.items():
        assert len(lines) == 3
        assert max(map(len, lines)) <= columns
        assert lines[1].startswith("POINT")
        assert piped[2].split()[0] in lines[2]
    assert shown[300][1] == piped[1]
    assert shown[40][1].split()[:2] == ["POINT", "AGE"]
    assert "ID" not in shown[80][1].split()


def test_a_command_whose_reader_goes_away_is_quiet(tmp_path: Path, source: Path) -> None:
    for number in range(3000):
        (source / f"a name that is rather long, so that a pipe is filled {number}").touch()
    run("backup", source, tmp_path / "repository")
    line = f"{sys.executable} -m ibtfs ls {tmp_path}/repository latest | head -n 1"
    script = f"set -o pipefail; {line}; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[1] == "141"


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    assert os.geteuid() == 0, "only root can mount the small disk: run the suite as root"
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_ends_a_restore_with_one_line(tmp_path: Path, small_disk: Path) -> None:
    source, rng = tmp_path / "source", random.Random(1)
    source.mkdir()
    for number in range(40):
        (source / f"{number:02}").write_bytes(rng.randbytes(100_000))
    run("backup", source, tmp_path / "repository")
    ended = run("restore", tmp_path / "repository", "latest", small_disk / "back", code=1)
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("ibtfs: No space left where the files are restored to")
    whole = sorted((small_disk / "back").iterdir())
    assert 5 <= len(whole) <= 10
    for path in whole:
        assert path.read_bytes() == (source / path.name).read_bytes()
    answer = run("restore", "--json", tmp_path / "repository", "latest", small_disk / "b", code=1)
    assert json.loads(answer.stdout)["exit_code"] == 1


# Moves


def test_moved_files_are_counted_once(tmp_path: Path, source: Path) -> None:
    repository, counts = tmp_path / "repository", ("new", "changed", "unchanged", "gone", "moved")
    (source / "a" / "deep").mkdir(parents=True)
    (source / "z").mkdir()
    for number in range(10):
        (source / "a" / "deep" / str(number)).write_text(str(number))
        (source / "a" / f"top {number}").write_text(str(number))
        (source / "z" / str(number)).write_text(str(number))
    old = 100 * 365 * 86400
    for folder in (source, source / "a", source / "a" / "deep", source / "z"):
        os.utime(folder, (old // 2, old // 2))

    def counted() -> list[int]:
        answer = json.loads(run("backup", "--json", source, repository).stdout)
        return [answer["points"][0][key] for key in counts]

    assert counted() == [33, 0, 0, 0, 0]
    (source / "a").rename(source / "zz")
    (source / "z").rename(source / "sub" / "z")
    assert counted() == [0, 0, 3, 0, 30]
    assert counted() == [0, 0, 33, 0, 0]
    # one that was in a moved folder is gone, another is new; times as a program may set them
    (source / "zz").rename(source / "b")
    (source / "b" / "deep" / "3").unlink()
    (source / "b" / "deep" / "new").write_text("new")
    os.utime(source / "b" / "deep", (old // 2, old // 2))
    assert counted() == [1, 0, 13, 1, 19]
    shutil.rmtree(source / "b")
    assert counted() == [0, 0, 13, 20, 0]
    (source / "sub").rename(source / "renamed")
    told = run("backup", source, repository).stdout
    assert "  0 new, 0 changed, 0 unchanged, 0 gone, 13 moved; 13 files in" in told
    assert damages(Repository.open(os.fsencode(repository))) == []


# Extended attributes


@pytest.mark.parametrize("kind", ["file", "folder", "root"])
def test_xattrs_that_could_not_be_read_back_are_told_when_stored(
    kind: str, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "XATTRS_LIMIT", 2500)
    monkeypatch.setattr(store_file, "XATTRS_ROOT", 2500)
    path = {"file": source / "sub" / "1.txt", "folder": source / "sub", "root": source}[kind]
    for number in range(3):
        os.setxattr(path, f"user.{number}", bytes(700))
    os.setxattr(source / "sub" / "0.txt", "user.small", bytes(2000))
    repository = create(tmp_path / "repository")
    results, trees = [], []
    for size in (900, 900, 700, 100):  # too large when new, and again; then they fit
        for number in range(3):
            os.setxattr(path, f"user.{number}", bytes(size))
        trees.append(snapshot(source))
        recorder = Recorder()
        results.append(back_up(repository, source, recorder))
        expected = [os.fsencode(path.relative_to(source))] if size == 900 else []
        assert [p.replace(b".", b"") if p == b"." else p for p, _ in recorder.problems] == [
            b"" if p == b"." else p for p in expected
        ]
        assert all("of extended attributes" in message for _, message in recorder.problems)
    for tree, result, fits in zip(trees, results, (False, False, True, True)):
        back = restored_tree(repository, the_point(result), tmp_path / "back")
        assert (differences(tree, back) == []) == fits
        assert set(back) == set(tree)
    assert damages(repository) == []


# Epochs


def test_two_full_backups_at_once_need_nothing_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may take the same epoch, and refer to each other: never to what was there before."""
    repository, rng = create(tmp_path / "repository"), random.Random(2)
    sources = [tmp_path / "one", tmp_path / "two"]
    for path in sources:
        path.mkdir()
        (path / "shared").write_bytes(b"the same in both" * 10_000)
        (path / "own").write_bytes(rng.randbytes(50_000))
        back_up(repository, path)
    before = {*repository.archive_ids()}, {*repository.point_ids()}
    barrier, look = threading.Barrier(2, timeout=30), backup_module.make_plan

    def together(*arguments: Any, **options: Any) -> Plan:
        plan = look(*arguments, **options)
        barrier.wait()  # both have looked before either has stored
        return plan

    monkeypatch.setattr(backup_module, "make_plan", together)

    def full(path: Path) -> None:
        repo = Repository.open(repository.path)
        backup(repo, os.fsencode(path), BackupOptions(HOST, full=True), Recorder())

    threads = [threading.Thread(target=full, args=(path,)) for path in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    points = [p for p in reopened(repository).points().points if p.id not in before[1]]
    assert [point.epoch for point in points] == [1, 1]
    (sources[0] / "own").write_bytes(rng.randbytes(50_000))
    points.append(the_point(back_up(repository, sources[0])))
    for archive in before[0]:
        shutil.rmtree(tmp_path / "repository" / "archives" / archive)
    for point_id in before[1]:
        (tmp_path / "repository" / "points" / point_id).unlink()
    assert damages(repository) == []
    assert len(points) == 3
    for path in sources:
        newest = [p for p in points if p.source.path == os.fsencode(path)][-1]
        tree = restored_tree(repository, newest, tmp_path / "back")
        assert differences(snapshot(path), tree) == []
