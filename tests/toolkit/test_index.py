"""DirIndex: what there is in a directory, and the Dir objects of dirtools2."""

from __future__ import annotations

import inspect
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from ibtfs.errors import (
    EntryNotFound,
    FormatDamaged,
    NotAFile,
    SourceError,
    UnsupportedFormat,
    UsageError,
)
from ibtfs.format.entry import CTIME
from ibtfs.format.packing import pack, unpack
from ibtfs.toolkit import DiffData, DiffIndex, DirIndex, apply_diff
from tests.support.toolkit import MIB, changes, copy, settle, stored
from tests.support.trees import Fifo, Socket, Sparse, Symlink, make_tree


def digest_of(data: bytes) -> bytes:
    return blake3(data).digest()


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
    assert index.digest(b"sub/b") == digest_of(b"two")
    assert index.digest(b"empty") == digest_of(b"")
    assert index.digest(b"sparse") == digest_of(bytes(7) + b"x" + bytes(MIB - 8))
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
    assert index.rows[b"young"].digest == digest_of(b"young")
    assert index.rows[b"young"].stamp[CTIME] == 0
    assert index.digest(b"old") == index.rows[b"old"].digest == digest_of(b"old")


def test_an_index_is_a_value(source: Path) -> None:
    make_tree(source, {"a": b"one", "sub": {"b": b"two"}, "link": Symlink(b"\xff")})
    os.utime(source / "a", ns=(0, -(10**9) - 1))
    index = DirIndex(source)
    again = stored(index)
    assert (again.path, again.rows) == (index.path, index.rows)
    assert again.data() == index.data()
    shutil.rmtree(source)
    assert again.digest(b"sub/b") == digest_of(b"two")


def test_digests_of_unchanged_files_are_taken_over(source: Path) -> None:
    make_tree(source, {"a": b"one", "b": b"two"})
    settle()
    known = stored(DirIndex(source))
    (source / "b").write_bytes(b"new")
    settle()
    assert DirIndex(source).rows[b"a"].digest is None
    index = DirIndex(source, known=known)
    assert index.rows[b"a"].digest == digest_of(b"one")
    assert index.rows[b"b"].digest is None
    assert index.digest(b"b") == digest_of(b"new")


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


@pytest.mark.parametrize("column", range(1, 9))
def test_numbers_that_no_file_has_are_refused(column: int) -> None:
    row: list[object] = [b"a", stat.S_IFREG | 0o644, 0, 0, 0, 0, 0, 0, 1, None]
    DirIndex.from_data({"directory": b"/", "rows": [row]})
    row[column] = 1 << 100
    with pytest.raises(FormatDamaged, match="impossible numbers"):
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
