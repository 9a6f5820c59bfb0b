"""Backups into a damaged repository: they come about, and make good what was lost."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.actions.restore.run import RestoreOptions, restore
from ibtfs.store.repository import Repository
from tests.support import differences, snapshot
from tests.support.damage import Sample, frames_of, lowered, read_files
from tests.support.repositories import Recorder, back_up, damages, reopened
from tests.support.trees import Directory, File, Hardlink, Sparse, make_tree

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
                newest = reopened(repository).points.all().points[-1]
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
