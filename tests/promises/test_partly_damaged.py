"""What is damaged is told, and all else is given: no answer is another one because of damage."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from ibtfs.format.frames import CONTENTS, STATES
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.fuse import MountOptions
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory
from tests.support.commands import run, run_json
from tests.support.damage import spoil_record
from tests.support.mounts import mounted
from tests.support.repositories import Backup, dated, remove, reopened, row, the_point
from tests.support.trees import make_tree

pytestmark = pytest.mark.damaged
FILES = 6000
FUSE3 = MountOptions(binding="fuse3")


class Spoilt(NamedTuple):
    """A point, the names in its folder ``d`` that can be read still, and those that cannot."""

    point: Point
    readable: list[str]
    lost: list[str]


def listed(folder: Path) -> tuple[list[str], int]:
    """The names that a folder gives, and the number of the error that ends the listing."""
    names = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                names.append(entry.name)
    except OSError as error:
        return sorted(names), error.errno or -1
    return sorted(names), 0


def pages_of(
    repository: Repository, point: Point, path: bytes
) -> list[tuple[Reference, list[str]]]:
    """Where the pages of a folder lie, and the names in each."""
    state = row(repository, point, path).state
    assert state is not None
    return [
        (page.ref, [os.fsdecode(stamp[0]) for stamp in page.page.stamps])
        for page in Directory(reopened(repository), state.ref).pages()
    ]


def spoil(repository: Repository, point: Point, path: bytes = b"d") -> Spoilt:
    """Damage a page of a folder that lies apart from the list of them; others may lie beside it."""
    pages = pages_of(repository, point, path)
    archive = reopened(repository).archive(point.state.archive)
    frame, last = archive.file("index").table(STATES).find, point.state.number
    apart = [ref for ref, _ in pages[1:] if frame(ref.number) < frame(last)]
    spoil_record(repository, apart[0], STATES)
    archive = reopened(repository).archive(point.state.archive)
    lost, readable = [], []
    for ref, names in pages:
        try:
            archive.state(ref.number)
        except Exception:
            lost += names
        else:
            readable += names
    assert lost
    assert readable
    return Spoilt(point, readable, lost)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {f"file {n:04}": b"" for n in range(FILES)}
    folders = {f"folder {n:02}": {"in": b"1"} for n in range(30)}
    make_tree(tmp_path / "source", {"d": {**files, **folders}, "beside": b"2"})
    return tmp_path / "source"


def test_restore_gives_what_the_other_pages_hold(
    tmp_path: Path, repository: Repository, backup_of: Backup, source: Path
) -> None:
    spoilt = spoil(repository, the_point(backup_of(source)))
    told = run("restore", repository.path, "latest", tmp_path / "back", code=3).stderr
    assert sorted(os.listdir(tmp_path / "back/d")) == spoilt.readable
    assert f"of {FILES + 30:,} entries cannot be read, after " in told
    assert f"up to {spoilt.lost[-1]!r}" in told
    assert (tmp_path / "back/beside").read_bytes() == b"2"
    assert (tmp_path / "back/d/folder 29/in").read_bytes() == b"1"


def test_restore_deletes_nothing_where_it_cannot_read(
    tmp_path: Path, repository: Repository, backup_of: Backup, source: Path
) -> None:
    spoil(repository, the_point(backup_of(source)))
    make_tree(tmp_path / "back", {"d": {"mine": b"1"}, "more": b"2"})
    words = ("restore", "--overwrite", "always", "--delete", repository.path, "latest")
    run(*words, tmp_path / "back", code=3)
    assert (tmp_path / "back/d/mine").exists()
    assert not (tmp_path / "back/more").exists()


def test_ls_gives_what_the_other_pages_hold(
    repository: Repository, backup_of: Backup, source: Path
) -> None:
    spoilt = spoil(repository, the_point(backup_of(source)))
    result = run("ls", repository.path, "latest", "d", code=3)
    assert result.stdout.splitlines() == spoilt.readable
    assert "entries cannot be read" in result.stderr
    result = run("ls", "-R", repository.path, "latest", code=3)
    assert "d/folder 29/in\n" in result.stdout
    answer = run_json("ls", repository.path, "latest", "d", code=3)
    assert [entry["path"] for entry in answer["entries"]] == ["d/" + n for n in spoilt.readable]
    assert {problem["path"] for problem in answer["problems"]} == {"d"}


def test_a_mount_lists_what_the_other_pages_hold_and_then_fails(
    tmp_path: Path, repository: Repository, backup_of: Backup, source: Path
) -> None:
    spoilt = spoil(repository, the_point(backup_of(source)))
    with mounted(repository, tmp_path / "mnt", FUSE3) as mnt:
        folder = mnt / "source/latest/d"
        for _ in range(3):
            assert listed(folder) == (spoilt.readable, errno.EIO)
        assert (folder / "folder 29/in").read_bytes() == b"1"
        with pytest.raises(OSError, match="Input/output error"):
            (folder / spoilt.lost[0]).stat()
        assert listed(folder / "folder 29") == (["in"], 0)


def test_diff_tells_nothing_of_what_it_cannot_read(
    repository: Repository, backup_of: Backup, source: Path
) -> None:
    old = the_point(backup_of(source))
    pages = pages_of(repository, old, b"d")
    for _, names in pages:
        (source / "d" / names[0]).write_bytes(b"changed")
        (source / "d" / names[1]).unlink()
    new = the_point(backup_of(source))
    spoilt = spoil(repository, old)
    left = [names for _, names in pages if names[0] in spoilt.readable]
    expected = {"d/" + name for names in left for name in names[:2]}
    assert expected
    for words in ((old.id, new.id), (new.id, old.id)):
        answer = run_json("diff", repository.path, *words, code=1)
        assert {change["path"] for change in answer["changes"]} == expected
        assert {problem["path"] for problem in answer["problems"]} == {"d"}


def test_deleted_says_each_time_that_it_does_not_know_all(
    tmp_path: Path, repository: Repository, backup_of: Backup, source: Path
) -> None:
    old = the_point(backup_of(source))
    pages = pages_of(repository, old, b"d")
    for _, names in pages:
        (source / "d" / names[1]).unlink()
    new = the_point(backup_of(source))
    lost = [spoil(repository, point).lost for point in (old, new)]
    hidden = {*lost[0], *lost[1]}
    expected = sorted(names[1] for _, names in pages if names[1] not in hidden)
    assert expected
    with mounted(repository, tmp_path / "mnt", FUSE3) as mnt:
        folder = mnt / "source/.deleted/d"
        while not listed(folder)[1]:
            pass  # a listing has a quarter of a second; the next one goes on from there
        for _ in range(3):
            assert listed(folder) == (expected, errno.EIO)


def test_deleted_is_not_empty_where_the_only_point_that_had_it_is_damaged(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    source = tmp_path / "few"
    make_tree(source, {"gone": b"1", "kept": b"2"})
    old = the_point(backup_of(source))
    (source / "gone").unlink()
    the_point(backup_of(source))
    spoil_record(repository, old.state, STATES)
    with mounted(repository, tmp_path / "mnt", FUSE3) as mnt:
        for _ in range(2):
            assert listed(mnt / "few/.deleted") == ([], errno.EIO)


def three_points(tmp_path: Path, repository: Repository, backup_of: Backup) -> list[Point]:
    source = tmp_path / "few"
    made = []
    for number in range(3):
        make_tree(source, {"file": b"x" * (number + 1)}) if not number else None
        (source / "file").write_bytes(b"x" * (number + 1))
        made.append(dated(repository, the_point(backup_of(source)), number - 5))
    return made


def spoil_manifest(repository: Repository, point: Point) -> None:
    path = Path(os.fsdecode(repository.path)) / "points" / point.id
    path.write_bytes(path.read_bytes()[:-1])


def test_versions_say_that_a_point_may_be_missing(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    points = three_points(tmp_path, repository, backup_of)
    assert run_json("versions", repository.path, "file")["problems"] == []
    spoil_manifest(repository, points[1])
    answer = run_json("versions", repository.path, "file", code=3)
    assert [version["size"] for version in answer["versions"]] == [1, 3]
    (problem,) = answer["problems"]
    assert points[1].id in problem["message"]
    assert points[1].id in run("versions", repository.path, "file", code=3).stderr


def test_changes_are_not_given_to_another_point(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    points = three_points(tmp_path, repository, backup_of)
    spoil_manifest(repository, points[1])
    with mounted(repository, tmp_path / "mnt", FUSE3) as mnt:
        names = sorted(name for name in os.listdir(mnt / "few") if name != "latest")
        assert sorted(os.listdir(mnt / "few/.changes")) == names
        assert os.listdir(mnt / "few/.changes" / names[0] / "created") == ["file"]
        with pytest.raises(OSError, match="Input/output error"):
            os.listdir(mnt / "few/.changes" / names[1])
        across = mnt / "few/.changes" / f"{names[0]}..{names[1]}"
        assert os.listdir(across / "updated") == ["file"]


def test_a_damaged_manifest_of_another_source_hides_no_changes(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    points = three_points(tmp_path, repository, backup_of)
    make_tree(tmp_path / "other", {"a": b"1"})
    other = the_point(backup_of(tmp_path / "other"))
    spoil_manifest(repository, other)
    remove(repository, points[0])
    with mounted(repository, tmp_path / "mnt", FUSE3) as mnt:
        *_, newest = sorted(name for name in os.listdir(mnt / "few") if name != "latest")
        assert os.listdir(mnt / "few/.changes" / newest / "updated") == ["file"]


def test_diff_and_versions_do_not_take_damage_for_a_change(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    """A full backup stores all anew: that it is the same shows in the records alone."""
    source = tmp_path / "few"
    make_tree(source, {"changed": b"1" * 300, "same": b"2" * 300, "touched": b"3" * 300})
    old = the_point(backup_of(source))
    (source / "changed").write_bytes(b"4" * 301)
    os.utime(source / "touched", ns=(5, 5))
    new = the_point(backup_of(source, full=True))
    assert run_json("diff", repository.path, old.id, new.id)["updated"] == 2
    content = row(repository, old, b"same").content
    assert content is not None
    assert content != row(repository, new, b"same").content
    spoil_record(repository, content, CONTENTS)
    answer = run_json("diff", repository.path, old.id, new.id, code=1)
    assert [change["path"] for change in answer["changes"]] == ["changed"]
    assert {problem["path"] for problem in answer["problems"]} == {"same", "touched"}
    answer = run_json("versions", repository.path, "same", code=1)
    assert ["error" in version for version in answer["versions"]] == [False, True]
    assert "not known" in run("versions", repository.path, "same", code=1).stdout
