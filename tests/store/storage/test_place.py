"""Where a repository may be made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ibtfs.errors import RepositoryError, RepositoryExists
from ibtfs.store.layout import CONFIG
from ibtfs.store.storage.base import UNFINISHED
from ibtfs.store.storage.place import check_place, exists, is_repository


def test_a_new_or_an_empty_folder_is_a_place(tmp_path: Path) -> None:
    check_place(os.fsencode(tmp_path / "new"))
    check_place(os.fsencode(tmp_path))
    (tmp_path / f"x.0{UNFINISHED}").touch()  # of an attempt that was cut off
    check_place(os.fsencode(tmp_path))
    assert not is_repository(os.fsencode(tmp_path))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda path: (path / CONFIG).touch(), "a repository already"),
        (lambda path: (path / "file").touch(), "not empty"),
        (lambda path: [path.rmdir(), path.touch()], "not a folder"),
        (lambda path: [path.rmdir(), path.symlink_to("nowhere")], "not a folder"),
    ],
)
def test_what_holds_something_is_none(tmp_path: Path, made: object, told: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    assert callable(made)
    made(place)
    with pytest.raises(RepositoryExists, match=told):
        check_place(os.fsencode(place))
    assert exists(os.fsencode(place))
    assert is_repository(os.fsencode(place)) == (told == "a repository already")


def test_nor_is_a_disk_that_is_not_plugged_in(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="unplugged"):
        check_place(os.fsencode(tmp_path / "disk" / "repository"))
    assert not exists(os.fsencode(tmp_path / "disk"))


def test_a_folder_is_opened_without_what_other_machines_take() -> None:
    """Each command would pay for it, and most repositories lie in a folder."""
    script = "import sys, ibtfs.store.repository, ibtfs.store.storage.opening\n"
    script += "print(*(n for n in sys.modules if n.startswith('ibtfs.store.storage.')))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    found = {name.split(".")[3] for name in done.stdout.decode().split()}
    assert "local" in found
    assert not found & {"objects", "pipe", "reconnecting", "remote", "sftp", "ssh", "waiting"}
