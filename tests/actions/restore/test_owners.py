"""Owners, groups and ACLs of what is restored, by root and by an ordinary user."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from ibtfs.actions.restore.entry import EntryWriter
from ibtfs.actions.restore.run import Overwrite
from ibtfs.format.acl import GROUP, USER, acl_entries
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry
from tests.support import differences, snapshot
from tests.support.repositories import back_up, put_back, reopened
from tests.support.trees import File, make_tree, posix_acl

if TYPE_CHECKING:
    from ibtfs.store.contents.reader import Contents

ALWAYS, IF_CHANGED, NEVER = Overwrite.ALWAYS, Overwrite.IF_CHANGED, Overwrite.NEVER


def test_acls_that_a_destination_hands_down_are_removed(
    tmp_path: Path, repository: Repository
) -> None:
    make_tree(tmp_path / "source", {"d": {"a": b"1"}})
    point = back_up(repository, tmp_path / "source").point
    assert point
    (tmp_path / "out").mkdir()
    assert os.system(f"setfacl -d -m u:65534:rwx '{tmp_path}/out'") == 0
    assert not differences(snapshot(tmp_path / "source"), _restored(repository, point, tmp_path))


def _restored(repository: Repository, point: Point, tmp_path: Path) -> dict[bytes, object]:
    put_back(repository, point, tmp_path / "out", overwrite=ALWAYS)
    return snapshot(tmp_path / "out")  # type: ignore[return-value]


def as_user(number: int, group: int, others: list[int], action: Callable[[], object]) -> None:
    """Run *action* in a process of an ordinary user."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups(others)
            os.setgid(group)
            os.setuid(number)
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(("uid", "gid"), [(0xFFFFFFFF, 0), (0, 0xFFFFFFFF)])
def test_a_number_that_means_nobody_keeps_no_set_user_id(
    tmp_path: Path, uid: int, gid: int
) -> None:
    """chown takes it for "as it is" and says that all is well."""
    row = (b"x", stat.S_IFREG | 0o6755, uid, gid, 0, 1, 1, 1, 1)
    entry = Entry(*row, None, None, b"", 0, {}, None)
    with ThreadPoolExecutor(1) as pool:
        writer = EntryWriter(cast("Contents", None), {}, {}, pool)
        descriptor = os.open(tmp_path, os.O_RDONLY)
        writer.file(entry, descriptor, b"x")
        os.close(descriptor)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o755
    assert writer.unset == {"owners": 1}


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A folder that everybody may get to."""
    for part in (tmp_path, *tmp_path.parents):
        mode = stat.S_IMODE(part.stat().st_mode)
        if mode & 0o011 != 0o011:
            part.chmod(mode | 0o011)
    return tmp_path


def readable_backup(place: Path) -> tuple[Repository, Point]:
    """A backup of ``place/source`` that everybody may read."""
    repository = Repository.create(os.fsencode(place / "repo"), os.urandom(16))
    point = back_up(repository, place / "source").point
    assert point
    subprocess.run(["chmod", "-R", "a+rX", place / "repo"], check=True)
    put_back(repository, point, place / "warm")  # what is imported late may be out of his reach
    return reopened(repository), point


def test_a_file_that_stays_does_not_become_set_user_id_of_another(open_path: Path) -> None:
    """An ordinary user may not give the file to its owner, and so not the bit either."""
    make_tree(open_path / "source", {"tool": File(b"run", mode=0o4755)})
    repository, point = readable_backup(open_path)
    out = open_path / "out"
    out.mkdir()
    os.chown(out, 4242, 4242)
    for _ in range(2):
        as_user(
            4242, 4242, [], lambda: put_back(repository, point, out / "here", overwrite=IF_CHANGED)
        )
        found = (out / "here/tool").stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (4242, 0o755)


def test_a_user_below_a_set_group_id_folder_gets_his_own_group(open_path: Path) -> None:
    make_tree(open_path / "source", {"private": File(b"mine", mode=0o640), "sub": {"f": b"1"}})
    for path in (open_path / "source", *(open_path / "source").rglob("*")):
        os.chown(path, 4242, 4242)
    repository, point = readable_backup(open_path)
    team = open_path / "team"
    team.mkdir()
    os.chown(team, 4242, 4343)
    team.chmod(0o2775)
    as_user(4242, 4242, [4343], lambda: put_back(repository, point, team / "here"))
    for name in ("private", "sub", "sub/f"):
        assert (team / "here" / name).stat().st_gid == 4242, name


def test_acls_go_by_name_as_owners_do(tmp_path: Path, repository: Repository) -> None:
    acl = posix_acl((1, 6, 2**32 - 1), (2, 6, 1), (4, 4, 2**32 - 1), (8, 4, 12),
                    (16, 6, 2**32 - 1), (32, 0, 2**32 - 1))  # fmt: skip
    make_tree(tmp_path / "source", {"file": b"1", "large": {}})
    os.setxattr(tmp_path / "source/file", "system.posix_acl_access", acl)
    point = back_up(repository, tmp_path / "source").point
    assert point
    assert point.users[1] == "daemon"
    assert point.groups[12] == "man"
    single = back_up(repository, tmp_path / "source/file").point
    assert single
    assert (single.users[1], single.groups[12]) == ("daemon", "man")
    elsewhere = dataclasses.replace(
        point, users={**point.users, 1: "games"}, groups={**point.groups, 12: "mail"}
    )
    for numeric, users in ((False, (5, 8)), (True, (1, 12))):
        out = tmp_path / f"out-{numeric}"
        put_back(repository, elsewhere, out, numeric_ids=numeric)
        found = acl_entries(os.getxattr(out / "file", "system.posix_acl_access"))
        assert found
        assert tuple(e.number for e in found if e.tag in (USER, GROUP)) == users
