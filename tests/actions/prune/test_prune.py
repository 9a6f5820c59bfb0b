"""Prune: what is refused, what is kept for others, and what a damage may hide."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.actions import alone as alone_module
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune import decide as decide_module
from ibtfs.actions.prune import run as prune_module
from ibtfs.actions.prune.decide import decide
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.errors import LockLost, RepositoryError, RepositoryLocked
from ibtfs.format.frames import CONTENTS, MAPS, STATES
from ibtfs.store import layout
from ibtfs.store.archives.rewriter import FileRewriter
from ibtfs.store.lock import EXCLUSIVE, PRUNE, SHARED
from ibtfs.store.repository import Repository
from tests.support.protecting import protected
from tests.support.removal import assert_whole, forget, pruned, stored_bytes
from tests.support.repositories import Backup, back_up, on_disk, reopened, settle, the_point
from tests.support.trees import make_tree


def files_of(repository: Repository) -> set[str]:
    root = Path(os.fsdecode(repository.path))
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def three(source: Path, backup_of: Backup) -> list[str]:
    """The ids of three points: of each, something that no other has."""
    ids = []
    for number in range(3):
        make_tree(source, {f"only{number}": os.urandom(20_000), f"both{number}": os.urandom(9000)})
        ids.append(the_point(backup_of(source)).id)
        (source / f"only{number}").unlink()
    return ids


def test_a_dry_run_changes_nothing(repository: Repository, three: list[str]) -> None:
    forget(repository, three[:1])
    before = files_of(repository)
    result = pruned(repository, dry_run=True)
    assert files_of(repository) == before
    assert 19_000 < result.freed < 25_000
    assert result.room > 0


def test_the_middle_goes_and_the_rest_is_whole(repository: Repository, three: list[str]) -> None:
    forget(repository, [three[1]])
    before = stored_bytes(repository)
    result = pruned(repository)
    assert result.freed == pytest.approx(before - stored_bytes(repository), abs=0)
    assert 19_000 < result.freed < 25_000
    assert not any("forgotten" in name for name in files_of(repository)) or three[1] in {
        name.rpartition(".")[0] for name in reopened(repository).archive_ids()
    }
    assert_whole(repository)


@pytest.mark.damaged
def test_what_a_damaged_manifest_may_need_is_not_removed(
    repository: Repository, three: list[str]
) -> None:
    forget(repository, three[:1])
    manifest = Path(on_disk(repository.storage, layout.point(three[1])))
    data = manifest.read_bytes()
    manifest.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    before = files_of(repository)
    with pytest.raises(RepositoryError, match=three[1]):
        pruned(repository)
    assert files_of(repository) == before


@pytest.mark.damaged
def test_lost_manifests_are_not_taken_for_removed_points(
    repository: Repository, three: list[str]
) -> None:
    for point_id in three:
        repository.storage.delete(layout.point(point_id))
    before = files_of(repository)
    with pytest.raises(RepositoryError, match="manifests lost"):
        pruned(repository)
    assert files_of(repository) == before


def test_a_run_that_was_cut_off_is_waited_for(
    source: Path, repository: Repository, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its archives stay for two days: the next run finds in them what it need not store again."""
    make_tree(source, {"large": os.urandom(300_000)})
    with monkeypatch.context() as patch:
        patch.setattr("ibtfs.actions.backup.run.commit", lambda writer, *_, **__: writer.close())
        patch.setattr(
            "ibtfs.store.writing.run.RunWriter.close",
            lambda writer: (writer.close_archive(), 1 / 0),
            raising=False,
        )
        with pytest.raises(ZeroDivisionError):
            back_up(repository, source)
    young = set(repository.archive_ids()) - {f"{point_id}.0" for point_id in three}
    assert len(young) == 1
    assert pruned(repository).young == 1
    assert set(repository.archive_ids()) >= young
    monkeypatch.setattr(decide_module, "YOUNG_SECONDS", -1)
    assert pruned(repository).young == 0
    assert not set(repository.archive_ids()) & young
    assert_whole(repository)


@pytest.mark.parametrize("stream", [STATES, CONTENTS, MAPS])
@pytest.mark.damaged
def test_what_is_damaged_keeps_all_that_may_hang_on_it(
    source: Path, repository: Repository, backup_of: Backup, stream: int
) -> None:
    """What can be read before can be read afterwards, from the points that stay."""
    data = bytearray(os.urandom(50_000))
    ids = []
    for number in range(4):
        data[number * 1000 : number * 1000 + 50] = os.urandom(50)
        (source / "file").write_bytes(data)
        (source / f"new{number}").write_bytes(os.urandom(3000))
        ids.append(the_point(backup_of(source)).id)
    forget(repository, [ids[0], ids[2]])
    reader = reopened(repository).archive(f"{ids[3]}.0")
    index = reader.file(layout.INDEX)
    path = Path(on_disk(repository.storage, index.name))
    table = index.table(stream)
    data = bytearray(path.read_bytes())
    data[table.offsets[0] + 30] ^= 1
    path.write_bytes(data)
    result = pruned(repository)
    assert result.damages != []
    data[table.offsets[0] + 30] ^= 1  # it was only this copy of it
    newest = on_disk(repository.storage, layout.archive_file(f"{ids[3]}.0", layout.INDEX, 1))
    Path(newest).write_bytes(data)
    assert_whole(repository)


def test_two_prunes_exclude_each_other(repository: Repository, three: list[str]) -> None:
    with reopened(repository).lock(PRUNE), pytest.raises(RepositoryLocked):
        pruned(repository)
    with reopened(repository).lock(PRUNE), reopened(repository).lock(SHARED):
        pass


def test_a_backup_at_work_is_waited_for_and_not_kept_waiting(
    source: Path, repository: Repository, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(repository, three[:1])
    other = reopened(repository).lock(SHARED)
    waited = []

    def sleep(_: float) -> None:
        # meanwhile others can begin, too
        reopened(repository).lock(SHARED).release()
        waited.append(1)
        if len(waited) == 3:
            other.release()

    monkeypatch.setattr(alone_module.time, "sleep", sleep)
    assert pruned(repository).freed > 0
    assert len(waited) == 3
    assert_whole(repository)


def test_who_is_at_work_for_too_long_is_named(repository: Repository, three: list[str]) -> None:
    forget(repository, three[:1])
    before = files_of(repository)
    with (
        reopened(repository).lock(SHARED),
        pytest.raises(RepositoryLocked, match=str(os.getpid())),
    ):
        pruned(repository, wait=0)
    assert files_of(repository) == before


def test_a_backup_that_ended_meanwhile_is_counted(
    source: Path, repository: Repository, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have adopted what nobody needed when it was decided."""
    only0 = {"again": os.urandom(20_000)}
    make_tree(source, only0)
    gone = the_point(back_up(repository, source)).id
    forget(repository, [gone])
    real, added = decide, []

    def decide_slowly(opened: Repository, **options: object) -> object:
        decision = real(opened, **options)  # type: ignore[arg-type]
        if not added:
            added.append(the_point(back_up(repository, source)))
        return decision

    monkeypatch.setattr(prune_module, "decide", decide_slowly)
    pruned(repository)
    assert added
    assert added[0].id in repository.points.ids()
    assert_whole(repository)


def test_who_lost_the_lock_changes_nothing_more(
    repository: Repository, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prune that slept while its locks were broken: what it had begun gets no name."""
    forget(repository, three[:2])
    before = files_of(repository)
    real = FileRewriter.finish

    def finish(rewriter: FileRewriter) -> int:
        for name in repository.storage.list(layout.LOCKS):
            repository.storage.delete(layout.lock(name))
            repository.storage.drop_unfinished(name.rpartition("_")[2])
        return real(rewriter)

    monkeypatch.setattr(FileRewriter, "finish", finish)
    with pytest.raises(LockLost):
        prune(reopened(repository), PruneOptions(all_of_it=True), Observer())
    monkeypatch.undo()
    after = files_of(repository)
    assert {name for name in after - before if not name.endswith("removed")} == set()
    assert before - after == set()
    assert_whole(repository)


def test_the_lock_for_the_moment_is_given_back(repository: Repository, three: list[str]) -> None:
    forget(repository, three[:1])
    pruned(repository)
    assert repository.storage.list(layout.LOCKS) == []
    reopened(repository).lock(EXCLUSIVE).release()


def test_shells_are_no_contents(source: Path, repository: Repository, backup_of: Backup) -> None:
    """What is stored again is not taken from what is kept for others only."""
    versions, data, ids = [], bytearray(os.urandom(60_000)), []
    for number in range(5):
        data[number * 9000 : number * 9000 + 2000] = os.urandom(2000)
        versions.append(bytes(data))
        (source / "file").write_bytes(data)
        ids.append(the_point(backup_of(source)).id)
    forget(repository, ids[:4])
    assert pruned(repository).rebuilt == 1
    assert_whole(repository)
    for number, version in enumerate(versions[:4]):
        (source / f"again{number}").write_bytes(version)
    the_point(backup_of(source))
    assert_whole(repository)
    (source / "file").write_bytes(versions[2])
    ids.append(the_point(backup_of(source)).id)
    forget(repository, ids[4:5])
    pruned(repository)
    assert_whole(repository)


def test_nothing_goes_for_want_of_points_unless_that_is_said(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    """A run of an unchanged source leaves nothing but its manifest, which may be lost."""
    make_tree(source, {"only": os.urandom(20_000)})
    settle()
    first, last = (the_point(backup_of(source)).id for _ in range(2))
    forget(repository, [first])
    repository.storage.delete(layout.point(last))  # lost
    before = files_of(repository)
    with pytest.raises(RepositoryError, match="--allow-none"):
        pruned(repository, allow_none=False)
    assert files_of(repository) == before
    assert pruned(repository).removed == 1


def test_the_note_of_a_point_that_is_about_to_go_stays(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    """Also where its run left no archive: another who removes points must see it."""
    make_tree(source, {"only": b"1"})
    settle()
    _, last = (the_point(backup_of(source)).id for _ in range(2))
    repository.points.note_forgotten(last)
    with repository.lock(SHARED):
        pruned(repository)
    assert repository.points.forgotten() == [last]


@pytest.mark.parametrize("share", [0, 10])
def test_what_is_freed_is_told_as_the_size_is(
    repository: Repository, three: list[str], share: int
) -> None:
    """Parity is counted in neither: it comes and goes with what it protects."""
    if share:
        assert protected(repository, share) == []
    forget(repository, three)
    foretold = pruned(repository, dry_run=True)
    result = pruned(repository)
    assert result.removed == foretold.removed == 3
    assert result.freed == foretold.freed == result.size == foretold.size
