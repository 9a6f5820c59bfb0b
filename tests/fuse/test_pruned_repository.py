"""A mount of a repository that is pruned: it keeps no room, and gives the right bytes."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from ibtfs.actions.observer import Observer
from ibtfs.actions.purge.run import PurgeOptions, purge
from ibtfs.fuse import MountOptions
from ibtfs.store.repository import Repository
from tests.support.mounts import BINDINGS, mounted
from tests.support.removal import forget, pruned
from tests.support.repositories import back_up, create, damages, dated, reopened, settle, the_point
from tests.support.trees import make_tree

SECONDS = 60


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create(tmp_path / "repository")


def removed_but_open(process: int, repository: Repository) -> list[str]:
    """The files of *repository* that a process has open and that have no name any more."""
    folder, found = f"/proc/{process}/fd", []
    for number in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{number}")
        except FileNotFoundError:
            continue  # closed meanwhile
        if target.startswith(os.fsdecode(repository.path)) and target.endswith("(deleted)"):
            found.append(target)
    return found


@pytest.mark.parametrize("binding", BINDINGS)
def test_an_idle_mount_lets_go_of_what_was_pruned(
    binding: str, repository: Repository, tmp_path: Path
) -> None:
    source, rng = tmp_path / "documents", random.Random(5)
    source.mkdir()
    contents, made = [], []
    for number in range(4):
        (source / "own").write_bytes(rng.randbytes(700_000))
        with (source / "large").open("r+b" if number else "wb") as file:
            file.seek(500_000 * number)
            file.write(rng.randbytes(6_000_000 if not number else 400_000))
        contents.append({path.name: path.read_bytes() for path in source.iterdir()})
        settle()
        made.append(dated(repository, the_point(back_up(repository, source)), number - 9))
    with mounted(repository, tmp_path / "mnt", MountOptions(binding=binding)) as top:
        process = int((tmp_path / "mnt.pid").read_text())
        names = sorted(set(os.listdir(top / "documents")) - {"latest"})
        opened = [
            (os.open(top / "documents" / name / file, os.O_RDONLY), expected, place)
            for place, name in enumerate(names)
            for file, expected in contents[place].items()
        ]
        try:
            for handle, expected, _ in opened:
                assert os.pread(handle, 5000, 0) == expected[:5000]
            forget(repository, [made[0].id, made[2].id])
            assert pruned(repository, wait=0, all_of_it=True).freed > 700_000
            assert removed_but_open(process, repository)
            deadline = time.monotonic() + SECONDS
            while removed_but_open(process, repository):
                assert time.monotonic() < deadline, removed_but_open(process, repository)
                time.sleep(0.1)
            Path("/proc/sys/vm/drop_caches").write_text("1")
            for handle, expected, place in opened:
                if place in (1, 3):
                    found = b"".join(iter(lambda h=handle: os.read(h, 1 << 20), b""))
                    assert found == expected
        finally:
            for handle, _, _ in opened:
                os.close(handle)
    assert damages(repository) == []


def test_a_point_from_which_a_path_was_purged_keeps_its_name(
    repository: Repository, tmp_path: Path
) -> None:
    source = tmp_path / "documents"
    make_tree(source, {"secret": b"1234", "other": b"5678", "third": b"9"})
    settle()
    back_up(repository, source)
    with mounted(repository, tmp_path / "mnt") as mount:
        (name,) = set(os.listdir(mount / "documents")) - {"latest"}
        point = mount / "documents" / name
        assert sorted(os.listdir(point)) == ["other", "secret", "third"]
        for path in ("secret", "other"):
            word = os.fsencode(source / path)
            purge(reopened(repository), [word], PurgeOptions(), Observer())
            if path == "other":  # not looked at between the two
                assert os.listdir(point) == ["third"]
        assert os.readlink(mount / "documents" / "latest") == name
