"""What others may do to a repository while it is written to, and what that must not do to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ibtfs.errors import IbtfsError, NotARepository, ObjectMissing, StorageFailed
from ibtfs.store.archives import file as frame_file
from ibtfs.store.repository import Repository
from ibtfs.store.storage import local, upload
from tests.support.repositories import back_up, damages, restored, the_point
from tests.support.trees import make_tree


def place_of(repository: Repository) -> Path:
    return Path(os.fsdecode(repository.path))


def test_an_index_that_has_its_name_is_never_removed(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run adopts from it as soon as it is there, whatever becomes of its writer."""
    make_tree(tmp_path / "one", {"a": b"12345" * 100})
    make_tree(tmp_path / "other", {"b": b"12345" * 100})
    real, done, armed = upload.sync_names, [], [True]

    def sync_names(folder: int) -> None:
        real(folder)
        if armed and "index.1" in os.listdir(folder):
            armed.clear()
            done.append(the_point(back_up(repository, tmp_path / "other")))
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(upload, "sync_names", sync_names)
    with pytest.raises(StorageFailed):
        back_up(repository, tmp_path / "one")
    assert damages(repository) == []
    assert restored(repository, done[0], tmp_path / "back").problems == []
    assert (tmp_path / "back/b").read_bytes() == b"12345" * 100


@pytest.mark.damaged
def test_a_run_whose_files_were_removed_does_not_commit(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path / "source", {"a": os.urandom(300_000)})
    real = frame_file.FrameFileWriter.finish

    def finish(writer: frame_file.FrameFileWriter) -> int:
        size = real(writer)
        if writer._name.endswith("/index"):
            (place_of(repository) / f"{writer._name[:-5]}data.1").unlink()
        return size

    monkeypatch.setattr(frame_file.FrameFileWriter, "finish", finish)
    with pytest.raises(
        ObjectMissing, match=r"data is gone, it was removed meanwhile: back up again"
    ):
        back_up(repository, tmp_path / "source")
    assert repository.points.ids() == []


@pytest.mark.damaged
@pytest.mark.parametrize("folder", ["archives", "tags"])
@pytest.mark.parametrize("below", [True, False])
def test_a_link_among_the_folders_leads_to_nothing_that_is_deleted(
    tmp_path: Path, repository: Repository, folder: str, below: bool
) -> None:
    """Where a group writes, a member could put a link to any folder there."""
    make_tree(tmp_path / "source", {"a": b"1"})
    make_tree(tmp_path / "precious", {"x": {"file": b"1"}, "note.part": b"2"})
    place = place_of(repository)
    link = place / folder / "x" if below else place / folder
    if not below:
        (place / folder).rmdir()
    link.symlink_to(tmp_path / "precious" / ("x" if below else ""))
    try:
        back_up(repository, tmp_path / "source", tags=("t",))
    except IbtfsError:
        assert not below  # a repository without its folders cannot be written to
    assert (tmp_path / "precious/x/file").read_bytes() == b"1"
    assert (tmp_path / "precious/note.part").exists()
    assert sorted(os.listdir(tmp_path / "precious")) == ["note.part", "x"]


@pytest.mark.damaged
@pytest.mark.parametrize("name", ["points/20261120T101112Z_host_0a", "ibtfs.json", "damaged/x"])
@pytest.mark.parametrize("command", ["list", "check"])
def test_what_is_no_file_makes_nobody_wait(repository: Repository, name: str, command: str) -> None:
    path = place_of(repository) / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    done = subprocess.run(
        [sys.executable, "-m", "ibtfs", command, os.fsdecode(repository.path)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    if name.startswith("damaged"):
        return
    assert done.returncode in (1, 10)
    assert "is not a regular file" in done.stderr
    if name == "ibtfs.json":
        with pytest.raises(NotARepository, match="is not a regular file"):
            Repository.open(repository.path)


def test_a_committed_point_is_not_read_back(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails after the commit must not make a failure of what is done."""
    make_tree(tmp_path / "source", {"a": b"1"})
    point = the_point(back_up(repository, tmp_path / "source"))
    again = Repository.open(repository.path)
    point = again.points.commit(point.__class__(**{**vars(point), "id": point.id[:-2] + "zz"}))
    monkeypatch.setattr(local.LocalStorage, "open", None)
    assert again.points.get(point.id) == point
