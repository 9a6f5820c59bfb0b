"""``ibtfs backup`` where it is refused, or stores nothing: the words that say why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    (folder / "sub").mkdir(parents=True)
    for number in range(3):
        (folder / "sub" / f"{number}.txt").write_text(str(number))
    return folder


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
