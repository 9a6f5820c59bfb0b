"""Every block of the manual that is for a shell is run, line by line, in a small world of its own.

The world is a folder that stands for ``/``: the paths of the manual's lines lead into it.  It has
a home with documents and photos, and a repository with points of some days and of today.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dav_servers import Apache, served
from tests.support.documents import PAGES, environment, literal_blocks, make_program, make_programs
from tests.support.prepared import prepared

DAY = 86_400
RUN = re.compile(r"(\w+ \w+ \| )?(ibtfs|ls|cp|diff|grep|find|rdiff|sudo ln) ")
"""What begins a line that can be run."""

NOT_RUN = {
    "commands": {"ibtfs"},  # of each command its usage, which is no command line
    "points": set(),
    "exclusion": set(),
    # a line of fstab, units of systemd, Samba's configuration
    "mounts": {"/media/disk/backups", "#", "[documents]"},
    "deltas": set(),
    "storage": {"repository/"},
    "remote": {"export", "machine"},  # needs a bucket: see promises/test_s3; a line of .netrc
    "copying": set(),
    # they ask for a passphrase: see cli/commands/test_key
    "sealing": {"ibtfs"},
    "space": set(),
    "performance": {"scripts/bench"},
    "comparison": set(),
    "library": {"from", "old", "with"},  # Python: see test_manual
    "developing": {"cli", "format/FORMAT.rst", "scripts/make-manuals", "~/ibtfs-venv/bin/pip"},
}
"""The first words of blocks that are not for a shell, or are too much for a test."""

STAND_INS = {
    "sudo": 'exec "$@"',
    "pg_dump": "echo 'CREATE TABLE shelf (book text);'",
    "jq": "exec cat",
    "ssh": 'cd "$HOME"; for last; do :; done\n'
    'case "$last" in *serve-store*) exec sh -c "$last";; esac\n'
    "exec /usr/lib/openssh/sftp-server",
}


def is_usage(block: list[str]) -> bool:
    return len(block) == 1 and "[OPTIONS]" in block[0]


def is_run(topic: str, block: list[str]) -> bool:
    if any(line.startswith("ibtfs key ") or " --seal" in line for line in block):
        return False  # a passphrase is asked for: see cli/commands/test_key
    return bool(RUN.match(block[0])) and not (topic == "commands" and is_usage(block))


def blocks() -> list[tuple[str, list[str]]]:
    pages = [(topic, text) for topic, text in PAGES.items() if topic != "format"]
    return [(topic, block) for topic, text in pages for block in literal_blocks(text)]


EXAMPLES = [
    pytest.param(block, id=f"{topic}-{number}")
    for number, (topic, block) in enumerate(blocks())
    if is_run(topic, block)
]


def test_every_block_is_run_or_known_to_be_none_for_a_shell() -> None:
    left: dict[str, set[str]] = {topic: set() for topic in NOT_RUN}
    for topic, block in blocks():
        if is_run(topic, block):
            assert all(RUN.match(line) for line in block), block
        else:
            left[topic].add(block[0].split()[0])
    assert left == NOT_RUN
    assert len(EXAMPLES) > 20


# ---- the world ---------------------------------------------------------------------------------


class World:
    """A folder as ``/``, and its programs."""

    def __init__(self, place: Path) -> None:
        self.root, self.programs = place / "root", place / "bin"
        self.home = self.root / "home" / "me"
        self.repository = self.root / "media" / "disk" / "backups"
        self.mountpoint = self.root / "mnt" / "backups"
        self.cloud = ""
        """Where the folder of the manual's WebDAV server is."""

    def run(self, line: str, *, back: float = 0) -> int:
        """Run *line*, *back* seconds ago by the clock of ibtfs; its exit code."""
        line = re.sub(r"(?<![\w/.~])/(?=(?:media|mnt|srv|etc|sbin|home)\b)", f"{self.root}/", line)
        line = re.sub(r"(?<= )/(?= )", str(self.root), line)
        line = re.sub(r"davs://(me@)?cloud\.example(:\d+)?/remote", self.cloud, line)
        variables = {**environment(self.home, self.programs), "BACK": str(back)}
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], cwd=self.home, env=variables, timeout=240,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False,
        ).returncode  # fmt: skip

    def backup(self, name: str, days: float) -> None:
        line = f"ibtfs-then backup -q ~/{name} /media/disk/backups"
        assert self.run(line, back=days * DAY) == 0

    def prepare(self, line: str) -> None:
        """Bring about what *line* takes for granted: what is backed up, and what is mounted."""
        mounted = os.path.ismount(self.mountpoint)
        if "--source photos" in line:
            self.backup("photos", 5)
        if " --from " in line:
            copy = self.root / line.partition(" --from ")[2].partition(" ")[0].lstrip("/")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self.repository, copy)
        if "ibtfs copy" in line:
            (self.root / "media" / "other").mkdir(exist_ok=True)
            self.run("ibtfs tag add -q /media/disk/backups monthly documents/latest")
            if "--mirror" in line:
                assert self.run("ibtfs copy -q /media/disk/backups /media/other/backups") == 0
        if "ibtfs init" in line:
            shutil.rmtree(self.repository, ignore_errors=True)
        elif "ibtfs mount" in line and mounted:
            assert self.run("ibtfs umount -q --lazy /mnt/backups") == 0
        elif "ibtfs mount" not in line and "/mnt/backups" in line and not mounted:
            assert self.run("ibtfs mount -q /media/disk/backups /mnt/backups") == 0


THEN = f"""#!{sys.executable}
import os, time
now, back = time.time_ns, int(float(os.environ["BACK"]) * 1e9)
time.time_ns = lambda: now() - back
from ibtfs.cli.main import main
main()
"""


def write(folder: Path, contents: dict[str, str]) -> None:
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def numbers(word: str) -> str:
    return "".join(f"{number}\n" for number in range(5000)) + f"{word}\n"


def make(world: World) -> None:
    """The world as the manual has it in mind."""
    for folder in ("mnt/backups", "mnt/moved", "media/disk", "srv", "sbin", "etc"):
        (world.root / folder).mkdir(parents=True)
    write(world.root / "etc", {"hostname": "pc\n"})
    make_programs(world.programs)
    (world.programs / "ibtfs").unlink()
    (world.programs / "ibtfs").symlink_to(prepared())
    make_program(world.programs / "ibtfs-then", THEN)
    for name, text in STAND_INS.items():
        make_program(world.programs / name, f"#!/bin/sh\n{text}\n")
    home, documents = world.home, world.home / "documents"
    write(documents, {
        "letter.txt": "Dear reader,\n", "letters/draft.txt": "Dear", "letters/old.txt": "Old",
        "letters/2026/invoice.txt": "An invoice\n", "photos/me.jpg": "A picture",
        "db.sqlite": numbers("a"), "shop.db": numbers("b"), "accounts.db": numbers("c"),
    })  # fmt: skip
    write(home, {"src/main.c": "int main;", "photos/holiday/index.html": "The sea",
                 "shop-of-3-days-ago.db": numbers("b"),
                 "accounts-of-2026-11-19.db": numbers("c")})  # fmt: skip
    latest_then = time.mktime((2026, 11, 19, 12, 0, 0, 0, 0, -1))
    world.backup("documents", max(10.0, (time.time() - latest_then) / DAY))
    write(documents, {"letters/draft.txt": "Dear reader", "letters/invoices.txt": "An invoice\n"})
    world.backup("documents", 4)
    write(documents, {"shop.db": numbers("new"), "accounts.db": numbers("new")})
    (documents / "letters" / "old.txt").unlink()
    world.backup("documents", 2)
    write(documents, {"letters/draft.txt": "Dear reader, and all"})
    world.backup("documents", 0)
    write(documents, {"letters/new.txt": "Not in any point\n"})
    shutil.copytree(documents, world.root / "mnt" / "moved" / "documents")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world, kept aside; the sources in its repository are those of its copies."""
    place = tmp_path_factory.mktemp("world")
    make(World(place))
    (place / "root").rename(place / "kept")
    return place


@pytest.fixture(scope="module")
def cloud() -> Iterator[str]:
    """A server by WebDAV."""
    with served(Apache) as server:
        yield server.address("").rstrip("/")


@pytest.fixture
def world(made: Path, cloud: str) -> Iterator[World]:
    """A fresh copy of the world."""
    subprocess.run(["cp", "-a", made / "kept", made / "root"], check=True)
    new = World(made)
    new.cloud = cloud
    yield new
    if os.path.ismount(new.mountpoint):
        assert new.run("ibtfs umount -q --lazy /mnt/backups") == 0
    shutil.rmtree(new.root)


@pytest.mark.parametrize("block", EXAMPLES)
def test_a_block_can_be_run(block: list[str], world: World) -> None:
    for line in block:
        world.prepare(line)
        code = world.run(line)
        assert code == (1 if line.startswith("diff ") else 0), line


def test_the_program_for_mount_is_linked(world: World) -> None:
    (line,) = [line for _, block in blocks() for line in block if line.startswith("sudo ln")]
    assert world.run(line) == 0
    assert (world.root / "sbin" / "mount.ibtfs").resolve() == world.programs / "mount.ibtfs"
