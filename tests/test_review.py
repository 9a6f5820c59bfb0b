"""Failures that reviewers found: each has its test here."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from conftest import Recorder, back_up, reopened, restored_tree
from support import differences, snapshot
from support.trees import Hardlink, Sparse, make_tree

from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer
from ibtfs.actions.restore import ALWAYS, IF_CHANGED, RestoreOptions, restore
from ibtfs.errors import UsageError
from ibtfs.format.frames import CONTENTS
from ibtfs.format.patterns import Patterns
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from ibtfs.store.select import by_source

SLAB = 64 << 10


def settled(path: Path) -> None:
    """Set the times of *path* back, so that it is not read again for being young."""
    os.utime(path, ns=(10**18, 10**18))


def put_back(
    repository: Repository, point: Point, to: Path, *paths: bytes, **options: object
) -> Recorder:
    """Restore *point*, or *paths* of it, and what was told."""
    recorder = Recorder()
    chosen = RestoreOptions(**options)  # type: ignore[arg-type]
    restore(repository, point, paths, os.fsencode(to), chosen, recorder)
    return recorder


def test_a_base_is_not_changed_when_copies_of_it_were_kept(
    tmp_path: Path, repository: Repository
) -> None:
    rng = random.Random(1)
    x, y, z = (rng.randbytes(SLAB) for _ in range(3))
    tail = rng.randbytes(80 * SLAB)
    source = tmp_path / "source"
    for number, data in enumerate((bytes(SLAB) + y, x + z, x + y)):
        make_tree(source, {"image": data + tail}) if not number else None
        (source / "image").write_bytes(data + tail)
        expected = snapshot(source)
        point = back_up(repository, source).point
        assert point is not None
        restored = restored_tree(repository, point, tmp_path / f"out{number}")
        assert not differences(expected, restored)


def test_two_sources_that_chose_one_name(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "a/docs", {"one": b"1"})
    make_tree(tmp_path / "b/docs", {"two": b"2"})
    first = back_up(repository, tmp_path / "a/docs").point
    second = back_up(repository, tmp_path / "b/docs").point
    assert first
    assert second
    points = [p if p.id == first.id else type(p)(**{**vars(p), "display": "docs"})
              for p in (first, second)]  # fmt: skip
    shown = by_source(points)
    assert [[p.id for p in mine] for mine in shown.values()] == [[first.id], [second.id]]
    assert len(set(shown)) == 2


def test_a_folder_in_the_place_of_a_file_stays(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"backups": b"a file once"})
    point = back_up(repository, tmp_path / "source").point
    assert point
    out = tmp_path / "out"
    make_tree(out, {"backups": {"precious": b"1"}})
    for overwrite in (ALWAYS, IF_CHANGED):
        told = put_back(repository, point, out, overwrite=overwrite)
        assert len(told.problems) == 1
        assert (out / "backups/precious").read_bytes() == b"1"
    told = put_back(repository, point, out, overwrite=ALWAYS, delete=True)
    assert not told.problems
    assert (out / "backups").read_bytes() == b"a file once"


def test_the_repository_is_never_removed(tmp_path: Path) -> None:
    make_tree(tmp_path / "source", {"backups": b"a file once"})
    repository = Repository.create(os.fsencode(tmp_path / "repo"), os.urandom(16))
    point = back_up(repository, tmp_path / "source").point
    assert point
    make_tree(tmp_path / "out", {"backups": {"below": {}}})
    os.rename(tmp_path / "repo", tmp_path / "out/backups/below/repo")
    moved = Repository.open(os.fsencode(tmp_path / "out/backups/below/repo"))
    told = put_back(moved, point, tmp_path / "out", overwrite=ALWAYS, delete=True)
    assert len(told.problems) == 1
    assert not check(reopened(moved), read_data=True, observer=Observer()).damages


def test_an_incomplete_point_deletes_nothing(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"a": b"1"})
    point = back_up(repository, tmp_path / "source").point
    assert point
    incomplete = type(point)(**{**vars(point), "statistics": {"problems": 1}})
    make_tree(tmp_path / "out", {"more": b"2"})
    with pytest.raises(UsageError, match="not complete"):
        put_back(repository, incomplete, tmp_path / "out", overwrite=ALWAYS, delete=True)


def test_delete_keeps_what_is_excluded_and_a_dry_run_tells_all(
    tmp_path: Path, repository: Repository
) -> None:
    make_tree(tmp_path / "source", {"sub": {"a": b"1"}})
    point = back_up(repository, tmp_path / "source").point
    assert point
    out = tmp_path / "out"
    make_tree(out, {"sub": {"gone": b"", "cache": {"x": b"1"}}})
    options = {"overwrite": ALWAYS, "delete": True, "exclude": Patterns.from_lines(["cache/"])}
    before = snapshot(out)
    told = put_back(repository, point, out, b"sub", dry_run=True, **options)
    assert (b"deleted", b"sub/gone") in [(k.encode(), p) for k, p in told.files]
    assert not differences(before, snapshot(out))
    put_back(repository, point, out, b"sub", **options)
    assert sorted(os.listdir(out / "sub")) == ["a", "cache"]


def test_links_between_paths_and_include_with_paths(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {"d": {"a": b"1", "b": Hardlink("d/a"), "c.txt": b"2"}})
    point = back_up(repository, tmp_path / "source").point
    assert point
    put_back(repository, point, tmp_path / "out", b"d/a", b"d/b")
    assert (tmp_path / "out/a").stat().st_nlink == 2
    put_back(repository, point, tmp_path / "some", b"d", include=Patterns.from_lines(["*.txt"]))
    assert os.listdir(tmp_path / "some/d") == ["c.txt"]


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


@pytest.mark.damaged
def test_a_damaged_record_heals(tmp_path: Path, repository: Repository) -> None:
    source = tmp_path / "source"
    make_tree(source, {"d": {f"f{n}": b"%d" % n * 300 for n in range(30)}})
    for path in (source / "d").iterdir():
        settled(path)
    back_up(repository, source)
    (archive,) = repository.archive_ids()
    opened = repository.archive(archive).file("index")
    offset = opened.tables[CONTENTS].offsets[0] + 40
    with open(os.path.join(os.fsdecode(repository.path), opened.name), "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    again = reopened(repository)
    found = check(again, read_data=True, observer=Observer())
    assert len({path for damage in found.damages for path in damage.paths} - {b"d"}) == 30
    (source / "d/new").write_bytes(b"n")
    expected = snapshot(source)
    point = back_up(reopened(repository), source).point
    assert point
    assert not differences(expected, restored_tree(reopened(repository), point, tmp_path / "out"))


def test_an_archive_whose_index_is_missing_keeps_its_data(
    tmp_path: Path, repository: Repository
) -> None:
    make_tree(tmp_path / "source", {"a": random.Random(2).randbytes(300_000)})
    back_up(repository, tmp_path / "source")
    (archive,) = repository.archive_ids()
    index = Path(os.fsdecode(repository.path)) / "archives" / archive / "index.1"
    os.rename(index, tmp_path / "kept")
    make_tree(tmp_path / "other", {"b": b"1"})
    back_up(reopened(repository), tmp_path / "other")
    os.rename(tmp_path / "kept", index)


def test_the_holes_of_equal_contents_differ(tmp_path: Path, repository: Repository) -> None:
    source = tmp_path / "source"
    tree = {
        "dense": bytes(2 << 20),
        "sparse": Sparse(2 << 20, {}),
        "mixed": Sparse(2 << 20, {0: bytes(SLAB)}),
    }
    make_tree(source, tree)
    expected = snapshot(source)
    point = back_up(repository, source).point
    assert point
    restored = restored_tree(repository, point, tmp_path / "out")
    assert not differences(expected, restored, also=["blocks"])


def test_odd_exclude_files(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "source", {".exclude": {"in": b"1"}})
    assert back_up(repository, tmp_path / "source").point


def test_a_hole_that_is_written_to_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             repository: Repository) -> None:  # fmt: skip
    source = tmp_path / "source"
    make_tree(source, {"image": Sparse(8 << 20, {0: b"x" * 4096})})
    pread, done = os.pread, []

    def late(descriptor: int, size: int, offset: int) -> bytes:
        if not done and size >= 1 << 20 and offset == 0:
            done.append(True)
            with open(source / "image", "r+b") as file:
                file.seek(500_000)
                file.write(b"written late")
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", late)
    back_up(repository, source)
    assert done
