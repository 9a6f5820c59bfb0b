"""The building blocks: indexes, diffs, deltas and vaults, applied to real trees; whole backups."""

from __future__ import annotations

import inspect
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import differences, snapshot
from support.histories import History
from support.realdata import mixed
from support.trees import Directory, Fifo, File, Hardlink, Socket, Sparse, Symlink, make_tree

from ibtfs.actions.source.filesystems import GRANULARITY_NS
from ibtfs.errors import (
    AmbiguousSource,
    EntryNotFound,
    FormatDamaged,
    IbtfsError,
    IntegrityError,
    NotAFile,
    NotARepository,
    NotFound,
    PointNotFound,
    SourceError,
    UnsupportedFormat,
    UsageError,
)
from ibtfs.format.entry import CTIME, SIZE
from ibtfs.format.frames import digest
from ibtfs.format.packing import pack, unpack
from ibtfs.format.rdelta import parse_delta
from ibtfs.format.rsync import make_signature
from ibtfs.store.repository import Repository
from ibtfs.toolkit import (
    DiffData,
    DiffIndex,
    DirIndex,
    SigVault,
    SigVaults,
    WrongBase,
    apply_diff,
    full_backup,
    incremental_backup,
    list_points,
    restore_backup,
)
from ibtfs.toolkit import apply as apply_module
from ibtfs.toolkit import data as data_module
from ibtfs.toolkit.apply import PART
from ibtfs.toolkit.vault import block_size

MIB = 1 << 20
NOT_KEPT = ("xattrs", "nlink", "links")
"""What a diff does not know; the docstring of the package says so."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


def settle() -> None:
    """Wait until what was changed last is older than the file system's granularity."""
    time.sleep(GRANULARITY_NS / 1e9 + 0.03)


def copy(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", "--", source, target], check=True)
    return target


def stored(index: DirIndex) -> DirIndex:
    return DirIndex.from_bytes(index.to_bytes())


def vault_of(file: Path, index: DirIndex) -> Path:
    with SigVault.create(file, index) as vault:
        vault.add_all(index.files)
    return file


def changes(diff: DiffIndex) -> dict[str, object]:
    """What a diff says, without what is empty; touched left out."""
    names = ("created", "updated", "deleted", "created_dirs", "deleted_dirs", "moved")
    found = {name: getattr(diff, name) for name in names}
    return {name: value for name, value in found.items() if value}


def same_trees(one: Path, other: Path) -> list[str]:
    return differences(snapshot(one), snapshot(other), ignore=NOT_KEPT)


# DirIndex


def test_an_index_tells_what_there_is(source: Path) -> None:
    make_tree(source, {
        "a": b"one", "empty": b"", b"caf\xe9\n": b"odd", "sub": {"b": b"two", "none": {}},
        "link": Symlink("a"), "fifo": Fifo(), "socket": Socket(), "sparse": Sparse(MIB, {7: b"x"}),
    })  # fmt: skip
    index = DirIndex(source)
    assert index.path == os.fsencode(source)
    assert index.files == [b"a", b"caf\xe9\n", b"empty", b"sparse", b"sub/b"]
    assert index.directories == [b"sub", b"sub/none"]
    assert list(index.rows) == sorted(index.rows)
    assert index.rows[b"link"].target == b"a"
    assert index.digest(b"sub/b") == digest(b"two")
    assert index.digest(b"empty") == digest(b"")
    assert index.digest(b"sparse") == digest(bytes(7) + b"x" + bytes(MIB - 8))
    with pytest.raises(EntryNotFound):
        index.digest(b"nothing")
    with pytest.raises(NotAFile):
        index.digest(b"sub")


def test_digests_are_read_when_they_are_asked_for(source: Path) -> None:
    make_tree(source, {"old": b"old"})
    settle()
    make_tree(source, {"young": b"young"})
    index = DirIndex(source)
    assert index.rows[b"old"].digest is None
    assert index.rows[b"young"].digest == digest(b"young")
    assert index.rows[b"young"].stamp[CTIME] == 0
    assert index.digest(b"old") == index.rows[b"old"].digest == digest(b"old")


def test_an_index_is_a_value(source: Path) -> None:
    make_tree(source, {"a": b"one", "sub": {"b": b"two"}, "link": Symlink(b"\xff")})
    os.utime(source / "a", ns=(0, -(10**9) - 1))
    index = DirIndex(source)
    again = stored(index)
    assert (again.path, again.rows) == (index.path, index.rows)
    assert again.data() == index.data()
    shutil.rmtree(source)
    assert again.digest(b"sub/b") == digest(b"two")


def test_digests_of_unchanged_files_are_taken_over(source: Path) -> None:
    make_tree(source, {"a": b"one", "b": b"two"})
    settle()
    known = stored(DirIndex(source))
    (source / "b").write_bytes(b"new")
    settle()
    assert DirIndex(source).rows[b"a"].digest is None
    index = DirIndex(source, known=known)
    assert index.rows[b"a"].digest == digest(b"one")
    assert index.rows[b"b"].digest is None
    assert index.digest(b"b") == digest(b"new")


def test_a_file_that_changed_since_it_was_indexed(source: Path) -> None:
    make_tree(source, {"a": b"one", "b": b"two", "c": b"three"})
    settle()
    index = DirIndex(source)
    (source / "a").write_bytes(b"ONE")
    (source / "b").unlink()
    for path in (b"a", b"b"):
        with pytest.raises(SourceError, match=r"^[ab]: "):
            index.digest(path)
    assert set(index.read_digests()) == {b"a", b"b"}
    assert {path for path, row in stored(index).rows.items() if row.digest} == {b"c"}


def test_a_file_that_changes_while_it_is_read(source: Path) -> None:
    (source / "a").write_bytes(bytes(3 * MIB))
    settle()
    index = DirIndex(source)
    pieces = index.pieces(b"a")
    next(pieces)
    with (source / "a").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(SourceError, match=r"^a: "):
        list(pieces)
    assert index.rows[b"a"].digest is None


def test_a_young_file_rewritten_within_one_tick(source: Path) -> None:
    (source / "a").write_bytes(b"before")
    old = DirIndex(source)
    stamp = os.stat(source / "a")
    (source / "a").write_bytes(b"after!")
    os.utime(source / "a", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert DiffIndex(DirIndex(source), old).updated == (b"a",)


def test_patterns_and_the_exclude_file(source: Path) -> None:
    make_tree(source, {
        ".exclude": b"*.o\n", "a.o": b"", "a.c": b"", "build": {"x.c": b""}, "keep": {"b.o": b""},
    })  # fmt: skip
    index = DirIndex(source, patterns=["/build/", "!b.o"])
    assert index.files == [b".exclude", b"a.c", b"keep/b.o"]
    with pytest.raises(UsageError):
        DirIndex(source, patterns=["oops\\"])


def test_what_cannot_be_indexed(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        DirIndex(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceError):
        DirIndex(tmp_path / "file")
    for wrong in (3, None, ["a"], object()):
        with pytest.raises(TypeError, match="neither a path nor a dirtools2 Dir"):
            DirIndex(wrong)  # type: ignore[arg-type]


def test_trees_deeper_than_the_interpreter_recurses(source: Path) -> None:
    path = source.joinpath(*["d"] * 300)
    path.mkdir(parents=True)
    (path / "file").touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        found = DirIndex(source).files
    finally:
        sys.setrecursionlimit(limit)
    assert found == [b"d/" * 300 + b"file"]


def test_damaged_indexes(source: Path) -> None:
    make_tree(source, {"a": b"one"})
    data = DirIndex(source).to_bytes()
    for wrong in (b"", b"\xc0", data[:-1], data[:-9] + b"?" + data[-8:], pack((1, 2, 3, 4))):
        with pytest.raises(FormatDamaged):
            DirIndex.from_bytes(wrong)
    with pytest.raises(FormatDamaged):
        DiffIndex.from_bytes(data)
    name, version, checksum, body = unpack(data, "index")
    with pytest.raises(UnsupportedFormat):
        DirIndex.from_bytes(pack((name, version + 1, checksum, body)))


@pytest.mark.parametrize(
    "path", [b"../a", b"/a", b"a/../b", b"a//b", b".", b"a/", b"a\0", b"n" * 256]
)
def test_paths_that_lead_out_of_the_directory_are_refused(path: bytes) -> None:
    mode = stat.S_IFREG | 0o644
    row = (path, mode, 0, 0, 0, 0, 0, 0, 1, None)
    with pytest.raises(FormatDamaged):
        DirIndex.from_data({"directory": b"/", "rows": [row]})


# dirtools2


def test_a_dir_decides_what_is_left_out(source: Path) -> None:
    from dirtools2.dirtools2 import Dir

    make_tree(source, {
        ".exclude": b"excluded_dir/\n*.pyc\n", "a.py": b"1", "a.pyc": b"2",
        ".git": {"config": b"3"}, "excluded_dir": {"sub": {"file": b"4"}},
        "dir1": {"b.py": b"5", "b.pyc": b"6", "empty": {}, "link": Symlink("b.py")},
    })  # fmt: skip
    directory = Dir(str(source), excludes=[".git/"])
    index = DirIndex(directory)
    assert [os.fsdecode(path) for path in index.files] == directory.files()
    assert index.files == [b".exclude", b"a.py", b"dir1/b.py"]
    assert index.directories == [b"dir1", b"dir1/empty"]
    assert b"dir1/link" in index.rows
    assert b"a.py" not in DirIndex(directory, patterns=["a.*"]).rows


def test_a_diff_of_a_dir_leaves_alone_what_it_excludes(source: Path, tmp_path: Path) -> None:
    from dirtools2.dirtools2 import Dir

    make_tree(source, {".exclude": b"*.pyc\n", "gone": {"a.py": b"1", "a.pyc": b"2"}, "x": b"3"})
    old = DirIndex(Dir(str(source), excludes=[]))
    base = copy(source, tmp_path / "base")
    shutil.rmtree(source / "gone")
    (source / "new.pyc").write_bytes(b"4")
    diff = DiffIndex(DirIndex(Dir(str(source), excludes=[])), old)
    assert changes(diff) == {"deleted": (b"gone/a.py",), "deleted_dirs": (b"gone",)}
    apply_diff(base, diff, DiffData(diff))
    assert sorted(p.name for p in base.rglob("*")) == [".exclude", "a.pyc", "gone", "x"]


def test_dirtools2_is_imported_for_dirs_only(source: Path) -> None:
    code = (
        "import sys; from ibtfs.toolkit import DirIndex; DirIndex(sys.argv[1]);"
        "sys.exit(any(name.startswith(('dirtools2', 'globster')) for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code, source], check=True)


# DiffIndex


def test_what_a_diff_tells(source: Path) -> None:
    make_tree(source, {
        "same": b"same", "edited": b"12345", "grown": b"1", "gone": b"gone", "mode": b"mode",
        "touched": b"touched", "dir": {"moved": b"moves", "stays": b"stays"}, "old": {"sub": {}},
        "link": Symlink("a"), "kind": b"kind", "up": b"up", "down": {"in": b"in"},
    })  # fmt: skip
    settle()
    old = stored(DirIndex(source))
    (source / "edited").write_bytes(b"54321")
    (source / "grown").write_bytes(b"12")
    (source / "gone").unlink()
    (source / "mode").chmod(0o600)
    os.utime(source / "touched", (1, 1))
    (source / "new" / "sub").mkdir(parents=True)
    (source / "dir" / "moved").rename(source / "new" / "sub" / "moved")
    shutil.rmtree(source / "old")
    (source / "link").unlink()
    (source / "link").symlink_to("b")
    (source / "kind").unlink()
    os.mkfifo(source / "kind")
    (source / "up").unlink()
    (source / "up").mkdir()
    shutil.rmtree(source / "down")
    (source / "down").write_bytes(b"down")
    diff = DiffIndex(DirIndex(source, known=old), old)
    for found in (diff, DiffIndex.from_bytes(diff.to_bytes())):
        assert changes(found) == {
            "created": (b"down",),
            "updated": (b"edited", b"grown", b"kind", b"link"),
            "deleted": (b"down/in", b"gone", b"up"),
            "created_dirs": (b"new", b"new/sub", b"up"),
            "deleted_dirs": (b"old/sub", b"old", b"down"),
            "moved": {b"new/sub/moved": b"dir/moved"},
        }
        assert found.touched == (b"", b"dir", b"mode", b"touched")


def test_two_copies_do_not_differ(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": b"one", "sub": {"b": b"two", "link": Symlink("a")}})
    diff = DiffIndex(DirIndex(copy(source, tmp_path / "copy")), DirIndex(source))
    assert diff.is_empty
    assert diff.paths == []


def test_moves_of_equal_files_keep_their_names(source: Path) -> None:
    make_tree(source, {"old": {"a": b"same", "b": b"same", "c": b"same"}, "e": b"", "x": b"same"})
    old = stored(DirIndex(source))
    (source / "old").rename(source / "new")
    (source / "e").rename(source / "f")
    (source / "x").rename(source / "y")
    (source / "new" / "d").write_bytes(b"same")
    diff = DiffIndex(DirIndex(source), old)
    assert diff.moved == {
        b"new/a": b"old/a", b"new/b": b"old/b", b"new/c": b"old/c", b"new/d": b"x",
    }  # fmt: skip
    assert (diff.created, diff.deleted) == ((b"f", b"y"), (b"e",))


def test_an_old_digest_that_was_never_read(source: Path) -> None:
    make_tree(source, {"a": b"one", "b": b"two"})
    settle()
    old = DirIndex(source)
    (source / "a").write_bytes(b"ONE")
    (source / "b").rename(source / "c")
    diff = DiffIndex(DirIndex(source), old)
    assert changes(diff) == {"updated": (b"a",), "created": (b"c",), "deleted": (b"b",)}


# Vaults and deltas


def test_a_vault_gives_what_rdiff_makes(source: Path, tmp_path: Path) -> None:
    contents = {b"big": mixed(1, 3 * MIB), b"empty": b"", b"tiny": b"x"}
    make_tree(source, contents)
    file = vault_of(tmp_path / "sigs", DirIndex(source))
    with SigVault.open(file) as vault:
        assert vault.paths == [b"big", b"empty", b"tiny"]
        for path, data in contents.items():
            sums = vault.signature(path)
            assert sums == make_signature(data, block_size=block_size(len(data)))
            assert vault.signature(path, digest(data)) == sums
            assert vault.digest(path) == digest(data)
            with pytest.raises(EntryNotFound):
                vault.signature(path, digest(b"other"))
        with pytest.raises(EntryNotFound):
            vault.signature(b"missing")
    size = str(block_size(3 * MIB))
    made = tmp_path / "rdiff.sig"
    subprocess.run(["rdiff", "-b", size, "-S", "16", "signature", source / "big", made], check=True)
    with SigVault(file) as vault:
        assert vault.signature(b"big") == made.read_bytes()


def test_several_vaults_are_searched_newest_first(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": b"a1", "b": b"b1"})
    vault_of(tmp_path / "1", DirIndex(source))
    (source / "a").write_bytes(b"a2")
    with SigVault.create(tmp_path / "2", DirIndex(source)) as vault:
        vault.add(b"a")
    with SigVaults.open([tmp_path / "2", tmp_path / "1"]) as vaults:
        assert vaults.signature(b"a") == make_signature(b"a2", block_size=64)
        assert vaults.signature(b"a", digest(b"a1")) == make_signature(b"a1", block_size=64)
        assert vaults.signature(b"b") == make_signature(b"b1", block_size=64)
        with pytest.raises(EntryNotFound):
            vaults.signature(b"c")
    with pytest.raises(NotFound):
        SigVaults.open([tmp_path / "1", tmp_path / "missing"])


def test_a_vault_is_written_once_and_whole(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": b"one", "b": b"two"})
    settle()
    index = DirIndex(source)
    (source / "b").unlink()
    file = tmp_path / "out" / "sigs"
    file.parent.mkdir()
    with pytest.raises(SourceError), SigVault.create(file, index) as vault:
        vault.add_all([b"a", b"b"])
    assert os.listdir(file.parent) == []
    with SigVault.create(file, index) as vault:
        vault.add(b"a")
        for wrong, error in ((b"a", UsageError), (b"b", SourceError), (b"c", EntryNotFound)):
            with pytest.raises(error):
                vault.add(wrong)
    assert os.listdir(file.parent) == ["sigs"]
    assert SigVault(file).paths == [b"a"]
    with pytest.raises(UsageError, match="exists"):
        SigVault.create(file, index)
    with SigVault.create(tmp_path / "none", index):
        pass
    assert SigVault(tmp_path / "none").paths == []


def test_two_that_write_the_same_vault(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": b"one"})
    index, file = DirIndex(source), tmp_path / "sigs"
    first, second = SigVault.create(file, index), SigVault.create(file, index)
    first.add(b"a")
    first.finish()
    with pytest.raises(UsageError, match="exists"):
        second.finish()
    assert sorted(os.listdir(tmp_path)) == ["sigs", "source"]
    assert SigVault(file).paths == [b"a"]


def test_damaged_files(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": mixed(3, 70_000), "b": b"x" * 3000})
    index = DirIndex(source)
    good = vault_of(tmp_path / "sigs", index).read_bytes()
    wants = {path: SigVault(tmp_path / "sigs").signature(path) for path in index.files}
    rng = random.Random(4)
    for place in [*rng.sample(range(len(good)), 60), -1, -30]:
        changed = bytearray(good)
        changed[place] ^= 0x10
        (tmp_path / "bad").write_bytes(changed)
        try:
            with SigVault(tmp_path / "bad") as vault:
                assert all(vault.signature(path) == wants[path] for path in index.files)
        except (IntegrityError, UnsupportedFormat):
            continue
        assert place % len(good) in range(len(good) - 32, len(good) - 16)  # the id, for show
    for cut in (0, 10, len(good) - 1):
        (tmp_path / "bad").write_bytes(good[:cut])
        with pytest.raises(FormatDamaged):
            SigVault(tmp_path / "bad")
    with pytest.raises(FormatDamaged):
        DiffData.open(tmp_path / "sigs")


@pytest.mark.parametrize("size", [0, 1, 5000, 300_000, 3 * MIB])
def test_rdiff_patches_with_our_deltas(
    size: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "BUFFER", MIB)  # so that a file has several
    old_bytes = mixed(size, size)
    (source / "file").write_bytes(old_bytes)
    old = stored(DirIndex(source))
    file, base = vault_of(tmp_path / "sigs", old), copy(source, tmp_path / "base")
    middle = size // 2
    new_bytes = b"head" + old_bytes[:middle] + b"inserted" + old_bytes[middle:]
    (source / "file").write_bytes(new_bytes)
    diff = DiffIndex(DirIndex(source), old)
    with SigVault.open(file) as vault:
        delta = DiffData(diff, vault).delta(b"file")
        DiffData(diff, vault).save(tmp_path / "data")
    (tmp_path / "delta").write_bytes(delta)
    done = tmp_path / "patched"
    subprocess.run(["rdiff", "patch", base / "file", tmp_path / "delta", done], check=True)
    assert done.read_bytes() == new_bytes
    with DiffData.open(tmp_path / "data") as data:
        assert data.paths == [b"file"]
        assert b"".join(data.pieces(b"file")) == delta
        with pytest.raises(EntryNotFound):
            data.pieces(b"other")
    if size > 5000:
        assert len(delta) < size / 20


def test_our_patch_takes_what_rdiff_makes(source: Path, tmp_path: Path) -> None:
    (source / "file").write_bytes(mixed(1, 200_000))
    base = copy(source, tmp_path / "base")
    old = stored(DirIndex(source))
    (source / "file").write_bytes(mixed(1, 200_000)[77:])
    diff = DiffIndex(DirIndex(source), old)

    class ByRdiff:
        def pieces(self, path: bytes) -> Iterator[bytes]:
            name = os.fsdecode(path)
            sums, made = tmp_path / "sums", tmp_path / "made"
            subprocess.run(["rdiff", "signature", base / name, sums], check=True)
            subprocess.run(["rdiff", "delta", sums, source / name, made], check=True)
            yield made.read_bytes()

    apply_diff(base, diff, ByRdiff())
    assert same_trees(source, base) == []


def test_a_signature_of_other_bytes_is_not_used(source: Path, tmp_path: Path) -> None:
    """Deleted and made again between two vaults: the ancestor took the old signature."""
    (source / "file").write_bytes(mixed(1, 50_000))
    file = vault_of(tmp_path / "sigs", DirIndex(source))
    (source / "file").write_bytes(mixed(2, 50_000))
    old, base = stored(DirIndex(source)), copy(source, tmp_path / "base")
    (source / "file").write_bytes(mixed(1, 50_000) + b"more")
    diff = DiffIndex(DirIndex(source), old)
    with SigVault.open(file) as vault:
        data = DiffData(diff, vault)
        assert [match[0] for match in parse_delta(data.delta(b"file"))] == [-1]
        apply_diff(base, diff, data)
    assert same_trees(source, base) == []


def test_what_a_diff_has_bytes_of(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": b"one", "b": b"two", "gone": b"three"})
    old = stored(DirIndex(source))
    make_tree(source, {"new": mixed(1, 3 * MIB), "link": Symlink("a")})
    (source / "a").write_bytes(b"ONE")
    (source / "gone").unlink()
    diff = DiffIndex(DirIndex(source), old)
    data = DiffData(diff)
    assert (data.created, data.updated) == ((b"new",), (b"a",))
    assert b"".join(data.pieces(b"new")) == mixed(1, 3 * MIB)
    for path in (b"b", b"gone", b"link", b"missing"):
        with pytest.raises(EntryNotFound):
            data.pieces(path)
    with pytest.raises(EntryNotFound):
        data.delta(b"new")
    size = data.save(tmp_path / "data")
    assert size == (tmp_path / "data").stat().st_size
    with pytest.raises(UsageError, match="exists"):
        data.save(tmp_path / "data")
    with DiffData.open(tmp_path / "data") as opened:
        assert opened.paths == [b"new", b"a"]
        assert b"".join(opened.pieces(b"new")) == mixed(1, 3 * MIB)


def test_a_file_that_changes_after_the_diff_was_made(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": b"one"})
    old = stored(DirIndex(source))
    (source / "b").write_bytes(b"two")
    settle()
    diff = DiffIndex(DirIndex(source), old)
    (source / "b").write_bytes(b"TWO")
    with pytest.raises(SourceError, match=r"^b: "):
        DiffData(diff).save(tmp_path / "data")
    assert sorted(os.listdir(tmp_path)) == ["source"]


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


def bytes_of(root: Path) -> dict[bytes, bytes]:
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[os.fsencode(path.relative_to(root))] = path.read_bytes()
    return found


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


# Whole backups


def test_full_incremental_restore(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "repository"
    make_tree(source, {"a": mixed(1, 200_000), "sub": {"b": b"two"}, "junk.o": b"junk"})
    first = full_backup(source, place, patterns=["*.o"], comment="the first")
    one = snapshot(source)
    (source / "a").write_bytes(mixed(1, 200_000) + b"more")
    second = incremental_backup(str(source), str(place), patterns=["*.o"])
    assert (first.full, second.full) == (True, False)
    assert first.tally.problems == second.tally.problems == []
    points = list_points(place)
    assert [point.source for point in points] == ["source", "source"]
    assert [point.full for point in points] == [True, False]
    assert [point.files for point in points] == [2, 2]
    assert [point.point for point in points] == [first.point, second.point]
    assert points[0].point.comment == "the first"
    restored = restore_backup(place, "source", tmp_path / "new")
    assert restored.point == second.point
    assert restored.tally.problems == []
    expected = {path: entry for path, entry in snapshot(source).items() if path != b"junk.o"}
    assert differences(expected, snapshot(tmp_path / "new")) == []
    for at in (points[0].point.id, points[0].name, "latest~1", points[0].time):
        shutil.rmtree(tmp_path / "old", ignore_errors=True)
        assert restore_backup(place, "source", tmp_path / "old", at).point == first.point
        found = snapshot(tmp_path / "old")
        assert found[b"a"].sha256 == one[b"a"].sha256
    assert set(found) == set(one) - {b"junk.o"}


def test_a_full_backup_refers_to_nothing_older(source: Path, tmp_path: Path) -> None:
    make_tree(source, {"a": mixed(1, 50_000)})
    repository = Repository.create(os.fsencode(tmp_path / "repository"), bytes(range(16)))
    results = [full_backup(source, repository), incremental_backup(source, repository)]
    results.append(full_backup(source, repository))
    epochs = [result.point.epoch for result in results if result.point]
    assert epochs == sorted(epochs)
    assert epochs[0] == epochs[1] < epochs[2]
    first = incremental_backup(source, tmp_path / "second")
    assert first.full
    assert first.point
    assert first.point.source.host == socket.gethostname()


def test_parts_and_overwriting(source: Path, tmp_path: Path) -> None:
    place, target = tmp_path / "repository", tmp_path / "target"
    make_tree(source, {"a": b"one", "sub": {"b": b"two"}})
    full_backup(source, place, name="docs")
    restore_backup(place, "docs", target, paths=["sub"])
    assert bytes_of(target) == {b"sub/b": b"two"}
    with pytest.raises(UsageError):
        restore_backup(place, "docs", target)
    (target / "sub" / "b").write_bytes(b"changed")
    restore_backup(place, "docs", target, overwrite="always")
    assert bytes_of(target) == {b"a": b"one", b"sub/b": b"two"}
    with pytest.raises(EntryNotFound):
        restore_backup(place, "docs", tmp_path / "x", paths=["missing"])


def test_words_that_name_nothing(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "repository"
    make_tree(source, {"a": b"one"})
    with pytest.raises(NotARepository):
        list_points(place)
    with pytest.raises(NotARepository):
        full_backup(tmp_path / "missing", place)
    assert not place.exists()
    full_backup(source, place)
    with pytest.raises(SourceError):
        incremental_backup(tmp_path / "missing", place)
    past = datetime.now() - timedelta(days=3)
    for name, at in (("other", None), ("source", "2d"), ("source", past), ("source", "nonsense!")):
        with pytest.raises(PointNotFound):
            restore_backup(place, name, tmp_path / "x", at)
    with pytest.raises(PointNotFound, match="there are: source"):
        list_points(place, "other")
    assert len(list_points(place, "source")) == 1
    assert not (tmp_path / "x").exists()


def test_two_sources_never_need_to_be_told_apart(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "repository"
    for name in ("b", "a"):
        make_tree(source / name, {name: name.encode()})
        full_backup(source / name, place)
    assert [point.source for point in list_points(place)] == ["a", "b"]
    try:
        restore_backup(place, "b", tmp_path / "x")
    except AmbiguousSource:  # pragma: no cover
        pytest.fail("The source was named")
    assert bytes_of(tmp_path / "x") == {b"b": b"b"}


def test_a_damaged_manifest_is_told(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "repository"
    make_tree(source, {"a": b"one"})
    full_backup(source, place)
    second = incremental_backup(source, place)
    assert second.point
    (place / "points" / second.point.id).write_bytes(b"damaged")
    assert len(list_points(place)) == 1
    assert second.point.id in caplog.text


def test_blocks_are_about_the_square_root() -> None:
    assert [block_size(size) for size in (0, 4095, 10_000, MIB, 10 << 30)] == [
        64, 64, 96, 1024, 103_616,
    ]  # fmt: skip
    assert SIZE == 4  # rows give the size to it
