"""apply_diff: a diff applied to another copy of the tree, interrupted, and refused."""

from __future__ import annotations

import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtfs.errors import EntryNotFound, FormatDamaged, IbtfsError, SourceError
from ibtfs.format.rdelta import MAGIC
from ibtfs.toolkit import DiffData, DiffIndex, DirIndex, SigVault, WrongBase, apply_diff
from ibtfs.toolkit import apply as apply_module
from ibtfs.toolkit.apply import PART
from tests.support import differences, snapshot
from tests.support.histories import History
from tests.support.realdata import mixed
from tests.support.toolkit import MIB, bytes_of, copy, same_trees, stored, vault_of
from tests.support.trees import Directory, Fifo, File, Hardlink, Symlink, make_tree

# apply_diff


def replay(source: Path, base: Path, work: Path, old: DirIndex, *, live: bool) -> DirIndex:
    """Carry what changed in *source* since *old* over to *base*; the new state."""
    new = DirIndex(source, known=old)
    diff = DiffIndex(new, old)
    with SigVault.open(work / "sigs") as vault:
        if live:
            apply_diff(base, diff, DiffData(diff, vault))
        else:
            DiffData(diff, vault).save(work / "data")
            with DiffData.open(work / "data") as data:
                apply_diff(base, DiffIndex.from_bytes(diff.to_bytes()), data)
            (work / "data").unlink()
    (work / "sigs").unlink()
    vault_of(work / "sigs", new)
    return stored(new)


def random_replay(root: Path, rng: random.Random, steps: int) -> None:
    source, base = root / "source", root / "base"
    history = History(source, rng, max_bytes=MIB, max_entries=40)
    old = stored(DirIndex(source))
    vault_of(root / "sigs", old)
    copy(source, base)
    for step in range(steps):
        history.step()
        old = replay(source, base, root, old, live=bool(step % 2))
        assert same_trees(source, base) == [], history.log
        assert DiffIndex(old, DirIndex(base)).is_empty


@pytest.mark.parametrize("seed", range(6))
def test_random_histories(seed: int, tmp_path: Path) -> None:
    random_replay(tmp_path, random.Random(seed), steps=8)


@settings(max_examples=20, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_random_histories_that_shrink(
    tmp_path_factory: pytest.TempPathFactory, rng: random.Random
) -> None:
    root = tmp_path_factory.mktemp("history")
    random_replay(root, rng, steps=3)
    shutil.rmtree(root)


def hard_case(source: Path) -> None:
    """The old tree of a change in which everything is in the way of something."""
    make_tree(source, {
        "into": b"into itself" * 50, "out": {"of": b"out of itself" * 50}, "a": mixed(1, 40_000),
        "b": mixed(2, 40_000), "one": b"linked" * 9, "two": Hardlink("one"),
        "x": {"y": {"z": b"z"}}, "far": b"far" * 50, "gone": {"deep": {"file": b"gone"}},
        "link": Symlink("a"), "dev": Fifo(), "m": File(b"m", mode=0o644),
        "kept": Directory({"same1": b"same"}, mode=0o750, mtime_ns=10**18 + 1),
        "same2": Hardlink("kept/same1"),
    })  # fmt: skip


def change_hard_case(source: Path) -> None:
    (source / "into").rename(source / "t")
    (source / "into").mkdir()
    (source / "t").rename(source / "into" / "into")
    (source / "out" / "of").rename(source / "t")
    (source / "out").rmdir()
    (source / "t").rename(source / "out")
    (source / "a").rename(source / "t")
    (source / "b").rename(source / "a")
    (source / "t").rename(source / "b")
    (source / "one").rename(source / "three")
    shutil.copy2(source / "three", source / "t")
    (source / "t").rename(source / "three")
    os.utime(source / "three", ns=(5, 5))
    shutil.rmtree(source / "x")
    (source / "x").symlink_to("link")
    (source / "n" / "e" / "w").mkdir(parents=True)
    (source / "far").rename(source / "n" / "e" / "w" / "near")
    shutil.rmtree(source / "gone")
    (source / "link").unlink()
    (source / "link").mkdir()
    (source / "link" / "file").write_bytes(b"in a folder")
    (source / "dev").unlink()
    (source / "dev").write_bytes(b"a file now")
    (source / "m").chmod(0o4711)
    shutil.copy2(source / "same2", source / "t")
    (source / "t").rename(source / "kept" / "same1")
    os.utime(source / "kept" / "same1", ns=(7, 7))
    os.utime(source / "kept", ns=(10**18, 10**18 + 1))
    os.utime(source, ns=(10**18, 10**18 + 3))


@pytest.fixture
def hard(fast_path: Path) -> tuple[DiffIndex, Path, Path]:
    """The diff of the hard case, its new tree, a copy of its old one; "sigs" and "data" beside."""
    source = fast_path / "source"
    hard_case(source)
    old = stored(DirIndex(source))
    vault_of(fast_path / "sigs", old)
    base = copy(source, fast_path / "base")
    change_hard_case(source)
    diff = DiffIndex(DirIndex(source), old)
    with SigVault.open(fast_path / "sigs") as vault:
        DiffData(diff, vault).save(fast_path / "data")
    return diff, source, base


def test_everything_in_the_way_of_something(
    hard: tuple[DiffIndex, Path, Path], fast_path: Path
) -> None:
    diff, source, base = hard
    with SigVault.open(fast_path / "sigs") as vault:
        apply_diff(base, diff, DiffData(diff, vault))
        assert same_trees(source, base) == []
        before = snapshot(base)
        inodes = {path: os.lstat(base / path).st_ino for path in ("a", "out", "three", "dev")}
        apply_diff(base, diff, DiffData(diff, vault))  # nothing is left to be done
    assert differences(before, snapshot(base)) == []
    assert inodes == {path: os.lstat(base / path).st_ino for path in inodes}


def test_interrupted_at_every_step(hard: tuple[DiffIndex, Path, Path], fast_path: Path) -> None:
    """A process that dies before any change of the disk; the same call goes on."""
    diff, source, base = hard
    olds, news = bytes_of(base), bytes_of(source)
    left = step = 0
    while True:
        work = copy(base, fast_path / "work")
        died = in_a_child(lambda: killed_at(step, work, diff, fast_path / "data"))
        for path, data in bytes_of(work).items():
            assert path.endswith(PART) or data in (olds.get(path), news.get(path)), (step, path)
        left += any(path.endswith(PART) for path in bytes_of(work))
        with DiffData.open(fast_path / "data") as data:
            apply_diff(work, diff, data)
        assert same_trees(source, work) == [], step
        shutil.rmtree(work)
        if not died:
            break
        step += 1
    assert step > 50
    assert left > 5  # so leftovers are met


CHANGES = ("rename", "unlink", "mkdir", "rmdir", "symlink", "mknod", "fsync", "utime", "chmod")


def killed_at(step: int, base: Path, diff: DiffIndex, file: Path) -> None:
    """Apply, and end the process before change number *step*."""
    waiting = [step]

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **options: object) -> object:
            if not waiting[0]:
                os._exit(9)
            waiting[0] -= 1
            return change(*args, **options)

        return wrapped

    for name in CHANGES:
        setattr(apply_module.os, name, counted(getattr(os, name)))
    with DiffData.open(file) as data:
        apply_diff(base, diff, data)


def in_a_child(work: Callable[[], None]) -> bool:
    """Whether *work*, done in a process of its own, was cut off."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def simple(source: Path, tmp_path: Path) -> tuple[DiffIndex, Path]:
    """A diff with one of each, and its base."""
    make_tree(source, {"up": b"12345", "gone": b"gone", "moves": b"moves", "sub": {"s": b"s"}})
    old = stored(DirIndex(source))
    base = copy(source, tmp_path / "base")
    (source / "up").write_bytes(b"54321")
    (source / "gone").unlink()
    (source / "moves").rename(source / "moved")
    (source / "sub" / "new").write_bytes(b"new")
    return DiffIndex(DirIndex(source), old), base


DISTURBANCES: dict[str, Callable[[Path], object]] = {
    "updated has another size": lambda base: (base / "up").write_bytes(b"123456"),
    "gone has another size": lambda base: (base / "gone").write_bytes(b"precious"),
    "gone is a folder": lambda base: [(base / "gone").unlink(), (base / "gone").mkdir()],
    "something is where a file is to be": lambda base: (base / "sub/new").write_bytes(b"mine"),
    "a folder is where a file is to be": lambda base: (base / "moved").mkdir(),
    "a folder is a link": lambda base: [
        (base / "sub").rename(base / "other"), (base / "sub").symlink_to("other"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", DISTURBANCES)
def test_another_tree_is_left_alone(kind: str, source: Path, tmp_path: Path) -> None:
    diff, base = simple(source, tmp_path)
    DISTURBANCES[kind](base)
    before = snapshot(base, skip_ctime=False)
    with pytest.raises(WrongBase):
        apply_diff(base, diff, DiffData(diff))
    assert differences(before, snapshot(base, skip_ctime=False)) == []


@pytest.mark.parametrize("path", ["up", "moves"])
@pytest.mark.parametrize("gone", [True, False])
def test_other_bytes_of_the_same_size_are_not_built_upon(
    path: str, gone: bool, source: Path, tmp_path: Path
) -> None:
    diff, base = simple(source, tmp_path)
    (base / path).write_bytes(b"OTHER")
    if gone:
        (base / path).unlink()
    with pytest.raises(WrongBase, match=path):
        apply_diff(base, diff, DiffData(diff))
    assert gone or (base / path).read_bytes() == b"OTHER"


@pytest.mark.parametrize("path", [b"up", b"sub/new"])
def test_wrong_bytes_never_come_into_place(path: bytes, source: Path, tmp_path: Path) -> None:
    diff, base = simple(source, tmp_path)
    good = DiffData(diff)

    class Wrong:
        def pieces(self, asked: bytes) -> Iterator[object]:
            return iter([b"wrong"]) if asked == path else good.pieces(asked)

    with pytest.raises(FormatDamaged):
        apply_diff(base, diff, Wrong())  # type: ignore[arg-type]
    assert (base / "up").read_bytes() in (b"12345", b"54321")
    assert not (base / "sub/new").exists() or path == b"up"
    assert [p for p in base.rglob("*") if p.name == os.fsdecode(PART)] == []
    apply_diff(base, diff, good)
    assert same_trees(source, base) == []


def test_data_of_another_diff(source: Path, tmp_path: Path) -> None:
    diff, base = simple(source, tmp_path)
    DiffData(DiffIndex(diff.old, diff.old)).save(tmp_path / "none")
    with DiffData.open(tmp_path / "none") as data, pytest.raises(EntryNotFound):
        apply_diff(base, diff, data)


def test_a_base_that_is_not_there(source: Path, tmp_path: Path) -> None:
    diff, _ = simple(source, tmp_path)
    with pytest.raises(SourceError):
        apply_diff(tmp_path / "missing", diff, DiffData(diff))


def test_links_do_not_lead_the_application_elsewhere(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"sub": {"file": b"1"}})
    old = stored(DirIndex(source))
    (source / "sub" / "file").write_bytes(b"2")
    diff = DiffIndex(DirIndex(source), old)
    base, outside = tmp_path / "base", tmp_path / "outside"
    make_tree(outside, {"file": b"1"})
    make_tree(base, {"sub": Symlink(os.fsencode(outside))})
    with pytest.raises(IbtfsError):
        apply_diff(base, diff, DiffData(diff))
    assert (outside / "file").read_bytes() == b"1"


# What others put in the way, and data that were made to harm


def swapped(base: Path, secret: Path, *, hard: bool) -> None:
    """What the owner of *base* may do at any moment: something else in place of what was made."""
    for name in (os.fsdecode(PART), "it"):
        if os.path.lexists(base / name) and os.lstat(base / name).st_ino != secret.stat().st_ino:
            (base / name).unlink()
            (base / name).hardlink_to(secret) if hard else (base / name).symlink_to(secret)


@pytest.mark.parametrize(
    ("call", "hard"),
    [("mknod", True), ("mknod", False), ("chown", True), ("chown", False), ("symlink", True)],
)
def test_what_is_swapped_meanwhile_gives_no_other_file_away(
    call: str, hard: bool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, secret = tmp_path / "base", tmp_path / "secret"
    made = Symlink("nowhere", uid=1234, gid=1234) if call == "symlink" else Fifo(mode=0o666)
    make_tree(source, {"stays": b""})
    old = stored(DirIndex(source))
    copy(source, base)
    make_tree(source, {"it": made})
    os.lchown(source / "it", 1234, 1234)
    secret.write_bytes(b"secret")
    secret.chmod(0o600)
    diff, real = DiffIndex(DirIndex(source), old), getattr(os, call)

    def swapping(*args: object, **options: object) -> None:
        real(*args, **options)
        monkeypatch.undo()
        swapped(base, secret, hard=hard)

    monkeypatch.setattr(apply_module.os, call, swapping)
    with suppress(IbtfsError):
        apply_diff(base, diff, DiffData(diff))
    found = secret.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, 0, 0o600)


class Endless:
    """Data that never end, or a delta that makes more than the file is to have."""

    def __init__(self, piece: bytes) -> None:
        self._piece, self.given = piece, 0

    def pieces(self, path: bytes) -> Iterator[bytes]:
        yield MAGIC if path == b"up" else b""
        while True:
            self.given += 1
            yield self._piece


@pytest.mark.parametrize("path", ["up", "new"])
@pytest.mark.parametrize("piece", [b"\x40" + b"x" * 64, b"\x45\x00\x05"])
def test_data_that_are_more_than_the_new_file_are_refused_at_once(
    path: str, piece: bytes, source: Path, tmp_path: Path
) -> None:
    make_tree(source, {"up": b"12345"})
    old = stored(DirIndex(source))
    base = copy(source, tmp_path / "base")
    (source / path).write_bytes(b"new bytes of a file")
    diff, data = DiffIndex(DirIndex(source), old), Endless(piece)

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        with pytest.raises(FormatDamaged, match="more bytes than the new file"):
            apply_diff(base, diff, data)
        assert data.given < 100

    assert not in_a_child(bounded)
    assert sorted(os.listdir(base)) == ["up"]
    assert (base / "up").read_bytes() == b"12345"
