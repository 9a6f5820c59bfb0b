"""What the target cannot hold or change is named by its true cause, and is no success."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.actions.restore.run import Overwrite
from ibtfs.store.repository import Repository
from tests.actions.restore.conftest import Disk
from tests.actions.restore.test_owners import as_user, readable_backup
from tests.support import snapshot
from tests.support.commands import command, run, run_json
from tests.support.repositories import back_up, put_back, the_point
from tests.support.spaces import run_privately
from tests.support.trees import Directory, File, Symlink, make_tree

IF_CHANGED, ALWAYS = Overwrite.IF_CHANGED, Overwrite.ALWAYS
IN_2100 = 4_102_444_800 * 10**9


def test_a_date_that_the_target_cannot_hold_is_told(
    tmp_path: Path, repository: Repository, ext4: Disk
) -> None:
    make_tree(tmp_path / "source", {
        "far": File(b"1", mtime_ns=IN_2100), "now": File(b"1", mtime_ns=10**18),
        "d": Directory(mtime_ns=IN_2100, children={"link": Symlink("x", mtime_ns=IN_2100)}),
    })  # fmt: skip
    point = the_point(back_up(repository, tmp_path / "source"))
    able = put_back(repository, point, ext4("-I", "256") / "out")
    assert (able.problems, able.notes) == ([], [])
    told = put_back(repository, point, ext4("-I", "128") / "out")
    message = "its times could not be set (nor those of 2 more): "
    assert [text for _, text in told.problems] == [
        message + "the file system there cannot hold such a date"
    ]
    assert told.notes == []


def test_the_command_tells_such_a_date_and_ends_with_3(tmp_path: Path, ext4: Disk) -> None:
    make_tree(tmp_path / "source", {"far": File(b"1", mtime_ns=IN_2100)})
    run("backup", tmp_path / "source", tmp_path / "repository")
    disk = ext4("-I", "128")
    shown = run("restore", tmp_path / "repository", "latest", disk / "out", code=3)
    assert "far: its times could not be set: the file system there cannot hold" in shown.stderr
    assert "1 problem: see above" in shown.stderr
    assert (disk / "out/far").read_bytes() == b"1"


@pytest.fixture
def locked() -> Iterator[list[Path]]:
    """What is put here is made immutable, until the test is done."""
    paths: list[Path] = []
    yield paths
    for path in paths:
        subprocess.run(["chattr", "-i", path], check=True)


def lock(locked: list[Path], path: Path) -> None:
    subprocess.run(["chattr", "+i", path], check=True)
    locked.append(path)


def test_an_immutable_file_is_named_as_that(
    tmp_path: Path, repository: Repository, locked: list[Path]
) -> None:
    make_tree(tmp_path / "source", {"a": b"1", "b": b"2"})
    point, out = the_point(back_up(repository, tmp_path / "source")), tmp_path / "out"
    put_back(repository, point, out)
    (out / "a").chmod(0o600)  # to be mended: only the mode differs
    (out / "b").write_bytes(b"other")
    for name in ("a", "b"):
        lock(locked, out / name)
    told = put_back(repository, point, out, overwrite=IF_CHANGED, delete=True)
    cause = "immutable or append-only (chattr -i -a, then restore again)"
    assert dict(told.problems) == {
        b"a": f"its modes could not be set: {cause}",
        b"b": f"what is there is {cause}",
    }
    assert told.notes == []
    assert (out / "b").read_bytes() == b"other"


def test_what_is_immutable_and_as_it_should_be_is_no_problem(
    tmp_path: Path, repository: Repository, locked: list[Path]
) -> None:
    make_tree(tmp_path / "source", {
        "a": File(b"1", uid=4242, mode=0o640, xattrs={"user.x": b"1", "trusted.y": b"2"}),
        "d": {"b": b"2"},
    })  # fmt: skip
    os.system(f"setfacl -m u:1:rwx '{tmp_path}/source/a' '{tmp_path}/source/d'")
    point, out = the_point(back_up(repository, tmp_path / "source")), tmp_path / "out"
    put_back(repository, point, out)
    before = snapshot(out)
    for name in ("a", "d/b", "d", "."):
        lock(locked, out / name)
    told = put_back(repository, point, out, overwrite=IF_CHANGED, delete=True)
    assert (told.problems, told.notes) == ([], [])
    assert snapshot(out) == before


def test_an_immutable_folder_is_named_as_that_and_is_no_success(
    tmp_path: Path, locked: list[Path]
) -> None:
    make_tree(tmp_path / "source", {"d": {"new": b"1", "sub": {}, "pipe": Symlink("x")}})
    run("backup", tmp_path / "source", tmp_path / "repository")
    make_tree(tmp_path / "out", {"d": {"extra": b""}})
    lock(locked, tmp_path / "out/d")
    words = ("restore", "--overwrite", "if-changed", "--delete", tmp_path / "repository", "latest")
    answer = run_json(*words, tmp_path / "out", code=3)
    problems = {problem["path"]: problem["message"] for problem in answer["problems"]}
    cause = "its folder is immutable or append-only (chattr -i -a, then restore again)"
    assert problems.pop("d").startswith("its times could not be set: immutable or append-only")
    assert problems == {
        "d/new": cause, "d/sub": cause, "d/pipe": cause, "d/extra": f"cannot be deleted: {cause}",
    }  # fmt: skip
    assert os.listdir(tmp_path / "out/d") == ["extra"]


def test_what_a_user_may_not_set_is_a_note_and_what_the_disk_cannot_a_problem(
    place: Path, ext4: Disk
) -> None:
    make_tree(place / "source", {"file": File(b"1", uid=4343, mtime_ns=IN_2100)})
    repository, point = readable_backup(place)
    disk = ext4("-I", "128")
    for path in (disk, disk.parent):
        path.chmod(0o777)

    def restored() -> None:
        heard = put_back(repository, point, disk / "out")
        assert [path for path, _ in heard.problems] == [b"file"], heard.problems
        assert len(heard.notes) == 1, heard.notes
        assert "restore as root to set them" in heard.notes[0]

    as_user(4242, 4242, [], restored)


def test_without_proc_links_are_made_and_what_they_lack_is_told(place: Path) -> None:
    make_tree(place / "source", {"link": Symlink("x"), "file": b"1"})
    run("backup", place / "source", place / "repository")
    words = shlex.join(command("restore", place / "repository", "latest", place / "out"))
    (place / "inside").mkdir()
    done = run_privately(place / "inside", f"mount -t tmpfs none /proc; {words} || echo code $?")
    assert done.stderr == "ibtfs: link: gets no metadata, for /proc is not mounted here\n" + (
        "ibtfs: 1 problem: see above, the rest is restored\n"
    )
    assert done.stdout.splitlines()[-1] == "code 3"
    assert os.readlink(place / "out/link") == "x"
    assert (place / "out/file").read_bytes() == b"1"
