"""One rule for every read of an archive: who misses something lists it again, once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged, ObjectMissing
from ibtfs.format.frames import CONTENTS, SMALL
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalObject, LocalStorage
from tests.support.generations import put_generation
from tests.support.repositories import back_up, reopened, the_point
from tests.support.trees import make_tree

READS: dict[str, Callable[[ArchiveReader], object]] = {
    "header": lambda archive: archive.header,
    "require_header": lambda archive: archive.require_header(),
    "file": lambda archive: archive.file("index"),
    "body": lambda archive: archive.body(CONTENTS, 0),
    "content": lambda archive: archive.content(0),
    "content_digest": lambda archive: archive.content_digest(0),
    "contents": lambda archive: list(archive.contents()),
    "state": lambda archive: archive.state(0),
    "payload": lambda archive: archive.payload(SMALL, 0, 5),
    "frame_at": lambda archive: archive.frame_at(SMALL, 0),
    "covers": lambda archive: archive.covers(SMALL, 0, 5),
    "may_hold": lambda archive: list(archive.may_hold(bytes(32))),
}


@pytest.fixture
def folder(tmp_path: Path, repository: Repository) -> Path:
    """The folder of an archive; its files may be given a second generation."""
    make_tree(tmp_path / "source", {"a": b"12345"})
    point = the_point(back_up(repository, tmp_path / "source"))
    return Path(os.fsdecode(repository.path), "archives", point.state.archive)


def replace(folder: Path) -> None:
    """Give each file of an archive a second generation, as pruning does; the first ones go."""
    for path in list(folder.iterdir()):
        put_generation(path, 2)
        path.unlink()


@pytest.mark.parametrize("read", READS)
def test_a_file_that_is_replaced_between_listing_and_opening(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    archive, real = reopened(repository).archive(folder.name), LocalStorage.open
    left = [1]

    def opened(storage: LocalStorage, name: str) -> LocalObject:
        if left:
            left.pop()
            replace(folder)
        return real(storage, name)

    monkeypatch.setattr(LocalStorage, "open", opened)
    READS[read](archive)
    assert not left


@pytest.mark.parametrize("read", READS)
@pytest.mark.damaged
def test_what_stays_missing_is_told(repository: Repository, folder: Path, read: str) -> None:
    archive = reopened(repository).archive(folder.name)
    shutil.rmtree(folder)
    with pytest.raises(ObjectMissing, match=r"no such file in the repository"):
        READS[read](archive)


@pytest.mark.damaged
def test_a_header_that_cannot_be_read_is_found_without_asserts(
    repository: Repository, folder: Path
) -> None:
    index = folder / "index.1"
    data = bytearray(index.read_bytes())
    data[: len(data) // 2] = bytes(len(data) // 2)
    index.write_bytes(data)
    with pytest.raises(FormatDamaged):
        reopened(repository).archive(folder.name).require_header()


@pytest.mark.damaged
@pytest.mark.parametrize("read", ["body", "state", "payload", "frame_at", "contents"])
def test_what_was_healed_is_read_though_the_damaged_file_is_open(
    repository: Repository, folder: Path, read: str
) -> None:
    archive = reopened(repository).archive(folder.name)
    files = {kind: archive.file(kind) for kind in archive.kinds if (folder / f"{kind}.1").exists()}
    before = {kind: (folder / f"{kind}.1").read_bytes() for kind in files}
    for kind, opened in files.items():
        with (folder / f"{kind}.1").open("r+b") as file:  # in place: it is the file that is open
            for offset in (offset for one in opened.tables.values() for offset in one.offsets):
                file.seek(offset + 8)
                file.write(b"damage")
    with pytest.raises(FormatDamaged):
        READS[read](archive)
    for kind, data in before.items():
        with repository.storage.replace(f"archives/{folder.name}/{kind}.1") as upload:
            upload.write(data)
            upload.finish()
    READS[read](archive)
