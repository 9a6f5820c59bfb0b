"""DiffIndex: what a diff tells."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ibtfs.errors import SourceError
from ibtfs.toolkit import DiffData, DiffIndex, DirIndex, Row
from ibtfs.toolkit.index import seal
from tests.support.toolkit import changes, copy, settle, stored
from tests.support.trees import Symlink, make_tree


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


def test_a_stored_diff_opens_no_file_of_the_directory_that_it_names(source: Path) -> None:
    make_tree(source, {"it": b"secret", "same": b"same"})
    old = DirIndex(source)
    new = DirIndex(source)
    stamp = new.rows[b"it"].stamp
    new.rows[b"it"] = Row(stamp)  # as who does not know the bytes, and wants to
    old.rows[b"it"] = Row((*stamp[:5], stamp[5] + 1, *stamp[6:]))
    data = {"new": unread(new), "old": unread(old)}
    diff = DiffIndex.from_bytes(seal("diff", data))
    assert diff.updated == (b"it",)
    assert diff.new.rows[b"it"].digest is None
    for ask in (diff.new.digest, lambda path: list(diff.new.pieces(path)), DiffData(diff).delta):
        with pytest.raises(SourceError, match="of a stored diff nothing is read"):
            ask(b"it")
    assert diff.to_bytes()
    assert diff.new.only([b"it"]).read_digests().keys() == {b"it"}


def unread(index: DirIndex) -> dict[str, object]:
    """What data tells, without reading what is not known."""
    rows = [(*row.stamp, row.leads_to) for row in index.rows.values()]
    return {"directory": index.path, "rows": rows}
