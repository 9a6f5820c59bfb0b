"""Backups into a damaged repository: they come about, and make good what was lost."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer
from ibtfs.actions.restore.run import RestoreOptions, restore
from ibtfs.errors import IntegrityError
from ibtfs.format.frames import CONTENTS
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry as Row
from tests.support import differences, snapshot
from tests.support.damage import Sample, frames_of, lowered, read_files
from tests.support.realdata import mixed
from tests.support.repositories import (
    Backup,
    Recorder,
    assert_comes_back,
    back_up,
    damages,
    reopened,
    restored,
    restored_tree,
    row,
    settle,
    settled,
    the_point,
)
from tests.support.trees import Directory, File, Hardlink, Sparse, make_tree
from tests.support.views import viewed_tree

ID = b"i" * 16
STEP = 3
"""Every so many frames of the sample one is damaged by a test."""


def _tree(rng: random.Random) -> Directory:
    leaf = {f"f{n}": b"%d: " % n + rng.randbytes(300) for n in range(4)}
    return Directory({
        "deep": {"er": {"est": leaf, "file": b"deep"}, "other": {"x": b"x"}},
        "many": {f"m{n:02}": rng.randbytes(50) for n in range(12)},
        "marked": Directory({"in": b"1"}, xattrs={"user.long": rng.randbytes(300)}),
        "long": File(b"x", xattrs={"user.long": rng.randbytes(300)}),
        "big": rng.randbytes(100_000), "link": Hardlink("big"),
        "sparse": Sparse(200_000, {100_000: b"middle"}), "kept": b"cannot be read later",
    })  # fmt: skip


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sample, Path]]:
    """A repository of three points whose states lie in several archives, and its source."""
    work = tmp_path_factory.mktemp("healing")
    rng, source, path = random.Random(3), work / "source", work / "repository"
    with lowered():
        repository = Repository.create(os.fsencode(path), ID)
        make_tree(source, _tree(rng))
        for number in range(3):
            time.sleep(0.02)
            assert back_up(repository, source).point
            (source / "deep/other/x").write_bytes(b"x%d" % number)
            (source / "many/m03").write_bytes(rng.randbytes(60))
        yield Sample(read_files(path), {}), source


def _damaged(files: dict[str, bytes], place: Path, name: str, position: int) -> Repository:
    for other, data in files.items():
        (place / other).parent.mkdir(parents=True, exist_ok=True)
        (place / other).write_bytes(data)
    for folder in ("locks", "damaged", "tags"):
        (place / folder).mkdir(exist_ok=True)
    changed = bytearray(files[name])
    changed[position] ^= 0x55
    (place / name).write_bytes(changed)
    return Repository.open(os.fsencode(place))


def _places(sample: Sample) -> list[tuple[str, int]]:
    found = [
        (name, offset + min(40, size // 2))
        for name in sample.files
        if name.startswith("archives/")
        for offset, size in frames_of(sample, name)
    ]
    assert len(found) > 20
    return found


@pytest.mark.parametrize("first", range(STEP))
def test_damage_is_healed(sample: tuple[Sample, Path], first: int, fast_path: Path) -> None:
    made, source = sample
    expected = snapshot(source)
    wrong = []
    with lowered():
        for name, position in _places(made)[first::STEP]:
            where = f"{name} at {position}"
            repository = _damaged(made.files, fast_path / "repository", name, position)
            # twice: first without knowing what is damaged, then with the notes of check
            for step in ("before check", "after check"):
                try:
                    point = back_up(repository, source).point
                except Exception as error:
                    wrong.append(f"{where}: {step}: {type(error).__name__}: {error}")
                    break
                assert point
                damages(repository)
            else:
                out, told = fast_path / "out", Recorder()
                newest = reopened(repository).points().points[-1]
                restore(reopened(repository), newest, [], os.fsencode(out), RestoreOptions(), told)
                wrong += [f"{where}: restored: {line}" for line in told.problems]
                wrong += [f"{where}: {line}" for line in differences(expected, snapshot(out))]
                shutil.rmtree(out)
            shutil.rmtree(fast_path / "repository")
    assert wrong == []


def test_a_row_that_is_kept_leads_to_what_can_be_read(
    sample: tuple[Sample, Path], fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be read any more, whose record was lost, does not end every run."""
    made, source = sample
    inode, real = (source / "kept").stat().st_ino, os.open

    def refusing(path: object, flags: int, *rest: int, **options: object) -> int:
        if path == b"kept":
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *rest, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "open", refusing)
    assert inode
    with lowered():
        for name, position in _places(made)[::STEP]:
            repository = _damaged(made.files, fast_path / "repository", name, position)
            os.utime(source / "kept", ns=(position, position))
            recorder = Recorder()
            assert back_up(repository, source, recorder).point, name
            assert b"kept" in [path for path, _ in recorder.problems]
            shutil.rmtree(fast_path / "repository")


MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.damaged
@pytest.mark.parametrize("name", [b"small", b"large", b"delta", b"attributes"])
def test_a_damaged_content_heals_at_the_next_backup(
    name: bytes, source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    make_tree(source, {
        "small": random.Random(1).randbytes(5000), "large": random.Random(2).randbytes(5 * MIB),
        "delta": random.Random(3).randbytes(100_000), "other": random.Random(4).randbytes(5000),
        "attributes": File(b"x", xattrs={"user.large": random.Random(5).randbytes(600)}),
    })  # fmt: skip
    backup_of(source)
    with (source / "delta").open("r+b") as file:
        file.write(random.Random(6).randbytes(700))
    settle()
    old = the_point(backup_of(source))
    expected = snapshot(source)
    damage_content(repository, row(repository, old, name))
    [line] = [line for line in damages(repository) if "record" in line or "content" in line][:1]
    result = check(reopened(repository), read_data=True, observer=Observer())
    told = {path for damage in result.damages for path in damage.paths}
    assert name in told, line
    fresh = the_point(backup_of(source))
    assert_comes_back(repository, fresh, expected, tmp_path)
    assert_comes_back(repository, old, expected, tmp_path)
    assert row(repository, fresh, name) != row(repository, old, name)
    settled = backup_of(source)
    assert settled.tally.counts["bytes_read"] == 0


def damage_content(repository: Repository, entry: Row) -> None:
    """Flip a byte of the frame that holds the first byte of the payload of *entry*."""
    ref = entry.content if entry.name != b"attributes" else entry.xattrs_content
    assert ref is not None
    archive = reopened(repository).archive(ref.archive)
    record = archive.content(ref.number)
    opened = archive.file(archive._kind(record.stream))
    table = opened.table(record.stream)
    frame = table.find(record.start)
    path = Path(os.fsdecode(repository.path), opened.name)
    flip(path, table.offsets[frame] + table.sizes[frame] // 2)


@pytest.mark.damaged
def test_what_is_damaged_and_gone_from_the_source_is_named_and_costs_only_itself(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    make_tree(source, {"lost": random.Random(1).randbytes(200_000), "kept": mixed(1, 5000)})
    old = the_point(backup_of(source))
    damage_content(repository, row(repository, old, b"lost"))
    (source / "lost").unlink()
    damages(repository)
    new = the_point(backup_of(source))
    assert_comes_back(repository, new, snapshot(source), tmp_path)
    with pytest.raises(IntegrityError, match="lost"):
        viewed_tree(reopened(repository), old)
    tally = restored(repository, old, tmp_path / "back")
    assert [path for path, _ in tally.problems] == [b"lost"]
    assert sorted(os.listdir(tmp_path / "back")) == ["kept"]


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
