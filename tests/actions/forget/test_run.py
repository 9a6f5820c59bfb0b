"""Points removed: from anywhere, beside everything else that goes on, and cut off in between."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.backup.tree import TreeBackup
from ibtfs.actions.forget.policy import Policy
from ibtfs.actions.forget.run import Forgotten, Rules, Way, forget_by_rules, forget_named, undo
from ibtfs.actions.forget.tags import tag_points, untag_points
from ibtfs.errors import (
    PointDamaged,
    PointNotFound,
    RepositoryError,
    RepositoryLocked,
    UsageError,
)
from ibtfs.format.point import Point
from ibtfs.store.lock import EXCLUSIVE
from ibtfs.store.points import Points
from ibtfs.store.repository import Repository
from tests.support import CHECKOUT, power_cuts, snapshot
from tests.support.mounts import mounted
from tests.support.repositories import (
    Backup,
    assert_comes_back,
    back_up,
    dated,
    reopened,
    the_point,
)

NOW = datetime(2026, 11, 28, 12)


def forget(repository: Repository, *words: str, **way: bool) -> Forgotten:
    return forget_named(reopened(repository), words, NOW, Way(**way))


def ids(repository: Repository) -> list[str]:
    return [point.id for point in reopened(repository).points.all().points]


def files(repository: Repository, folder: str) -> list[str]:
    place = Path(repository.path_shown) / folder
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


@pytest.fixture
def points(tmp_path: Path, backup_of: Backup, repository: Repository) -> list[Point]:
    """Five points of one source, an hour between them; the second is tagged."""
    source = tmp_path / "docs"
    source.mkdir()
    made = []
    for number in range(5):
        (source / "file").write_bytes(bytes([number]) * 3000 + bytes(range(256)) * 20)
        tags = ("kept", "second") if number == 1 else ()
        made.append(the_point(backup_of(source, tags=tags)))
    return [dated(repository, point, number - 10) for number, point in enumerate(made)]


def test_whatever_goes_the_rest_comes_back(
    tmp_path: Path, backup_of: Backup, repository: Repository
) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    made = []
    for number in range(6):
        (source / f"file-{number % 3}").write_bytes(os.urandom(3000) + bytes(range(256)) * 50)
        made.append((the_point(backup_of(source)), snapshot(source)))
    for places in ([2, 3], [0], [5]):
        gone = [made[place][0].id for place in places]
        assert forget(repository, *gone).gone == gone
        for place in places:
            with pytest.raises(PointNotFound):
                reopened(repository).points.get(made[place][0].id)
    for point, tree in (made[1], made[4]):
        assert_comes_back(repository, point, tree, tmp_path)
    (source / "file-0").write_bytes(b"new")
    assert_comes_back(repository, the_point(backup_of(source)), snapshot(source), tmp_path)


def test_all_words_are_understood_before_anything_goes(
    repository: Repository, points: list[Point]
) -> None:
    forgotten = forget(repository, "latest", "latest~1", points[4].id, "second")
    assert forgotten.gone == [points[4].id, points[3].id, points[1].id]
    assert ids(repository) == [points[0].id, points[2].id]
    with pytest.raises(PointNotFound):
        forget(repository, points[0].id, "nothing like that")
    assert ids(repository) == [points[0].id, points[2].id]


def test_the_last_point_of_a_source_needs_a_word_more(
    tmp_path: Path, repository: Repository, points: list[Point], backup_of: Backup
) -> None:
    (tmp_path / "photos").mkdir()
    only = the_point(backup_of(tmp_path / "photos"))
    for words in ([only.id], [point.id for point in points]):
        with pytest.raises(UsageError, match="would be left, so nothing was removed"):
            forget(repository, *words)
    with pytest.raises(UsageError, match="'photos'"):
        undo(reopened(repository), "photos", NOW, Way())
    rules = Rules(Policy(tags=frozenset({"kept"})))
    with pytest.raises(UsageError, match="'photos'"):
        forget_by_rules(reopened(repository), rules, only.time_ns, Way())
    assert len(ids(repository)) == 6
    assert forget(repository, only.id, allow_none=True).gone == [only.id]
    assert len(ids(repository)) == 5


def test_a_dry_run_changes_nothing_and_takes_no_lock(
    repository: Repository, points: list[Point]
) -> None:
    before = files(repository, "")
    with reopened(repository).lock(EXCLUSIVE):
        assert forget(repository, "latest", dry_run=True).gone == [points[4].id]
        rules = Rules(Policy(last=1))
        told = forget_by_rules(reopened(repository), rules, points[4].time_ns, Way(dry_run=True))
        assert told.gone == [point.id for point in points[:4]]
        assert undo(reopened(repository), "", NOW, Way(dry_run=True)).gone == [points[4].id]
        with pytest.raises(RepositoryLocked):
            forget(repository, "latest")
    assert files(repository, "") == before


def test_by_rules(repository: Repository, points: list[Point]) -> None:
    rules = Rules(Policy(last=2, tags=frozenset({"kept"})))
    forgotten = forget_by_rules(reopened(repository), rules, points[4].time_ns, Way())
    assert forgotten.gone == [points[0].id, points[2].id]
    assert forgotten.groups is not None
    ((key, judged),) = forgotten.groups.items()
    assert key == (("source", "docs"),)
    assert [one.reasons for one in judged] == [(), ("tag kept",), (), ("last",), ("last",)]
    assert ids(repository) == [points[1].id, points[3].id, points[4].id]
    assert files(repository, "tags") == [f"{points[1].id}/kept", f"{points[1].id}/second"]
    for empty in (Policy(), Policy(last=0, daily=0)):
        with pytest.raises(UsageError, match="No rule keeps any point"):
            forget_by_rules(reopened(repository), Rules(empty), 0, Way(allow_none=True))


def test_the_tag_of_several_points_names_none_of_them(
    repository: Repository, points: list[Point]
) -> None:
    tag_points(reopened(repository), "twice", [points[0].id, points[3].id], NOW)
    for words in ("twice", "docs/twice"):
        with pytest.raises(UsageError, match="'twice' is the tag of 2 points: "):
            forget(repository, words)
        with pytest.raises(UsageError, match="'twice' is the tag of 2 points: "):
            untag_points(reopened(repository), "twice", [words], NOW)
    assert untag_points(reopened(repository), "twice", [points[3].id], NOW).done == [points[3]]
    assert forget(repository, "docs/twice").gone == [points[0].id]


# ---- undo --------------------------------------------------------------------------------------


def test_undo_takes_back_the_last(
    tmp_path: Path, repository: Repository, points: list[Point], backup_of: Backup
) -> None:
    assert undo(reopened(repository), "", NOW, Way()).gone == [points[4].id]
    (tmp_path / "photos").mkdir()
    backup_of(tmp_path / "photos")
    with pytest.raises(UsageError, match="Several sources, say which with --source: docs, photos"):
        undo(reopened(repository), "", NOW, Way())
    assert undo(reopened(repository), "docs", NOW, Way()).gone == [points[3].id]
    with pytest.raises(PointNotFound, match="No source 'x' in the repository"):
        undo(reopened(repository), "x", NOW, Way())
    latest = the_point(backup_of(tmp_path / "docs"))
    assert (latest.parent, latest.sequence) == (points[2].id, 6)


def test_undo_in_an_empty_repository(repository: Repository) -> None:
    with pytest.raises(PointNotFound, match="holds no backup points"):
        undo(repository, "", NOW, Way())


# ---- damage, and what cannot be removed --------------------------------------------------------


@pytest.mark.damaged
def test_a_damaged_point_goes_by_its_full_id_alone(
    repository: Repository, points: list[Point]
) -> None:
    manifest = Path(repository.path_shown) / "points" / points[4].id
    manifest.write_bytes(manifest.read_bytes()[:-1])
    for words in (points[4].id[:-1], "latest"):
        with pytest.raises((PointNotFound, PointDamaged)):
            forget(repository, words)
    with pytest.raises(PointDamaged, match=points[4].id):
        undo(reopened(repository), "", NOW, Way())
    rules = Rules(Policy(last=1))
    forgotten = forget_by_rules(reopened(repository), rules, points[4].time_ns, Way())
    assert set(forgotten.points.damaged) == {points[4].id}
    assert ids(repository) == [points[3].id]
    assert manifest.exists()
    assert forget(repository, points[4].id).gone == [points[4].id]
    assert not manifest.exists()


@pytest.mark.damaged
def test_what_is_no_manifest_is_named_and_the_rest_goes(
    repository: Repository, points: list[Point], tmp_path: Path
) -> None:
    place = Path(repository.path_shown) / "points"
    (tmp_path / "aside").write_bytes(b"precious")
    for point, make in ((points[0], os.mkdir), (points[2], lambda p: os.symlink("../aside", p))):
        (place / point.id).unlink()
        make(place / point.id)
    (place / points[0].id / "inside").touch()
    gone = [point.id for point in points[:4]]
    forgotten = forget(repository, *gone)
    assert sorted(forgotten.refused) == sorted([points[0].id, points[2].id])
    assert all(f"points/{k}" in str(v) for k, v in forgotten.refused.items())
    assert sorted(os.listdir(place)) == sorted([points[0].id, points[2].id, points[4].id])


def test_a_manifest_that_cannot_be_deleted_is_named(
    repository: Repository, points: list[Point]
) -> None:
    manifest = Path(repository.path_shown) / "points" / points[1].id
    subprocess.run(["chattr", "+i", manifest], check=True)
    try:
        forgotten = forget(repository, points[0].id, points[1].id, points[2].id)
    finally:
        subprocess.run(["chattr", "-i", manifest], check=True)
    assert list(forgotten.refused) == [points[1].id]
    assert files(repository, "forgotten") == sorted(points[n].id for n in (0, 2))
    assert f"points/{points[1].id}" in str(forgotten.refused[points[1].id])
    assert ids(repository) == [points[1].id, points[3].id, points[4].id]
    assert reopened(repository).points.tags(points[1].id) == ["kept", "second"]


def test_a_repository_that_is_read_only(
    repository: Repository, points: list[Point], tmp_path: Path
) -> None:
    place = tmp_path / "read-only"
    place.mkdir()
    subprocess.run(["mount", "--bind", repository.path_shown, place], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        opened = Repository.open(os.fsencode(place))
        for change in (
            lambda: forget_named(opened, ["latest"], NOW, Way()),
            lambda: tag_points(opened, "tag", ["latest"], NOW),
            lambda: untag_points(opened, "kept", ["second"], NOW),
        ):
            with pytest.raises(RepositoryError, match="is not writable"):
                change()
        assert forget_named(opened, ["latest"], NOW, Way(dry_run=True)).gone == [points[4].id]
    finally:
        subprocess.run(["umount", place], check=True)


# ---- cut off, and beside others ----------------------------------------------------------------

KILLED = """
import os, sys
from datetime import datetime
from ibtfs.actions.forget.run import Way, forget_named
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalStorage

delete, left = LocalStorage.delete, int(sys.argv[3])
def counted(self, name):
    global left
    if left == 0:
        os.kill(os.getpid(), 9)
    left -= 1
    delete(self, name)
LocalStorage.delete = counted
words = sys.argv[2].split(",")
forget_named(Repository.open(os.fsencode(sys.argv[1])), words, datetime.now(), Way())
"""


@pytest.mark.parametrize("deletions", range(6))
def test_cut_off_it_leaves_no_point_without_its_tags(
    deletions: int, repository: Repository, points: list[Point], tmp_path: Path, backup_of: Backup
) -> None:
    words = ",".join(point.id for point in points[:2])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, repository.path_shown, words, str(deletions)],
        cwd=CHECKOUT, check=False,
    )  # fmt: skip
    # two manifests and two tags are deleted, and no lock
    assert killed.returncode == (-signal.SIGKILL if deletions < 4 else 0)
    left = ids(repository)
    assert left == [point.id for point in points[min(deletions, 2) :]]
    both = sorted(point.id for point in points[:2])
    assert files(repository, "forgotten") == both  # before any manifest goes
    tags = files(repository, "tags")
    if points[1].id in left:
        assert tags == [f"{points[1].id}/kept", f"{points[1].id}/second"]
    backup_of(tmp_path / "docs")  # the next run removes what was left over
    assert (files(repository, "tags") == []) == (points[1].id not in left)
    assert files(repository, "locks") == []
    assert files(repository, "forgotten") == [name for name in both if name not in left]
    # the same words again end it, also of those that are gone
    assert forget(repository, *words.split(",")).refused == {}
    assert ids(repository) == [point.id for point in points[2:]] + ids(repository)[-1:]
    assert files(repository, "tags") == []
    assert files(repository, "forgotten") == both


def test_what_a_killed_run_removed_is_gone_for_good_when_it_was_run_again(
    repository: Repository, points: list[Point], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "ibtfs", "forget", "-q", repository.path_shown, points[1].id]
    before = power_cuts.Disk(Path(repository.path_shown))
    first = power_cuts.calls_of(command, tmp_path)
    removal = next(c for c in first if c.name == "unlinkat" and "/points/" in c.path)
    sync = next(c for c in first[first.index(removal) :] if c.name == "fsync")
    power_cuts.lay_out(before.now(), Path(repository.path_shown))
    calls = power_cuts.calls_of(command, tmp_path, kill=sync.number)
    calls += power_cuts.calls_of(command, tmp_path)
    list(before.states(calls))
    for state in before.after_a_cut():
        assert f"points/{points[1].id}" not in state
        assert f"forgotten/{points[1].id}" in state


def test_the_id_of_a_point_that_was_replaced_says_that_it_is_not_there(
    repository: Repository, points: list[Point]
) -> None:
    new = replace(points[1], id=f"{points[1].id[:-10]}0123456789", replaces=(points[1].id,))
    repository.points.put(new)
    repository.points.remove(points[1].id)
    assert files(repository, "forgotten") == [points[1].id]
    with pytest.raises(PointNotFound):
        forget(repository, points[1].id)


def test_two_at_the_same_moment_leave_a_point(
    repository: Repository, points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each leaves what the other takes: wherever one is while the other does all of it."""
    place = Path(repository.path_shown)
    before = power_cuts.image_of(place)
    mine, others = [p.id for p in points[:2]], [p.id for p in points[2:]]
    steps = {name: getattr(Points, name) for name in ("all", "note_forgotten", "remove")}
    number = met = 0
    outcomes = set()
    while met == number:
        number, met, refused = number + 1, 0, set()

        def tried(who: str, *words: str) -> None:
            try:
                forget(repository, *words)
            except (RepositoryLocked, UsageError):
                refused.add(who)

        def step(name: str, *args: Any) -> Any:
            nonlocal met
            if met < number:
                met += 1
                if met == number:
                    tried("other", *others)
            return steps[name](*args)

        with monkeypatch.context() as patch:
            for name in steps:
                patch.setattr(Points, name, partialmethod(partial(step, name)))
            tried("one", *mine)
        left = mine * ("one" in refused) + others * ("other" in refused or met < number)
        assert ids(repository) == left, number
        assert left
        assert set(files(repository, "forgotten")) == {*mine, *others} - set(left)
        outcomes.add(frozenset(refused))
        power_cuts.lay_out(before, place)
    assert outcomes >= {frozenset({"one"}), frozenset({"other"})}


def test_the_manifest_is_gone_for_good_before_its_tags_go(
    repository: Repository, points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    unlink, fsync = os.unlink, os.fsync

    def unlinked(name: str, **options: int) -> None:
        calls.append(os.path.basename(name))
        unlink(name, **options)

    def synced(descriptor: int) -> None:
        calls.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "unlink", unlinked)
    monkeypatch.setattr(os, "fsync", synced)
    reopened(repository).points.remove(points[1].id)
    tag, folder = f"sync {points[1].id}", "sync tags"
    note = calls.index("sync forgotten")
    assert calls[note + 1 :] == [points[1].id, "sync points", "kept", tag, "second", tag, folder]
    assert files(repository, "forgotten") == [points[1].id]


def test_beside_a_backup_that_builds_upon_the_point_that_goes(
    tmp_path: Path, repository: Repository, points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "docs"
    (source / "new").write_bytes(b"new" * 1000)
    begun, go_on = threading.Event(), threading.Event()
    store = TreeBackup.store

    def waiting(self: TreeBackup, *args: object, **options: object) -> object:
        begun.set()
        assert go_on.wait(120)
        return store(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(TreeBackup, "store", waiting)
    made: list[Point] = []
    run = threading.Thread(target=lambda: made.append(the_point(back_up(repository, source))))
    run.start()
    assert begun.wait(120)
    forgotten = forget(repository, *(point.id for point in points[1:]))
    go_on.set()
    run.join()
    assert len(forgotten.gone) == 4
    (latest,) = made
    assert latest.parent == points[4].id
    assert ids(repository) == [points[0].id, latest.id]
    assert_comes_back(repository, latest, snapshot(source), tmp_path)


def test_points_go_from_an_open_mount(
    tmp_path: Path, repository: Repository, points: list[Point]
) -> None:
    with mounted(repository, tmp_path / "mnt") as top:
        before = {name: (top / "docs" / name / "file").read_bytes() for name in
                  sorted(set(os.listdir(top / "docs")) - {"latest"})}  # fmt: skip
        names = list(before)
        held = os.open(top / "docs" / names[0] / "file", os.O_RDONLY)
        forget(repository, points[0].id, points[3].id)
        shutil.copytree(top / "docs" / names[2], tmp_path / "copied")
        found = sorted(set(os.listdir(top / "docs")) - {"latest"})
        assert set(found) <= set(before)
        for name in (names[1], names[2], names[4]):
            assert (top / "docs" / name / "file").read_bytes() == before[name]
        try:
            assert os.pread(held, 10_000, 0) == before[names[0]]
        except OSError:
            pass  # or it says that it is gone
        finally:
            os.close(held)


# ---- tags --------------------------------------------------------------------------------------


def test_tags_are_given_and_taken(repository: Repository, points: list[Point]) -> None:
    opened = reopened(repository)
    given = tag_points(opened, "für alle", ["latest", points[0].id, "latest"], NOW)
    assert [p.id for p in given.done] == [points[4].id, points[0].id]
    again = tag_points(opened, "für alle", ["latest", "second"], NOW)
    assert ([p.id for p in again.done], [p.id for p in again.already]) == (
        [points[1].id], [points[4].id]
    )  # fmt: skip
    taken = untag_points(opened, "kept", ["latest", "second"], NOW)
    assert ([p.id for p in taken.done], [p.id for p in taken.already]) == (
        [points[1].id], [points[4].id]
    )  # fmt: skip
    assert opened.points.tags(points[1].id) == ["für alle", "second"]
    assert opened.points.tagged("für alle") == {points[n].id for n in (0, 1, 4)}


@pytest.mark.parametrize("tag", ["", ".", "..", ".hidden", "a/b", "../../x", "a\nb", "x.part"])
def test_what_is_no_tag(tag: str, repository: Repository, points: list[Point]) -> None:
    before = files(repository, "")
    with pytest.raises(UsageError, match="is no tag"):
        tag_points(reopened(repository), tag, ["latest"], NOW)
    assert files(repository, "") == before
