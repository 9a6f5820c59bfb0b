"""Root restores into somebody's tree, who puts other things there meanwhile: nothing is his by it.

The swaps are made at the very step that they would harm, and once by a process as fast as it can.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.restore.links import LinkGroups
from ibtfs.actions.restore.run import Overwrite
from ibtfs.errors import UsageError
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from tests.support.repositories import back_up, put_back, the_point
from tests.support.trees import Directory, Fifo, File, Hardlink, Symlink, make_tree

ALWAYS, IF_CHANGED, NEVER = Overwrite.ALWAYS, Overwrite.IF_CHANGED, Overwrite.NEVER
HE = 4242
TIME = 10**18
LINKED = {
    "d": Directory(uid=HE, gid=HE, children={"a": File(b"his", uid=HE, gid=HE, mtime_ns=TIME)}),
    "e": Directory(uid=HE, gid=HE, children={"b": Hardlink("d/a")}),
}

SWAPPER = """
import os, sys
folder, moved, secret = sys.argv[1:]
sys.stdin.readline()
os.write(1, b".")
while True:
    os.rename(folder, moved)
    os.symlink(secret, folder)
    os.unlink(folder)
    os.rename(moved, folder)
"""
"""The folder is there, or a link to the secret, or for a moment nothing."""


def his(path: Path) -> Path:
    """*path* and all below it, his."""
    for one in (path, *path.rglob("*")):
        os.chown(one, HE, HE, follow_symlinks=False)
    return path


def what_it_is(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_ino, found.st_nlink)


def all_of(path: Path) -> dict[str, tuple[int, ...]]:
    """A secret folder, with what is in it."""
    return {str(one): what_it_is(one) for one in (path, *sorted(path.rglob("*")))}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder of root's."""
    secret = tmp_path / "secret"
    make_tree(secret, {"a": File(b"secret", mode=0o600), "sub": Directory(mode=0o700)})
    secret.chmod(0o700)
    return secret


def once(change: Callable[[], object]) -> Callable[[], None]:
    waiting = [change]

    def run() -> None:
        while waiting:
            waiting.pop()()

    return run


def before_links(patch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Run *change* when a place to link to is known, before the link is made."""
    real, swap = LinkGroups.first, once(change)

    def first(self: LinkGroups, entry: Any) -> Any:
        found = real(self, entry)
        if found is not None:
            swap()
        return found

    patch.setattr(LinkGroups, "first", first)


def linked_point(repository: Repository, tmp_path: Path) -> tuple[Point, Path]:
    """A point of two links, and an older state of the tree, which is his."""
    make_tree(tmp_path / "source", LINKED)
    point = the_point(back_up(repository, tmp_path / "source"))
    out = tmp_path / "out"
    make_tree(out, {"d": {"a": b"older"}, "e": {"b": b"older"}})
    return point, his(out)


@pytest.mark.parametrize("overwrite", [ALWAYS, IF_CHANGED])
def test_a_folder_swapped_for_a_link_leads_no_hard_link_to_a_secret(
    tmp_path: Path, repository: Repository, secret: Path, monkeypatch: pytest.MonkeyPatch,
    overwrite: Overwrite,
) -> None:  # fmt: skip
    point, out = linked_point(repository, tmp_path)
    before = all_of(secret)

    def swap() -> None:
        os.rename(out / "d", out / "moved")
        os.symlink(secret, out / "d")

    before_links(monkeypatch, swap)
    told = put_back(repository, point, out, overwrite=overwrite)
    assert (out / "d").is_symlink(), "the swap never came"
    assert all_of(secret) == before
    assert (out / "e/b").read_bytes() == b"his"
    assert [path for path, message in told.problems if "hard links" in message] == [b"e/b"]


def test_a_file_swapped_for_a_link_of_a_secret_is_not_linked_to(
    tmp_path: Path, repository: Repository, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point, out = linked_point(repository, tmp_path)

    def swap() -> None:
        os.unlink(out / "d/a")
        os.link(secret / "a", out / "d/a")

    before_links(monkeypatch, swap)
    told = put_back(repository, point, out, overwrite=ALWAYS)
    assert what_it_is(secret / "a")[:3] == (0, 0, 0o600)
    assert (secret / "a").stat().st_nlink == 2, "one link is his own"
    assert (out / "e/b").read_bytes() == b"his"
    assert [path for path, message in told.problems if "replaced" in message] == [b"e/b"]


def test_folders_swapped_as_fast_as_can_be_lead_nowhere(
    tmp_path: Path, repository: Repository, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:03}" for number in range(400)]
    make_tree(tmp_path / "source", {
        "d": dict.fromkeys(names, b"his"),
        "e": {name: Hardlink(f"d/{name}") for name in names},
    })  # fmt: skip
    point = the_point(back_up(repository, tmp_path / "source"))
    out = tmp_path / "out"
    make_tree(out, {"d": {}, "e": {}})
    his(out)
    for name in names:
        (secret / name).write_bytes(b"secret")
    before = all_of(secret)
    words: list[str | Path] = [sys.executable, "-c", SWAPPER, out / "d", out / "moved", secret]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdin
        assert swapper.stdout
        pipes = swapper.stdin, swapper.stdout

        def begin() -> None:
            os.write(pipes[0].fileno(), b"\n")
            assert os.read(pipes[1].fileno(), 1), "it swaps now"

        before_links(monkeypatch, begin)
        put_back(repository, point, out, overwrite=ALWAYS)
        swapper.kill()
    assert all_of(secret) == before


def test_a_symbolic_link_swapped_for_a_secret_does_not_give_it_away(
    tmp_path: Path, repository: Repository, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path / "source", {"link": Symlink("x", uid=HE, gid=HE)})
    point = the_point(back_up(repository, tmp_path / "source"))
    out = tmp_path / "out"
    make_tree(out, {})
    his(out)
    real = os.symlink

    def symlink(target: bytes, name: bytes, *, dir_fd: int) -> None:
        real(target, name, dir_fd=dir_fd)
        os.unlink(name, dir_fd=dir_fd)
        os.link(secret / "a", name, dst_dir_fd=dir_fd)

    monkeypatch.setattr(os, "symlink", symlink)
    told = put_back(repository, point, out, overwrite=ALWAYS)
    assert what_it_is(secret / "a")[:3] == (0, 0, 0o600)
    assert [path for path, _ in told.problems] == [b"link"]


def test_a_fifo_swapped_for_one_of_roots_does_not_give_it_away(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path / "source", {"pipe": Fifo(mode=0o666, uid=HE, gid=HE)})
    point = the_point(back_up(repository, tmp_path / "source"))
    out = tmp_path / "out"
    make_tree(out, {})
    his(out)
    make_tree(out, {"roots": Fifo(mode=0o600, mtime_ns=TIME)})
    real = os.mknod

    def mknod(name: bytes, mode: int, device: int, *, dir_fd: int) -> None:
        real(name, mode, device, dir_fd=dir_fd)
        os.rename(out / "roots", name, dst_dir_fd=dir_fd)

    monkeypatch.setattr(os, "mknod", mknod)
    told = put_back(repository, point, out, overwrite=ALWAYS)
    assert what_it_is(out / "pipe")[:3] == (0, 0, 0o600)
    assert [path for path, _ in told.problems] == [b"pipe"]


# The destination itself


@pytest.fixture
def point(repository: Repository, tmp_path: Path) -> Point:
    """A point of a folder of his."""
    make_tree(tmp_path / "source", {"a": File(b"planted", uid=HE), "sub": Directory(uid=HE)})
    os.chown(tmp_path / "source", HE, HE)
    return the_point(back_up(repository, tmp_path / "source"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """His own folder."""
    home = tmp_path / "home"
    home.mkdir()
    return his(home)


def his_link(path: Path, target: Path) -> Path:
    os.symlink(target, path)
    os.chown(path, HE, HE, follow_symlinks=False)
    return path


@pytest.mark.parametrize("below", ["", "sub", "new/folder"])
def test_his_link_leads_to_no_folder_of_roots(
    repository: Repository, point: Point, home: Path, secret: Path, below: str
) -> None:
    link, before = his_link(home / "dest", secret), all_of(secret)
    for paths in ((), (b"a",)):
        for overwrite in (ALWAYS, IF_CHANGED, NEVER):
            with pytest.raises(UsageError, match=r"link of user 4242 .* folder of user 0"):
                put_back(repository, point, link / below, *paths, overwrite=overwrite)
    assert all_of(secret) == before


def test_a_link_of_roots_in_his_folder_leads_to_no_folder_of_roots(
    repository: Repository, point: Point, home: Path, secret: Path
) -> None:
    """He may have renamed it to what the restore is told."""
    os.symlink(secret, home / "dest")
    before = all_of(secret)
    with pytest.raises(UsageError, match="name that folder itself"):
        put_back(repository, point, home / "dest", overwrite=ALWAYS)
    assert all_of(secret) == before


def test_links_that_nobody_else_could_make_and_his_own_to_his_own_are_followed(
    repository: Repository, point: Point, home: Path, tmp_path: Path
) -> None:
    (home / "mine").mkdir()
    his(home)
    make_tree(tmp_path, {"links": {"up": Symlink("../links/again"), "again": Symlink("..")}})
    for dest in (tmp_path / "links/up/here", his_link(home / "dest", home / "mine")):
        assert put_back(repository, point, dest).problems == []
        assert (dest / "a").read_bytes() == b"planted"


def test_a_link_that_leads_nowhere_or_in_a_circle_is_no_folder(
    repository: Repository, point: Point, tmp_path: Path
) -> None:
    make_tree(tmp_path, {"links": {"to": Symlink("nowhere"), "round": Symlink("round")}})
    for name in ("to", "round", "to/more", "round/more"):
        with pytest.raises(UsageError, match="is not a folder"):
            put_back(repository, point, tmp_path / "links" / name)


def after_listing(patch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Run *change* once a folder was found to be empty."""
    real, swap = os.listdir, once(change)

    def listdir(folder: Any) -> Any:
        found = real(folder)
        swap()
        return found

    patch.setattr(os, "listdir", listdir)


def test_a_destination_swapped_once_it_was_listed_is_still_the_same(
    repository: Repository, point: Point, home: Path, secret: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (home / "empty").mkdir()
    his(home)
    link, before = his_link(home / "dest", home / "empty"), all_of(secret)

    def swap() -> None:
        os.unlink(link)
        os.symlink(secret, link)

    after_listing(monkeypatch, swap)
    assert put_back(repository, point, link).problems == []
    assert link.resolve() == secret, "the swap never came"
    assert all_of(secret) == before
    assert (home / "empty/a").read_bytes() == b"planted"


def test_a_new_destination_swapped_when_it_is_made_is_refused(
    repository: Repository, point: Point, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(home, {"secret": {"a": File(b"secret", mode=0o600)}})
    before = all_of(home / "secret").values()
    real = os.mkdir

    def mkdir(name: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(name, mode, dir_fd=dir_fd)
        if name == b"dest":
            os.rename(home / "dest", home / "moved")
            os.rename(home / "secret", home / "dest")

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(UsageError, match="not empty"):
        put_back(repository, point, home / "dest")
    assert list(all_of(home / "dest").values()) == list(before)


@pytest.mark.parametrize("overwrite", [ALWAYS, IF_CHANGED, NEVER])
def test_a_folder_of_roots_in_his_is_not_given_to_him(
    repository: Repository, point: Point, home: Path, overwrite: Overwrite
) -> None:
    """He may have renamed it: it lies in his folder, though he cannot look into it."""
    inside = {"secret": File(b"secret", mode=0o600)}
    make_tree(home, {"dest": Directory(mode=0o700, children=inside),
                     "his": {"sub": Directory(mode=0o700, children=inside)}})  # fmt: skip
    os.chown(home / "his", HE, HE)
    for dest, kept in ((home / "dest", b"."), (home / "his", b"sub")):
        told = put_back(repository, point, dest, overwrite=overwrite)
        assert [path for path, _ in told.problems] == [kept]
        assert "belongs to user 0, in a folder of user 4242" in told.problems[0][1]
        folder = dest / os.fsdecode(kept)
        assert what_it_is(folder)[:3] == (0, 0, 0o700)
        assert what_it_is(folder / "secret")[:3] == (0, 0, 0o600)
        assert (dest / "a").read_bytes() == b"planted"


def test_an_empty_folder_of_roots_in_his_becomes_his(
    repository: Repository, point: Point, home: Path
) -> None:
    (home / "dest").mkdir()
    assert put_back(repository, point, home / "dest").problems == []
    assert (home / "dest").stat().st_uid == HE


def test_a_new_folder_swapped_for_one_of_roots_is_not_given_to_him(
    repository: Repository, point: Point, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(home, {"secret": Directory(mode=0o700, children={"x": b"secret"})})
    (home / "secret").chmod(0o700)
    real = os.mkdir

    def mkdir(name: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(name, mode, dir_fd=dir_fd)
        if name == b"sub":
            os.rename(home / "sub", home / "moved")
            os.rename(home / "secret", home / "sub")

    monkeypatch.setattr(os, "mkdir", mkdir)
    told = put_back(repository, point, home, overwrite=ALWAYS)
    assert what_it_is(home / "sub")[:3] == (0, 0, 0o700)
    assert [path for path, _ in told.problems] == [b"sub"]


def test_a_file_of_roots_that_looks_like_his_is_replaced_not_given(
    repository: Repository, tmp_path: Path, home: Path
) -> None:
    """Size and time, by which a file is known to stay, are those that he wanted them to be."""
    make_tree(tmp_path / "source", {"a": File(b"public", uid=HE, gid=HE, mtime_ns=TIME)})
    point = the_point(back_up(repository, tmp_path / "source"))
    make_tree(home, {"a": File(b"secret", mode=0o600, mtime_ns=TIME)})
    number = (home / "a").stat().st_ino
    with (home / "a").open("rb") as secret:
        assert put_back(repository, point, home, overwrite=IF_CHANGED).problems == []
        assert os.fstat(secret.fileno()).st_uid == 0
    assert (home / "a").read_bytes() == b"public"
    assert (home / "a").stat().st_ino != number


def test_owners_in_roots_own_tree_are_mended_without_copying(
    repository: Repository, point: Point, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    put_back(repository, point, out)
    numbers = [(out / name).stat().st_ino for name in ("a", "sub")]
    make_tree(out / "sub", {"more": b""})
    for name in (".", "a", "sub"):
        os.chown(out / name, 0, 0)
    assert put_back(repository, point, out, overwrite=IF_CHANGED).problems == []
    assert [(out / name).stat().st_uid for name in (".", "a", "sub")] == [HE] * 3
    assert [(out / name).stat().st_ino for name in ("a", "sub")] == numbers
