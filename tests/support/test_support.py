"""The model itself: a difference that it does not notice would let every other test pass."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import Entry, differences, realdata, snapshot
from tests.support.histories import History
from tests.support.spreading import unit_of
from tests.support.trees import (
    AFTER_2106,
    BEFORE_1970,
    Directory,
    Fifo,
    File,
    Hardlink,
    Socket,
    Sparse,
    Symlink,
    make_tree,
    nasty_tree,
    posix_acl,
)

TREE = {
    "file": File(b"content", mode=0o644, xattrs={"user.a": b"1"}),
    "other": b"content",
    "sub": Directory({"deep": b"x", "empty": {}}, mode=0o755),
    "link": Symlink("file"),
    "one": b"shared",
    "two": Hardlink("one"),
    "fifo": Fifo(),
    "sparse": Sparse(1 << 20, {500_000: b"x" * 200_000}),
}
ALSO = ("blocks", "directory_size")
USER, GROUP, MASK, OTHER, NAMED = 0x01, 0x04, 0x10, 0x20, 0x02
NONE = 0xFFFFFFFF


def fields(lines: list[str]) -> set[str]:
    """Return what the lines say: "path field" for each."""
    told = [line.split(": ") for line in lines]
    return {f"{path[2:-1]} {what}" for path, what, *_ in told}


def rewrite_quietly(root: Path) -> None:
    path, before = root / "file", (root / "file").stat()
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def retype(root: Path) -> None:
    (root / "other").unlink()
    (root / "other").mkdir()


def break_link(root: Path) -> None:
    before = (root / "two").stat()
    (root / "two").unlink()
    (root / "two").write_bytes(b"shared")
    (root / "two").chmod(before.st_mode & 0o7777)
    os.utime(root / "two", ns=(before.st_atime_ns, before.st_mtime_ns))


def later_by_a_nanosecond(path: Path) -> None:
    moment = path.lstat().st_mtime_ns + 1
    os.utime(path, ns=(moment, moment), follow_symlinks=False)


def relink(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("elsewhere")


def fill_hole(root: Path) -> None:
    with (root / "sparse").open("r+b") as file:
        file.write(bytes(100_000))


def give_acl(path: Path) -> None:
    acl = posix_acl((USER, 6, NONE), (NAMED, 4, 1), (GROUP, 4, NONE), (MASK, 4, NONE),
                    (OTHER, 4, NONE))  # fmt: skip
    os.setxattr(path, "system.posix_acl_access", acl)


CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "content": (rewrite_quietly, {"file sha256"}),
    "size": (lambda root: os.truncate(root / "file", 3), {"file size", "file sha256"}),
    "mtime": (lambda root: later_by_a_nanosecond(root / "file"), {"file mtime_ns"}),
    "mtime of a link": (lambda root: later_by_a_nanosecond(root / "link"), {"link mtime_ns"}),
    "mtime of a folder": (lambda root: later_by_a_nanosecond(root / "sub"), {"sub mtime_ns"}),
    "mtime of the root": (later_by_a_nanosecond, {" mtime_ns"}),
    "mode": (lambda root: (root / "file").chmod(0o4644), {"file mode"}),
    "mode of a folder": (lambda root: (root / "sub").chmod(0o1755), {"sub mode"}),
    "xattr": (lambda root: os.setxattr(root / "file", "user.a", b"2"), {"file xattrs"}),
    "empty xattr": (lambda root: os.setxattr(root / "sub", "user.b", b""), {"sub xattrs"}),
    "no xattr": (lambda root: os.removexattr(root / "file", "user.a"), {"file xattrs"}),
    "acl": (lambda root: give_acl(root / "file"), {"file xattrs"}),
    "target": (relink, {"link target", "link size"}),
    "type": (retype, {"other type"}),
    "missing": (lambda root: (root / "other").unlink(), {"other missing"}),
    "added": (lambda root: (root / "new").touch(), {"new not expected"}),
    "renamed": (lambda root: (root / "fifo").rename(root / "pipe"),
                {"fifo missing", "pipe not expected"}),
    "folder": (lambda root: (root / "sub/dir").mkdir(), {"sub/dir not expected", "sub nlink"}),
    "linked": (lambda root: os.link(root / "other", root / "more"),
               {"more not expected", "other nlink", "other links"}),
    "unlinked": (break_link, {"one nlink", "one links", "two nlink", "two links"}),
    "hole": (fill_hole, {"sparse blocks"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_on_disk_is_noticed(name: str, tmp_path: Path) -> None:
    change, expected = CHANGES[name]
    make_tree(tmp_path / "tree", TREE)
    before = snapshot(tmp_path / "tree")
    assert differences(before, snapshot(tmp_path / "tree"), also=ALSO) == []
    change(tmp_path / "tree")
    found = fields(differences(before, snapshot(tmp_path / "tree"), also=["blocks"]))
    assert expected <= found
    # besides, only what such a change brings with it: times, and nlink of the parent
    assert {line.split(" ")[-1] for line in found - expected} <= {"mtime_ns", "nlink"}


def test_owners_and_devices_are_noticed(tmp_path: Path) -> None:
    assert fields(differences(snapshot("/dev/null"), snapshot("/dev/zero"))) >= {" rdev"}
    mine, other = tmp_path / "mine", Path("/etc/passwd")  # root's
    make_tree(tmp_path, {"mine": b""})
    if os.geteuid() == 0:
        os.chown(mine, 1, 2)
    assert fields(differences(snapshot(mine), snapshot(other))) >= {" uid", " gid"}


SAMPLE = Entry(
    type="file", mode=0o644, uid=1, gid=2, size=1 << 20, mtime_ns=3, nlink=2, rdev=0, blocks=2048,
    target=None, sha256="00", xattrs={"user.a": b"1"}, links=frozenset({b"a", b"b"}), ctime_ns=4,
)  # fmt: skip
OTHER_VALUES = {
    "type": "fifo", "mode": 0o4644, "uid": 5, "gid": 5, "size": 5, "mtime_ns": 5, "nlink": 1,
    "rdev": 5, "blocks": 5, "target": b"5", "sha256": None, "xattrs": {"user.a": b"5"},
    "links": frozenset({b"a", b"c"}), "ctime_ns": 5,
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Entry)])
def test_every_field_counts_unless_ignored(name: str) -> None:
    changed = dataclasses.replace(SAMPLE, **{name: OTHER_VALUES[name]})
    lines = differences({b"a": SAMPLE}, {b"a": changed}, also=["blocks"])
    assert fields(lines) == {f"a {name}"}
    assert differences({b"a": SAMPLE}, {b"a": changed}, also=["blocks"], ignore=[name]) == []


def test_directories() -> None:
    one = dataclasses.replace(SAMPLE, type="directory", size=4096, blocks=8)
    other = dataclasses.replace(one, size=1 << 20, nlink=7, blocks=2048)
    assert fields(differences({b"": one}, {b"": other})) == {" nlink"}
    assert differences({b"": one}, {b"": other}, ignore=["directory_nlink"]) == []
    found = fields(differences({b"": one}, {b"": other}, also=["directory_size"]))
    assert found == {" nlink", " size", " blocks"}


def test_two_directories_with_one_inode_number_are_noticed() -> None:
    alone = dataclasses.replace(SAMPLE, type="directory", links=frozenset())
    assert differences({b"a": alone}, {b"a": dataclasses.replace(alone, links=SAMPLE.links)})


def test_fields_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mtime$"):
        differences({}, {}, ignore=["mtime"])
    with pytest.raises(ValueError, match="uid"):
        differences({}, {}, also=["uid"])


def test_the_list_is_bounded_and_says_so() -> None:
    lines = differences({b"%d" % n: SAMPLE for n in range(100)}, {}, limit=10)
    assert len(lines) == 11
    assert lines[-1] == "... and 90 more differences"


def test_without_contents_and_with_ctime(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", TREE)
    quick = snapshot(tmp_path / "tree", contents=False, skip_ctime=False)
    assert all(entry.sha256 is None and entry.ctime_ns for entry in quick.values())
    assert snapshot(os.fsencode(tmp_path / "tree/file"))[b""].size == 7


def test_make_tree_makes_what_it_is_told(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    make_tree(root, {**TREE, b"\xff": Socket(mode=0o600, mtime_ns=-5)})
    tree = snapshot(root)
    assert tree[b"file"].xattrs == {"user.a": b"1"}
    assert tree[b"one"].links == tree[b"two"].links == {b"one", b"two"}
    assert (tree[b"\xff"].type, tree[b"\xff"].mode, tree[b"\xff"].mtime_ns) == ("socket", 0o600, -5)
    assert tree[b"sparse"].blocks * 512 < 300_000
    with pytest.raises(FileExistsError):
        make_tree(root, TREE)


def test_nasty_tree_has_everything(tmp_path: Path) -> None:
    refused = nasty_tree(tmp_path / "nasty")
    tree = snapshot(tmp_path / "nasty")
    entries = tree.values()
    linked = {entry.type for entry in entries if entry.links}
    assert linked == {"file", "symlink", "fifo"}
    assert {BEFORE_1970, AFTER_2106} <= {entry.mtime_ns for entry in entries}
    assert b"names/" + b"n" * 255 in tree
    assert len(tree[b"symlinks/long"].target or b"") == 4000
    assert len(tree[b"xattrs/largest"].xattrs["user.largest"]) > 1024
    if os.geteuid() == 0:
        assert refused == []
        assert {"char", "block", "socket", "directory"} <= {entry.type for entry in entries}
        assert tree[b"xattrs/symlink"].xattrs == {"trusted.hidden": b"\x00\x01"}
        assert "security.capability" in tree[b"xattrs/capable"].xattrs
        assert {tree[b"modes/0000"].mode, tree[b"modes/dir 0000"].mode} == {0}


def test_nasty_tree_is_fixed_and_survives_cp(tmp_path: Path) -> None:
    nasty_tree(tmp_path / "one")
    nasty_tree(tmp_path / "two")
    subprocess.run(["cp", "-a", tmp_path / "one", tmp_path / "copy"], check=True)
    one, two, copy = (snapshot(tmp_path / name) for name in ("one", "two", "copy"))
    assert differences(one, two, ignore=["mtime_ns"]) == []
    assert differences(one, copy) == []


def test_a_history_repeats_itself_and_is_bounded(tmp_path: Path) -> None:
    ends = []
    for name in ("one", "two"):
        history = History(tmp_path / name, random.Random(4), max_bytes=2 << 20, max_entries=20)
        for _ in range(30):
            history.step()
            assert len(history.entries()) <= 20
            assert history.room() >= 0
        ends.append((history.log, snapshot(tmp_path / name)))
    assert ends[0][0] == ends[1][0]
    assert differences(ends[0][1], ends[1][1], ignore=["mtime_ns"]) == []


def test_histories_make_every_kind_of_change(tmp_path: Path) -> None:
    made: set[str] = set()
    changed = 0
    for seed in range(8):
        root = tmp_path / str(seed)
        history = History(root, random.Random(seed))
        for _ in range(10):
            before = snapshot(root)
            history.step()
            changed += bool(differences(before, snapshot(root)))
        made |= {line.split(":")[0] for line in history.log}
    assert changed > 40
    assert made >= {
        "edit", "edit_quietly", "splice", "append", "resize", "punch", "move", "move_over", "copy",
        "retype", "link", "unlink", "chmod", "chown", "utime", "set_xattr", "delete",
        "delete_subtree", "make_file", "make_directory", "make_special",
    } - ({"chown"} if os.geteuid() else set())  # fmt: skip


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(rng=st.randoms(use_true_random=False))
def test_hypothesis_can_drive_a_history(
    tmp_path_factory: pytest.TempPathFactory, rng: random.Random
) -> None:
    history = History(tmp_path_factory.mktemp("history"), rng, max_bytes=1 << 20)
    for _ in range(10):
        history.step()
    history.trim()
    assert history.room() >= 0


def test_real_data_in_small(tmp_path: Path) -> None:
    rng = random.Random(1)
    base, disk, log = (tmp_path / name for name in ("base", "disk", "log"))
    assert realdata.sqlite_database(base, rng, size=1 << 20) > 1000
    realdata.ext4_image(disk, size=16 << 20)
    realdata.growing_log(log, rng, size=10_000)
    before = snapshot(tmp_path)
    realdata.change_rows(base, rng, rows=50)
    realdata.change_inside(disk, rng, files=4)
    realdata.growing_log(log, rng, size=10_000)
    found = fields(differences(before, snapshot(tmp_path)))
    assert {"base sha256", "disk sha256", "log size"} <= found
    assert disk.stat().st_blocks * 512 < disk.stat().st_size
    subprocess.run([realdata._tool("e2fsck"), "-fn", disk], check=True, capture_output=True)


# How tests are spread


def test_tests_that_share_something_go_to_one_process() -> None:
    large = "tests/promises/test_large.py"
    assert unit_of(f"{large}::test_deltas_are_small") == large
    assert unit_of(f"{large}::test_a_random_read_touches_few_frames[0]") == large
    alone = "tests/format/test_frames.py::test_anything[a::b]"
    assert unit_of(alone) == alone
