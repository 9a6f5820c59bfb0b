"""Repositories with right checksums that were made to harm: every command comes to an end.

Each runs in a process of its own with bounded memory, and is killed if it goes on for ever.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ibtfs.store.contents.fold import CHAIN_LIMIT
from ibtfs.store.repository import Repository
from tests.support import hostile
from tests.support.commands import in_process, outside
from tests.support.mounts import mounted
from tests.support.repositories import reopened
from tests.support.trees import make_tree

MEMORY = 1 << 30
PART = 4
"""How many times smaller chains may be where it takes long, and the memory that they may take."""

IN_PART = f"""
from ibtfs.store.contents import fold
fold.CHAIN_LIMIT //= {PART}
from ibtfs.cli.main import main
main()
"""

pytestmark = pytest.mark.damaged


def bounded(memory: int = MEMORY) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def bounded_run(*words: object) -> subprocess.CompletedProcess[bytes]:
    return proper(outside(*words, preexec_fn=bounded))


def bounded_run_in_part(*words: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command that takes no longer chains than a part of what they may be."""
    program = [sys.executable, "-c", IN_PART]
    return proper(in_process(program, *words, preexec_fn=lambda: bounded(MEMORY // PART)))


def proper(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[bytes]:
    assert b"Traceback" not in done.stderr
    assert b"Unexpected" not in done.stderr
    assert b"Out of memory" not in done.stderr
    return done


# Archives that contain each other


@pytest.mark.parametrize("read", [False, True])
def test_check_names_folders_that_contain_each_other(repository: Repository, read: bool) -> None:
    hostile.entangled(repository)
    done = bounded_run("check", *(["--read-data"] if read else []), repository.path)
    assert done.returncode == 1
    assert b"a directory that holds itself" in done.stderr
    assert b"a/b" in done.stderr


def test_folders_that_contain_each_other_are_listed_once(repository: Repository) -> None:
    hostile.entangled(repository)
    done = bounded_run("ls", "-R", repository.path, "latest")
    assert (done.returncode, done.stdout) == (3, b"a\na/b\na/file\nfile\n")
    assert b"'a/b': " in done.stderr
    assert b"a directory that holds itself" in done.stderr


def test_folders_that_contain_each_other_are_restored_once(
    tmp_path: Path, repository: Repository
) -> None:
    hostile.entangled(repository)
    done = bounded_run("restore", repository.path, "latest", tmp_path / "out")
    assert done.returncode == 3
    assert b"a directory that holds itself" in done.stderr
    found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("out/**/*"))
    assert found == ["a", "a/b", "a/file", "file"]
    done = bounded_run("restore", repository.path, "latest", "a/b", tmp_path / "below")
    assert done.returncode == 1
    assert b"a directory that holds itself" in done.stderr
    assert not (tmp_path / "below").exists()


def test_a_backup_upon_folders_that_contain_each_other(
    tmp_path: Path, repository: Repository
) -> None:
    point = hostile.entangled(repository)
    make_tree(tmp_path / "source", {"a": b"no folder now", "new": {"moved": b""}})
    done = bounded_run(
        "backup", "--name", "source", tmp_path / "source", repository.path, "--host", "host"
    )
    assert done.returncode == 0, done.stderr
    ids = [found.id for found in reopened(repository).points.all().points]
    assert len(ids) == 2
    done = bounded_run("diff", repository.path, point.id, "latest")
    assert b"a directory that holds itself" in done.stderr
    assert done.returncode == 1


# More files than any disk has, in a few hundred bytes


def test_check_names_a_tree_without_an_end(repository: Repository) -> None:
    hostile.boundless(repository)
    done = bounded_run("check", repository.path)
    assert done.returncode == 1
    assert b"would have more entries than any backup can have" in done.stderr


def test_check_is_linear_where_something_is_damaged_too(repository: Repository) -> None:
    """Every path of what is damaged would be 2^30."""
    with hostile.archive(repository, 0) as writer:
        lost = hostile.StateRef(hostile.Reference(hostile.archive_id(0), 999), bytes(32))
        root = hostile.doubling(writer, 29, {b"lost": lost, b"file": None})
    with hostile.archive(repository, 1) as writer:
        root = hostile.folder(writer, {b"top": root})
    for sequence in (1, 2, 3):
        hostile.commit(repository, root, sequence)
    done = bounded_run("check", repository.path)
    assert done.returncode == 1
    assert b"a directory that holds itself" in done.stderr
    assert b"20260101T000003Z" in done.stderr


@pytest.mark.parametrize("words", [["ls", "-R"], ["restore"], ["diff"]])
def test_what_goes_by_path_refuses_a_tree_without_an_end(
    tmp_path: Path, repository: Repository, words: list[str]
) -> None:
    hostile.boundless(repository)
    with hostile.archive(repository, 1) as writer:
        empty = hostile.folder(writer, {})
    hostile.commit(repository, empty, 2)
    more: dict[str, list[object]] = {
        "ls": ["latest~1"], "restore": ["latest~1", tmp_path / "out"],
        "diff": ["latest", "latest~1"],
    }  # fmt: skip
    done = bounded_run(*words, repository.path, *more[words[0]])
    assert done.returncode == 1
    assert b"would have more entries than any backup can have" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("words", [["file"], ["0/"]])
def test_a_purge_names_the_point_of_a_tree_without_an_end(
    repository: Repository, words: list[str]
) -> None:
    """By forgetting that, the others can be purged."""
    point = hostile.boundless(repository)
    done = bounded_run("purge", "--dry-run", repository.path, *words)
    assert done.returncode == 1
    assert point.id.encode() in done.stderr
    assert b"forget it by this id" in done.stderr
    assert b"would have more entries than any backup can have" in done.stderr


def test_a_purge_names_the_point_of_a_folder_that_holds_itself(repository: Repository) -> None:
    point = hostile.entangled(repository)
    done = bounded_run("purge", "--dry-run", repository.path, "nothing")
    assert done.returncode == 1
    assert point.id.encode() in done.stderr


def test_a_backup_upon_a_tree_without_an_end(tmp_path: Path, repository: Repository) -> None:
    """It counts what is gone since."""
    hostile.boundless(repository)
    make_tree(tmp_path / "source", {"file": b"1"})
    done = bounded_run(
        "backup", "--name", "source", tmp_path / "source", repository.path, "--host", "host"
    )
    assert done.returncode == 0, done.stderr


# Requests of a mount that would take for ever


@pytest.mark.parametrize("path", [".deleted/d", ".versions/d"])
@pytest.mark.parametrize("words", [["-f"], ["-l"]])
def test_a_listing_of_a_mount_takes_no_longer_than_it_may(
    tmp_path: Path, repository: Repository, path: str, words: list[str]
) -> None:
    """It is shown what could not be told in time; comparing all would take minutes."""
    hostile.laborious(repository)
    with mounted(repository, tmp_path / "mnt") as mnt:
        done = subprocess.run(
            ["ls", *words, str(mnt / "source" / path)], capture_output=True, timeout=30, check=True
        )
    assert done.stdout.count(b"\n") >= 3000


# A few kilobytes that would take gigabytes of memory


def maps(size: int) -> bytes:
    """A value of so many bytes, nearly all of it maps of one key."""
    count = (size - 5) // 3
    return b"\xdd" + count.to_bytes(4, "big") + b"\x81\x00\x00" * count


def nested(size: int) -> bytes:
    """Arrays in arrays, each of which claims to be as long as all of it."""
    return (b"\xdd" + size.to_bytes(4, "big")) * 1000 + bytes(size - 5000)


@pytest.mark.parametrize("make", [maps, nested])
def test_a_state_takes_no_more_memory_than_one_may(
    repository: Repository, make: Callable[[int], bytes]
) -> None:
    hostile.with_state(repository, b"\x95\x00\x90\x90\x80" + make((4 << 20) - 100))
    done = bounded_run("ls", repository.path, "latest")
    assert (done.returncode, b"not a msgpack value" in done.stderr) == (3, True)
    done = bounded_run("check", repository.path)
    assert (done.returncode, b"not a msgpack value" in done.stderr) == (1, True)


@pytest.mark.parametrize("make", [maps, nested])
def test_extended_attributes_take_no_more_memory_than_some_may(
    tmp_path: Path, repository: Repository, make: Callable[[int], bytes]
) -> None:
    hostile.with_xattrs(repository, make(16 << 20))
    done = bounded_run("restore", repository.path, "latest", tmp_path / "out")
    assert (done.returncode, b"not a msgpack value" in done.stderr) == (3, True)
    done = bounded_run("check", "--read-data", repository.path)
    assert (done.returncode, b"not a msgpack value" in done.stderr) == (1, True)


def test_a_frame_table_takes_no_more_memory_than_one_may(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile.with_table(repository, monkeypatch, maps(64 << 20))
    done = bounded_run("check", repository.path)
    assert (done.returncode, b"beyond the limits of the format" in done.stderr) == (1, True)


@pytest.mark.parametrize("command", ["cat", "check", "restore"])
def test_a_chain_takes_no_more_memory_than_one_may(
    tmp_path: Path, repository: Repository, command: str
) -> None:
    hostile.chained(repository, CHAIN_LIMIT // 4 // PART)
    words: dict[str, list[object]] = {
        "cat": ["latest", "file"], "check": [], "restore": ["latest", tmp_path / "out"]
    }  # fmt: skip
    done = bounded_run_in_part(command, repository.path, *words[command])
    assert done.returncode == (3 if command == "restore" else 1)
    assert b"its chain has more ranges than it may" in done.stderr


def test_a_chain_of_as_many_ranges_as_one_may_have_is_read(repository: Repository) -> None:
    fine = CHAIN_LIMIT // 4 // PART
    hostile.chained(repository, fine, levels=2)
    done = bounded_run_in_part("cat", repository.path, "latest", "file")
    assert (done.returncode, done.stdout) == (0, bytes(fine))


# A few hundred kilobytes that would take minutes


def colliding(size: int) -> bytes:
    """A page whose extras are by numbers of one hash: a map of them takes its square in steps."""
    count = (size - 8) // 19
    keys = (((1 << 64) + number * sys.hash_info.modulus) for number in range(count))
    rows = b"".join(b"\xd8\x01" + key.to_bytes(16, "big") + b"\xc0" for key in keys)
    return b"\x94\x00\x90\x90\xdf" + count.to_bytes(4, "big") + rows


def test_a_map_takes_no_longer_than_it_is_long(repository: Repository) -> None:
    hostile.with_state(repository, colliding(2 << 20))
    done = bounded_run("ls", repository.path, "latest")
    assert (done.returncode, b"a key that is too big" in done.stderr) == (3, True)
