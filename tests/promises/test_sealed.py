"""Sealed repositories: who reads the storage learns nothing, and all works as it does elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.check import check
from ibtfs.actions.forget.tags import tag_points
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.errors import FormatDamaged, RepositoryError, RepositoryExists, UsageError, WrongKey
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.keyring import Secret
from ibtfs.store.lock import EXCLUSIVE, PRUNE, SHARED
from ibtfs.store.repository import Repository
from ibtfs.store.sealing import SecretUnlock
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.upload import LocalUpload
from tests.support import snapshot
from tests.support.commands import run
from tests.support.repositories import damages, restored_tree
from tests.support.sealing import (
    QUICK,
    SECRET,
    changes_of,
    create_sealed,
    open_sealed,
)
from tests.support.trees import make_tree

NOW = datetime(2027, 1, 1)
SECRET_WORDS = (b"Grandmother", b"diagnosis", b"hidden-host", b"quarterly", b"for the lawyer")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "Grandmother"
    make_tree(path, {
        "diagnosis.txt": b"diagnosis: " + bytes(range(256)) * 40, "deep": {"diagnosis": b"x" * 70},
        "large": os.urandom(300_000), "Grandmother.db": b"Grandmother" * 30_000,
    })  # fmt: skip
    return path


def backed_up(repository: Repository, source: Path) -> Point:
    options = BackupOptions(host="hidden-host", tags=("quarterly",), comment="for the lawyer")
    result = backup(repository, os.fsencode(source), options, Observer())
    assert result.point is not None
    assert not result.tally.problems
    return result.point


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create_sealed(tmp_path / "repo")


def test_nothing_of_the_source_is_seen(
    repository: Repository, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in an object, nor in a name: after backups, tags, notes, removal, and with a lock."""
    monkeypatch.setattr("ibtfs.store.repository.machine_name", lambda: "hidden-host-0123abcd")
    first = backed_up(repository, source)
    (source / "diagnosis.txt").write_bytes(b"diagnosis: none" * 1000)
    second = backed_up(repository, source)
    tag_points(repository, "quarterly", [second.id], None)
    number = next(iter(repository.archive(second.state.archive).contents()))[0]
    repository.damage.add("0123456789abcdef", [Reference(second.state.archive, number)])
    repository.points.remove(first.id)
    prune(repository, PruneOptions(), Observer())
    digests = {
        blake3(path.read_bytes()).digest()[:16] for path in source.rglob("*") if path.is_file()
    }
    root = tmp_path / "repo"
    with repository.lock("shared"):
        seen = [path.relative_to(root).as_posix().encode() for path in root.rglob("*")]
        seen += [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert any(b"locks/shared" in text for text in seen)
    for word in (*SECRET_WORDS, *digests):
        assert not any(word in text for text in seen), word
    assert {path.stat().st_size % 16 for path in root.rglob("points/*")} == {0}
    assert damages(repository) == []


def test_points_come_back_and_space_is_freed(
    repository: Repository, source: Path, tmp_path: Path
) -> None:
    trees = {}
    for turn in range(4):
        (source / "large").write_bytes(os.urandom(200_000 + turn))
        (source / f"more-{turn}").write_bytes(b"more" * turn)
        trees[backed_up(repository, source).id] = snapshot(source)
    points = repository.points.all().points
    for point in points[:2]:
        repository.points.remove(point.id)
    result = prune(repository, PruneOptions(), Observer())
    assert result.freed > 400_000
    assert not result.failed
    again = open_sealed(tmp_path / "repo")
    for point in again.points.all().points:
        assert restored_tree(again, point, tmp_path / point.id) == trees[point.id]
    assert check(again, read_data=True, observer=Observer()).damages == []
    assert [again.points.tags(point.id) for point in points[2:]] == [["quarterly"]] * 2


def test_files_of_equal_bytes_look_different(tmp_path: Path, source: Path) -> None:
    """Of two repositories of one person nothing tells that they have the same in them."""
    stored = []
    for name in ("one", "two"):
        made = create_sealed(tmp_path / name)
        backed_up(made, source)
        data = max((tmp_path / name).rglob("data.1"), key=lambda path: path.stat().st_size)
        stored.append(data.read_bytes()[:-64])  # the trailer tells of no content
    blocks = [{data[at : at + 16] for at in range(0, len(data), 16)} for data in stored]
    common = blocks[0] & blocks[1]
    assert common == set()


def test_sizes_of_objects_tell_little_of_sizes_of_files(tmp_path: Path) -> None:
    """Files whose sizes differ by one in a hundred may well be stored alike."""
    sizes = set()
    for number, size in enumerate((297_000, 297_001, 297_777, 299_000, 300_500)):
        made = create_sealed(tmp_path / f"{number}")
        (tmp_path / f"source{number}").mkdir()
        (tmp_path / f"source{number}" / "film").write_bytes(os.urandom(size))
        backed_up(made, tmp_path / f"source{number}")
        (data,) = (tmp_path / f"{number}").rglob("data.1")
        sizes.add(data.stat().st_size)
    assert len(sizes) == 1


def test_what_a_machine_keeps_is_closed_to_others(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caches, which know names and digests, what it has seen, and its key file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run("init", "-q", "--key-file", tmp_path / "key", tmp_path / "mine")
    monkeypatch.setenv("IBTFS_KEY_FILE", str(tmp_path / "key"))
    for number in range(2):
        (source / "large").write_bytes(os.urandom(100_000 + number))
        run("backup", "-q", source, tmp_path / "mine")
    run("prune", "-q", tmp_path / "mine")
    for folder in (tmp_path / "cache/ibtfs", tmp_path / "state/ibtfs"):
        assert any(folder.iterdir())
        assert folder.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "secrets", [[], [Secret("passphrase", b"wrong")], [Secret("file", SECRET.data)]]
)
def test_nobody_else_gets_in(repository: Repository, tmp_path: Path, secrets: list[Secret]) -> None:
    with pytest.raises(WrongKey):
        Repository.open(os.fsencode(tmp_path / "repo"))
    with pytest.raises(WrongKey):
        Repository.open(
            os.fsencode(tmp_path / "repo"), unlock=SecretUnlock(secrets, is_expected=True)
        )


def test_keys_are_added_exchanged_and_removed(
    repository: Repository, source: Path, tmp_path: Path
) -> None:
    path, other, third = tmp_path / "repo", Secret("file", b"k" * 32), Secret("passphrase", b"3")
    backed_up(repository, source)
    _, changes = changes_of(path)
    added = changes.add(other, "machine x", QUICK)
    assert [one.label for one in changes.slots()] == ["", "machine x"]
    assert open_sealed(path, other).points.all().points
    _, changes = changes_of(path, other)
    changes.exchange(third, QUICK)
    with pytest.raises(WrongKey):
        open_sealed(path, other)
    _, changes = changes_of(path, third)
    assert [one.label for one in changes.slots() if one.is_in_use] == ["machine x"]
    with pytest.raises(UsageError, match="no one key"):
        changes.remove(added.id)
    first = next(one for one in changes.slots() if not one.is_in_use)
    changes.remove(first.id[:6])
    with pytest.raises(WrongKey):
        open_sealed(path)
    _, changes = changes_of(path, third)
    with pytest.raises(UsageError, match="only key"):
        changes.remove(changes.slots()[0].id)
    assert len(os.listdir(path / "keys")) == 2
    assert damages(open_sealed(path, third)) == []


def test_a_renewed_master_seals_what_is_written_then(
    repository: Repository, source: Path, tmp_path: Path
) -> None:
    path = tmp_path / "repo"
    old_keys = {one.name: one.read_bytes() for one in (path / "keys").iterdir()}
    first = backed_up(repository, source)
    _, changes = changes_of(path)
    assert changes.rotate() == 2
    again = open_sealed(path)
    (source / "new").write_bytes(b"of the second master" * 100)
    second = backed_up(again, source)
    assert damages(again) == []
    # who has the old keys alone reads what was sealed by them, and nothing else
    shutil.rmtree(path / "keys")
    (path / "keys").mkdir()
    for name, data in old_keys.items():
        (path / "keys" / name).write_bytes(data)
    found = open_sealed(path).points.all()
    assert [point.id for point in found.points] == [first.id]
    assert list(found.damaged) == [second.id]


def test_by_older_keys_nothing_is_done(tmp_path: Path) -> None:
    """They would not tell that an archive was removed: a new point could need it."""
    create_sealed(tmp_path / "repo")
    early = changes_of(tmp_path / "repo")[0]
    changes_of(tmp_path / "repo")[1].rotate()
    for kind in (SHARED, PRUNE, EXCLUSIVE):
        with pytest.raises(RepositoryError, match="keys of the repository were changed"):
            early.lock(kind)
    assert early.locks() == []
    with changes_of(tmp_path / "repo")[0].lock(EXCLUSIVE):
        pass


def test_what_a_prune_writes_is_sealed_by_the_newest_master(
    repository: Repository, source: Path, tmp_path: Path
) -> None:
    """Who has learnt an old one reads nothing of it, though most frames are as they were."""
    trees = {}
    for turn in range(3):
        (source / "large").write_bytes(os.urandom(200_000 + turn))
        (source / f"more-{turn}").write_bytes(os.urandom(90_000))
        trees[backed_up(repository, source).id] = snapshot(source)
    changes_of(tmp_path / "repo")[1].rotate()
    again = open_sealed(tmp_path / "repo")
    newest = again.keys.new_frames("any").envelope
    again.points.remove(next(iter(trees)))
    assert prune(again, PruneOptions(), Observer()).rewritten
    again = open_sealed(tmp_path / "repo")
    found = set()
    for name, kinds in again.archive_files().items():
        for kind in kinds:
            file = again.archive(name).file(kind)
            found.add((kind, file.generation > 1, file.frames.envelope == newest))
    assert {is_new for _, _, is_new in found} == {False, True}
    assert all(is_rewritten == is_new for _, is_rewritten, is_new in found)
    assert {kind for kind, is_rewritten, _ in found if is_rewritten} == {"data", "index"}
    for point in again.points.all().points:
        assert restored_tree(again, point, tmp_path / point.id) == trees[point.id]
    assert check(again, read_data=True, observer=Observer()).damages == []


def test_one_damaged_copy_of_the_keys_costs_nothing(
    repository: Repository, source: Path, tmp_path: Path
) -> None:
    backed_up(repository, source)
    one, other = sorted((tmp_path / "repo" / "keys").iterdir())
    one.write_bytes(b"spoilt" + one.read_bytes()[6:])
    again = open_sealed(tmp_path / "repo")
    told = damages(again)
    assert len(told) == 1
    assert one.name in told[0]
    backed_up(again, source)
    other.unlink()
    with pytest.raises(FormatDamaged, match="no keys of this repository"):
        open_sealed(tmp_path / "repo")


def test_damaged_newer_keys_stop_writing(
    repository: Repository, source: Path, tmp_path: Path
) -> None:
    """What they would seal by could be what others cannot read."""
    path = tmp_path / "repo"
    before = {one.name: one.read_bytes() for one in (path / "keys").iterdir()}
    backed_up(repository, source)
    changes_of(path)[1].rotate()
    for one in (path / "keys").iterdir():
        one.write_bytes(one.read_bytes()[:-1])
    for name, data in before.items():
        (path / "keys" / name).write_bytes(data)
    again = open_sealed(path)
    assert again.points.all().points
    with pytest.raises(Exception, match="newer keys and is damaged"):
        backed_up(again, source)


KILLED = 9


def made_and_died(path: Path, after: int) -> bool:
    """Make a sealed repository in a process that dies before its so many-th change; whether so."""
    child = os.fork()
    if not child:
        changes = 0

        def counted(change: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **options: Any) -> Any:
                nonlocal changes
                if changes == after:
                    os._exit(KILLED)
                changes += 1
                return change(*args, **options)

            return wrapped

        code = 1
        try:
            uploads = [(LocalUpload, "write"), (LocalUpload, "finish"), (LocalStorage, "delete")]
            for owner, name in [*uploads, (os, "makedirs"), (os, "mkdir")]:
                setattr(owner, name, counted(getattr(owner, name)))
            create_sealed(path)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


def test_making_one_that_is_cut_off_anywhere_can_be_done_again(tmp_path: Path) -> None:
    """Once it is a repository it has its keys, whole; before that nothing stops the next."""
    after, kinds = 0, set()
    while made_and_died(path := tmp_path / f"{after}", after):
        is_there = (path / "ibtfs.json").exists()
        if not is_there:
            create_sealed(path)
        assert len(os.listdir(path / "keys")) == 2
        assert open_sealed(path).points.all().points == []
        assert damages(open_sealed(path)) == []
        kinds.add(is_there)
        after += 1
    assert after > 10
    assert kinds == {False, True}


def test_a_folder_of_other_keys_is_not_taken_for_what_was_left(tmp_path: Path) -> None:
    (tmp_path / "repo" / "keys").mkdir(parents=True)
    (tmp_path / "repo" / "keys" / "id_ed25519").write_bytes(b"mine")
    with pytest.raises(RepositoryExists, match="not empty"):
        create_sealed(tmp_path / "repo")
    (tmp_path / "repo" / "keys" / "id_ed25519").rename(tmp_path / "repo" / "other")
    with pytest.raises(RepositoryExists, match="not empty"):
        create_sealed(tmp_path / "repo")
