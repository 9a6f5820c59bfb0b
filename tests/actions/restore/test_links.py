"""Hard links: at the end of long paths, more than the file system takes, links of links."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from ibtfs.actions.restore.run import Overwrite
from ibtfs.store.repository import Repository
from tests.actions.restore.conftest import Disk
from tests.support import differences, snapshot
from tests.support.repositories import back_up, put_back, the_point
from tests.support.trees import Fifo, Hardlink, Symlink, make_tree

LIMIT = 65_000
"""Links that ext4 takes to one file."""


def descend(top: Path, depth: int, *, make: bool) -> int:
    """The folder *depth* names of 250 bytes below *top*."""
    at = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        if make:
            os.mkdir("n" * 250, dir_fd=at)
        below = os.open("n" * 250, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    return at


def test_links_at_the_end_of_a_path_longer_than_the_system_takes(
    tmp_path: Path, repository: Repository
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    deep = descend(source, 18, make=True)
    os.close(os.open("a", os.O_WRONLY | os.O_CREAT, dir_fd=deep))
    os.symlink("x", "s", dir_fd=deep)
    for old, new in (("a", "b"), ("s", "t")):
        os.link(old, new, src_dir_fd=deep, dst_dir_fd=deep, follow_symlinks=False)
    os.link("a", source / "top", src_dir_fd=deep)
    os.close(deep)
    told = put_back(repository, the_point(back_up(repository, source)), out)
    assert (told.problems, told.notes) == ([], [])
    deep = descend(out, 18, make=False)
    numbers = {name: os.lstat(name, dir_fd=deep).st_ino for name in "abst"}
    os.close(deep)
    assert numbers["a"] == numbers["b"] == (out / "top").stat().st_ino
    assert numbers["s"] == numbers["t"] != numbers["a"]


def test_links_of_all_kinds_over_what_is_there(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {
        "d": {"file": b"1", "link": Symlink("nowhere"), "pipe": Fifo()},
        "e": {"file": Hardlink("d/file"), "link": Hardlink("d/link"), "pipe": Hardlink("d/pipe")},
        "f": {"file": Hardlink("d/file"), "link": Hardlink("d/link"), "pipe": Hardlink("d/pipe")},
    })  # fmt: skip
    point = the_point(back_up(repository, tmp_path / "source"))
    out = tmp_path / "out"
    assert put_back(repository, point, out).problems == []
    (out / "e/file").unlink()
    make_tree(out / "e", {"file": b"2"})
    (out / "f/pipe").unlink()
    for overwrite in (Overwrite.IF_CHANGED, Overwrite.ALWAYS):
        assert put_back(repository, point, out, overwrite=overwrite).problems == []
        assert differences(snapshot(tmp_path / "source"), snapshot(out)) == []


def test_more_links_than_a_file_system_takes_share_a_second_file_and_are_told(
    fast_path: Path, ext4: Disk
) -> None:
    source = fast_path / "source"
    source.mkdir()
    (source / "00000").write_bytes(b"1")
    for number in range(1, LIMIT + 40):
        os.link(source / "00000", source / f"{number:05}")
    repository = Repository.create(os.fsencode(fast_path / "repository"), os.urandom(16))
    point = the_point(back_up(repository, source))
    out = ext4() / "out"
    told = put_back(repository, point, out)
    counts = Counter(entry.inode() for entry in os.scandir(out))
    assert sorted(counts.values()) == [40, LIMIT]
    assert [path for path, _ in told.problems] == [b"%05d" % LIMIT]
    assert "takes no more links to one file; those after it share another" in told.problems[0][1]
