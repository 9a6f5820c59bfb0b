"""What a purge does to points: which paths are meant, what manifests tell, what is refused."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions import alone
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.actions.purge.run import PurgeOptions, PurgeResult, look, purge, renewed_id
from ibtfs.errors import LockLost, RepositoryError, RepositoryLocked, UsageError
from ibtfs.format.index import Reference
from ibtfs.format.point import POINT_ID, Point
from ibtfs.store.lock import SHARED
from ibtfs.store.removal.bundling import Bounds
from ibtfs.store.repository import Repository
from tests.support import snapshot
from tests.support.independent_reader import IndependentReader
from tests.support.leaks import Needles, leaks
from tests.support.repositories import (
    Backup,
    assert_comes_back,
    names,
    remove,
    reopened,
    the_point,
)
from tests.support.trees import File, make_tree

SECRET = b"a secret that nobody is to see: 4711 0815"


def purged(repository: Repository, *words: bytes, **options: Any) -> PurgeResult:
    return purge(reopened(repository), words, PurgeOptions(**options), Observer())


def points_of(repository: Repository) -> list[Point]:
    return reopened(repository).points.all().points


def told(repository: Repository, point: Point, **values: Any) -> Point:
    """*point*, its manifest saying something else."""
    remove(repository, point)
    other = replace(point, **values)
    repository.points.commit(other)
    return other


def test_a_point_keeps_all_but_the_path_and_its_id(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {"keep": b"1", "d": {"secret": SECRET, "e": {"keep": b"2"}}, "empty": b""})
    before = the_point(backup_of(source, tags=("a", "b"), comment="nothing to see"))
    result = purged(repository, b"secret")
    (point,) = points_of(repository)
    assert result.replaced == {before.id: point.id}
    assert point.id != before.id
    assert POINT_ID.match(point.id)
    assert point.id.rpartition("_")[0] == before.id.rpartition("_")[0]
    assert point.replaces == (before.id,)
    same = {"id": "", "state": Reference("", 0), "digest": b"", "replaces": (), "statistics": {}}
    assert replace(point, **same) == replace(before, **same)  # type: ignore[arg-type]
    assert point.statistics["files"] == before.statistics["files"] - 1 == 3
    assert point.statistics["bytes"] == before.statistics["bytes"] - len(SECRET)
    assert reopened(repository).points.tags(point.id) == ["a", "b"]
    assert reopened(repository).points.tags(before.id) == []
    (source / "d" / "secret").unlink()
    assert names(repository, point) == set(snapshot(source)) - {b""}
    assert leaks(repository, Needles([SECRET], [b"secret"], [])) == []


@pytest.mark.parametrize(
    ("word", "left"),
    [
        ("secret", {"d", "other"}),
        ("/secret", {"d", "d/secret", "other"}),
        ("{source}/secret", {"d", "d/secret", "other"}),
        ("{source}/d/secret", {"d", "secret", "other"}),
        ("{source}/d", {"secret", "other"}),
        ("d/", {"secret", "other"}),
        ("s*t", {"d", "other"}),
        ("/d/s?cret", {"d", "secret", "other"}),
    ],
)
def test_which_paths_are_meant(
    source: Path, repository: Repository, backup_of: Backup, word: str, left: set[str]
) -> None:
    make_tree(source, {"secret": b"one", "d": {"secret": b"two"}, "other": b"3"})
    backup_of(source)
    purged(repository, os.fsencode(word.format(source=source)))
    (point,) = points_of(repository)
    assert names(repository, point) == set(map(os.fsencode, left))


def test_an_absolute_path_is_taken_as_it_is_written(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {"a[1]": b"one", "a1": b"two"})
    backup_of(source)
    purged(repository, os.fsencode(source / "a[1]"))
    (point,) = points_of(repository)
    assert b"a[1]" not in names(repository, point)


def test_a_large_folder_of_several_pages(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    for number in range(5000):
        (source / f"file {number}").touch()
    (source / "file 10 is secret").write_bytes(SECRET)
    backup_of(source)
    purged(repository, b"*secret")
    (point,) = points_of(repository)
    assert names(repository, point) == {b"file %d" % n for n in range(5000)}
    assert leaks(repository, Needles([SECRET], [b"secret"], [])) == []
    backup_of(source)


def test_a_deep_tree(source: Path, repository: Repository, backup_of: Backup) -> None:
    folder = os.open(source, os.O_DIRECTORY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("secret", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    backup_of(source)
    purged(repository, b"secret")
    (point,) = points_of(repository)
    assert len(names(repository, point)) == 1500
    subprocess.run(["rm", "-rf", source], check=True)  # too deep for shutil


def test_a_path_that_stays_and_has_the_same_bytes_is_named(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {"secret": SECRET, "d": {"copy": SECRET}, "other": b"1"})
    backup_of(source)
    (source / "secret").unlink()
    (source / "d" / "copy").unlink()
    (source / "other").write_bytes(SECRET)
    before = [the_point(backup_of(source)).id]
    before = [point.id for point in points_of(repository)]
    with pytest.raises(UsageError, match="'d/copy'; source: 'other'"):
        purged(repository, b"secret")
    assert [point.id for point in points_of(repository)] == before
    purged(repository, b"secret", b"copy", b"other")
    assert leaks(repository, Needles([SECRET], [b"secret"], [])) == []


def test_a_hard_link_that_stays_is_named(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    (source / "secret").write_bytes(SECRET)
    os.link(source / "secret", source / "link")
    backup_of(source)
    with pytest.raises(UsageError, match="'link'"):
        purged(repository, b"secret")


def test_xattrs_that_others_have_stay_theirs(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    long = os.urandom(1000)
    make_tree(source, {"secret": File(SECRET, xattrs={"user.long": long}),
                       "other": File(b"1", xattrs={"user.long": long})})  # fmt: skip
    backup_of(source)
    purged(repository, b"secret")
    (point,) = IndependentReader(os.fsdecode(repository.path)).points()
    rows = {path: entry.xattrs for path, entry in point.entries() if path}
    assert rows == {b"other": {b"user.long": long}}


def test_a_source_of_one_file_goes(source: Path, repository: Repository, backup_of: Backup) -> None:
    (source / "secret").write_bytes(SECRET)
    (source / "folder").mkdir()
    (source / "folder" / "a").write_bytes(b"1")
    backup_of(source / "secret")
    stays = the_point(backup_of(source / "folder"))
    result = purged(repository, os.fsencode(source / "secret"))
    assert [point.id for point in points_of(repository)] == [stays.id]
    assert len(result.found.go) == 1
    assert leaks(repository, Needles([SECRET], [b"secret"], [])) == []
    purged(repository, b"a")


def test_the_only_source_of_one_file_goes(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    (source / "secret").write_bytes(SECRET)
    backup_of(source / "secret")
    purged(repository, b"secret")
    assert points_of(repository) == []
    assert repository.archive_ids() == []
    purged(repository, b"secret")


@pytest.mark.parametrize("above", ["", "/.."])
def test_a_whole_source_is_refused(
    source: Path, repository: Repository, backup_of: Backup, above: str
) -> None:
    (source / "a").write_bytes(b"1")
    backup_of(source)
    with pytest.raises(UsageError, match="forget"):
        purged(repository, os.path.abspath(os.fsencode(f"{source}{above}")))


@pytest.mark.parametrize("word", [b"", b"# no", b"!secret"])
def test_no_pattern(source: Path, repository: Repository, backup_of: Backup, word: bytes) -> None:
    (source / "secret").write_bytes(b"1")
    backup_of(source)
    with pytest.raises(UsageError):
        purged(repository, word)


def test_devices_comments_tags_and_names_do_not_tell(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {"secret": {"in": SECRET}, "other": b"1"})
    os.chown(source / "secret" / "in", 4711, 4712)
    first = the_point(backup_of(source))
    (source / "secret" / "in").unlink()
    (source / "secret").rmdir()
    second = the_point(backup_of(source, tags=("secret", "keep"), comment="before secret, went"))
    users, groups = {0: "root", 4711: "whistle"}, {0: "root", 4712: "blowers"}
    devices = (b"", b"mnt", b"secret/mnt", b"other/mnt")
    for point in (first, second):
        told(repository, point, devices=devices, users=users, groups=groups)
    result = purged(repository, b"secret")
    for point in points_of(repository):
        assert point.devices == (b"", b"mnt", b"", b"other/mnt")
        assert (point.users, point.groups, point.comment) == ({0: "root"}, {0: "root"}, "")
    one, two = points_of(repository)
    assert two.parent == one.id
    assert reopened(repository).points.tags(two.id) == ["keep"]
    assert result.untagged == ["secret"]
    assert result.uncommented == [two.id]
    assert leaks(repository, Needles([SECRET], [b"secret", b"whistle", b"blowers"], [])) == []


def test_users_that_others_have_keep_their_names(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {"secret": SECRET, "other": b"1"})
    for name in ("secret", "other"):
        os.chown(source / name, 4711, 4712)
    users, groups = {4711: "ann"}, {4712: "friends"}
    told(repository, the_point(backup_of(source)), users=users, groups=groups)
    purged(repository, b"secret")
    (point,) = points_of(repository)
    assert (point.users, point.groups) == (users, groups)


def test_points_of_several_epochs(
    tmp_path: Path, source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {"d": {"secret": SECRET, "a": b"1"}})
    backup_of(source)
    backup_of(source, full=True)
    backup_of(source)
    purged(repository, b"secret")
    points = points_of(repository)
    assert [point.epoch for point in points] == [0, 1, 1]
    assert [
        len(list(p.entries())) for p in IndependentReader(os.fsdecode(repository.path)).points()
    ] == [3, 3, 3]
    (source / "d" / "secret").unlink()
    assert_comes_back(repository, the_point(backup_of(source)), snapshot(source), tmp_path)


def test_points_without_the_path_stay_as_they_are(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    (source / "a").write_bytes(b"1")
    first = the_point(backup_of(source))
    (source / "secret").write_bytes(SECRET)
    backup_of(source)
    purged(repository, b"secret")
    one, two = points_of(repository)
    assert one.id == first.id
    assert names(repository, two) == {b"a"}


def test_a_look_changes_nothing(source: Path, repository: Repository, backup_of: Backup) -> None:
    make_tree(source, {"secret": SECRET, "d": {"secret": b"222"}})
    point = the_point(backup_of(source))
    (source / "secret").write_bytes(b"4444")
    backup_of(source)
    before = snapshot(Path(os.fsdecode(repository.path)))
    found = look(reopened(repository), [b"secret"])
    paths = {path: (len(p.points), len(p.contents), p.size) for (_, path), p in found.paths.items()}
    assert paths == {b"secret": (2, 2, len(SECRET) + 4), b"d/secret": (2, 1, 3)}
    assert point.id in [one.id for one in found.points]
    assert snapshot(Path(os.fsdecode(repository.path))) == before


def test_what_runs_left_behind_goes(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    """Archives of a run without a point, however young; points that were forgotten."""
    (source / "a").write_bytes(b"1")
    backup_of(source)
    (source / "secret").write_bytes(SECRET)
    remove(repository, the_point(backup_of(source)))
    needles = Needles([SECRET], [b"secret"], [])
    assert leaks(repository, needles) != []
    purged(repository, b"secret")
    assert leaks(repository, needles) == []


def test_it_waits_for_backups(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "AGAIN_SECONDS", float("inf"))  # the limit counts, all the same
    (source / "secret").write_bytes(SECRET)
    backup_of(source)
    with reopened(repository).lock(SHARED), pytest.raises(RepositoryLocked):
        purged(repository, b"secret", wait=0.1)


@pytest.mark.damaged
def test_what_cannot_be_read_may_be_meant(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    (source / "secret").write_bytes(SECRET)
    point = the_point(backup_of(source))
    path = Path(os.fsdecode(repository.path)) / "points" / point.id
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(RepositoryError, match="nothing can be purged"):
        purged(repository, b"secret")
    path.write_bytes(data)
    (index,) = Path(os.fsdecode(repository.path)).glob("archives/*/index.1")
    raw = bytearray(index.read_bytes())
    raw[40] ^= 1
    raw[len(raw) // 2] ^= 1
    index.write_bytes(raw)
    with pytest.raises(RepositoryError, match=r"Nothing was purged|cannot be read"):
        purged(repository, b"secret")


# Points that stand in the place of others


def replaced(repository: Repository, point: Point) -> Point:
    new = replace(point, id=renewed_id(point.id), replaces=(point.id,))
    repository.points.put(new)
    return new


def test_a_point_that_another_replaces_is_hidden_and_can_be_read(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    (source / "a").write_bytes(b"1")
    point = the_point(backup_of(source))
    new = replaced(repository, point)
    opened = reopened(repository)
    assert [one.id for one in opened.points.all().points] == [new.id]
    assert opened.points.get(point.id).id == point.id
    assert opened.points.hidden() == [point.id]
    (told,) = IndependentReader(os.fsdecode(repository.path)).points()
    assert told.values["id"] == new.id


def test_forgetting_it_does_not_bring_the_hidden_one_back(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    (source / "a").write_bytes(b"1")
    point = the_point(backup_of(source))
    new = replaced(repository, point)
    newest = replaced(repository, new)
    opened = reopened(repository)
    opened.points.remove(newest.id)
    assert opened.points.ids() == []
    assert set(opened.points.forgotten()) == {point.id, new.id, newest.id}


def test_pruning_removes_the_hidden_one_first(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    (source / "a").write_bytes(b"1")
    point = the_point(backup_of(source))
    new = replaced(repository, point)
    prune(reopened(repository), PruneOptions(), Observer())
    assert reopened(repository).points.ids() == [new.id]


def test_a_lock_that_is_lost_ends_it(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "secret").write_bytes(SECRET)
    backup_of(source)
    opened = reopened(repository)
    locks = Path(os.fsdecode(repository.path)) / "locks"
    put = opened.points.put

    def broken(point: Point) -> None:
        for lock in locks.iterdir():
            lock.unlink()
        put(point)

    monkeypatch.setattr(opened.points, "put", broken)
    with pytest.raises(LockLost):
        purge(opened, [b"secret"], PurgeOptions(), Observer())
    assert len(points_of(repository)) == 1


def test_what_lies_in_bundles_goes_too(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    secrets = [os.urandom(300) for _ in range(6)]  # what cannot be compressed is stored as it is
    for secret in secrets:
        (source / "secret").write_bytes(secret)
        backup_of(source)
    done = prune(reopened(repository), PruneOptions(bundles=Bounds(least=2, age=-1)), Observer())
    assert done.bundled
    root, needles = Path(os.fsdecode(repository.path)), Needles(secrets, [b"secret"], [])

    def stored() -> bytes:
        return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())

    assert list(needles.found_in(stored())) != []
    assert purged(repository, b"secret").left == []
    assert list(needles.found_in(stored())) == []
