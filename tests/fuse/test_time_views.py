"""The views over many points through a real mount: they follow the points, and tools like them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from ibtfs.fuse.options import Binding, MountOptions
from ibtfs.store.naming import displayed_names
from ibtfs.store.repository import Repository
from ibtfs.store.trees.patience import Patience
from tests.support.mounts import BINDINGS, mounted
from tests.support.repositories import Backup, remove, the_point, two_points


@pytest.fixture(autouse=True)
def endless_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not decided in time is shown: a slow machine must not decide what these tests see."""
    monkeypatch.setattr(Patience, "is_over", property(lambda _: False))


def listed_soon(folder: Path, expected: list[str]) -> None:
    """At one of 50 looks *folder* holds just that; the kernel keeps what changes for 20 ms.

    They take a second, or longer where the machine has much to do.
    """
    for _ in range(50):
        found = sorted(os.listdir(folder)) if folder.exists() else []
        if found == expected:
            break
        time.sleep(0.02)
    assert found == expected


@pytest.mark.parametrize("binding", BINDINGS)
def test_views_follow_the_points(
    binding: Binding, tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    one, two = two_points(tmp_path, backup_of, repository)
    with mounted(repository, tmp_path / "mnt", MountOptions(binding=binding)) as mountpoint:
        source = mountpoint / "source"
        first, second = sorted(os.listdir(source))[:2]
        listed_soon(source / ".versions/kept", [first, second])
        listed_soon(source / ".deleted", ["d"])
        listed_soon(source / ".changes" / second / "updated", ["kept"])
        (tmp_path / "source" / "kept").unlink()
        (tmp_path / "source" / "d" / "new").write_bytes(b"again")
        third = displayed_names([(point := the_point(backup_of(tmp_path / "source")))])[point.id]
        listed_soon(source, [first, second, third, "latest"])
        listed_soon(source / ".deleted", ["d", "kept"])
        assert (source / ".deleted" / "kept").read_bytes() == b"22"
        listed_soon(source / ".changes", [first, second, third])
        listed_soon(source / ".versions/d/new", [second, third])
        listed_soon(source / ".changes" / third / "deleted", ["kept"])
        remove(repository, two)
        listed_soon(source / ".changes", [first, third])
        listed_soon(source / ".changes" / second, [])
        listed_soon(source / ".versions/kept", [first])
        assert (source / ".deleted" / "kept").read_bytes() == b"1"
        listed_soon(source / ".changes" / third / "deleted", ["d", "kept"])
        remove(repository, one)
        listed_soon(source / ".versions", ["d"])
        listed_soon(source / ".deleted", [])


def run(*words: object) -> str:
    return subprocess.run(
        [str(word) for word in words], check=True, capture_output=True, text=True, timeout=240
    ).stdout


@pytest.mark.parametrize("binding", BINDINGS)
def test_ordinary_tools(
    binding: Binding, tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    two_points(tmp_path, backup_of, repository)
    (tmp_path / "single.txt").write_bytes(b"alone")
    backup_of(tmp_path / "single.txt")
    with mounted(repository, tmp_path / "mnt", MountOptions(binding=binding)) as mountpoint:
        source = mountpoint / "source"
        first, second = sorted(os.listdir(source))[:2]
        assert run("ls", "-a", source).split() == [".", "..", first, second, "latest"]
        assert run("find", mountpoint, "-name", ".*") == ""
        assert run("cat", source / ".versions/kept" / second) == "22"
        assert run("cat", source / "@latest~1/kept") == "1"
        assert run("cat", mountpoint / "@now/source/kept") == "22"
        assert run("cat", source / ".changes/latest/deleted/d/old") == "old"
        assert run("readlink", source / ".changes/@latest~1..latest") == f"{first}..{second}\n"
        assert run("find", source / ".changes" / second, "-type", "f", "-printf", "%P\n") == (
            "created/d/new\nupdated/kept\ndeleted/d/old\n"
        )
        for folder in (".versions", ".deleted", ".changes"):
            leaf = run("find", source / folder, "-printf", "%P %y %n\n")
            assert leaf == run("find", source / folder, "-noleaf", "-printf", "%P %y %n\n")
            run("cp", "-a", source / folder, tmp_path / folder)
            assert run("diff", "-r", source / folder, tmp_path / folder) == ""
        single = mountpoint / "single.txt"
        (name,) = (n for n in os.listdir(single) if n != "latest")
        assert run("cat", single / name / "single.txt") == "alone"
        assert run("cat", single / ".versions/single.txt" / name) == "alone"
        assert os.listdir(single / ".changes" / name / "created") == ["single.txt"]
        assert os.listdir(single / ".deleted") == []
