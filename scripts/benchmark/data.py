"""What is backed up: six sets of real data, each with the changes that such data goes through.

A set is made once; then its source is changed in place, the same for all tools: each takes its
backup before the next change comes. All that is random comes from one seed.
"""

from __future__ import annotations

import os
import random
import shutil
from abc import ABC, abstractmethod
from pathlib import Path

from benchmark import gather
from benchmark.download import DJANGO, FILLING, Releases
from benchmark.gather import MIB, SMALL
from tests.support import realdata


class DataSet(ABC):
    """One set below *folder*, which is new; *quick* makes little of everything."""

    name: str
    about: str
    changes = 1
    single = False
    """Whether the source is one file."""

    def __init__(self, folder: Path, quick: bool, releases: Releases) -> None:
        self.folder, self.quick, self.releases = folder, quick, releases
        self.source = folder / "source"
        self.rng = random.Random(f"ibtfs {self.name}")
        if quick:
            self.changes = min(self.changes, 2)

    @abstractmethod
    def prepare(self) -> None:
        """Make the source. Raises Failure, RuntimeError or CalledProcessError."""

    def rewind(self) -> None:  # noqa: B027 - most sets have nothing to do here
        """Make ready for another run: by default, it goes on from where it is."""

    @abstractmethod
    def change(self, number: int) -> None:
        """Make the change *number*, from 1, to the source."""


class Many(DataSet):
    """Many small files of a system."""

    name = "many"
    about = "100,000 small files of a system; 500 of them appended to"

    def prepare(self) -> None:
        self.files = gather.small_files(self.source, 1_500 if self.quick else 100_000,
                                        self.fill)  # fmt: skip

    def fill(self, place: Path, number: int) -> bool:
        """Unpack one more release as *place*; tell whether there was one."""
        if number < len(FILLING):
            self.releases.unpack(FILLING[number], place)
        return number < len(FILLING)

    def change(self, number: int) -> None:
        for path in self.rng.sample(self.files, 50 if self.quick else 500):
            realdata.append(path, realdata.text_like(self.rng.getrandbits(32), 200))


class Src(DataSet):
    """Successive releases of a source tree."""

    name = "src"
    about = "12 releases of Django 4.2, each over the one before"
    changes = 11

    def prepare(self) -> None:
        chosen = DJANGO[: self.changes + 1]
        self.releases.fetch(chosen)
        for number, release in enumerate(chosen):
            place = self.folder / f"release-{number}"
            self.releases.unpack(release, place)
            if self.quick:
                place.rename(self.folder / "whole")
                (self.folder / "whole" / "docs").rename(place)
                shutil.rmtree(self.folder / "whole")

    def rewind(self) -> None:
        self.change(0)

    def change(self, number: int) -> None:
        realdata.replace_tree(self.folder / f"release-{number}", self.source)


class Db(DataSet):
    """A database whose rows change here and there."""

    name = "db"
    about = "a SQLite database of 512 MB; 500 rows updated, 2,000 appended"
    changes = 5
    single = True

    def prepare(self) -> None:
        size = 16 * MIB if self.quick else 512 * MIB
        realdata.sqlite_database(self.source / "items.sqlite", self.rng, size=size)

    def change(self, number: int) -> None:
        part = 20 if self.quick else 1
        realdata.change_rows(
            self.source / "items.sqlite", self.rng, rows=500 // part, deleted=0,
            appended=2000 // part,
        )  # fmt: skip


class Vm(DataSet):
    """A disk image, in which a system lives."""

    name = "vm"
    about = "a sparse ext4 image of 2 GB; 40 files edited inside, 1 MB of log written"
    changes = 5
    single = True

    def prepare(self) -> None:
        content = self.folder / "content"
        count = 300 if self.quick else 20_000
        gather.small_files(content, count, lambda _place, _number: False, least=1)
        size = 128 * MIB if self.quick else 2048 * MIB
        realdata.ext4_image(self.source / "disk.img", size=size, content=content)
        shutil.rmtree(content)

    def change(self, number: int) -> None:
        files = 5 if self.quick else 40
        realdata.edit_inside(self.source / "disk.img", self.rng, files=files, log=MIB)


class Log(DataSet):
    """A log that grows."""

    name = "log"
    about = "a log of 200 MB; 1 MB appended"
    changes = 3
    single = True

    def prepare(self) -> None:
        self.grow(8 if self.quick else 200)

    def change(self, number: int) -> None:
        self.grow(1)

    def grow(self, megabytes: int) -> None:
        """Append lines of so many bytes."""
        realdata.growing_log(self.source / "service.log", self.rng, size=megabytes * MIB)


class Move(DataSet):
    """A tree that gets another name."""

    name = "move"
    about = "a tree of 20,000 files, renamed at its top"

    def prepare(self) -> None:
        gather.small_files(self.source / "tree-0", 1_000 if self.quick else 20_000,
                           lambda _place, _number: False, least=1)  # fmt: skip

    def change(self, number: int) -> None:
        (tree,) = self.source.iterdir()
        tree.rename(tree.with_name(f"tree-{self.rng.getrandbits(32):08x}"))


SETS: dict[str, type[DataSet]] = {made.name: made for made in (Many, Src, Db, Vm, Log, Move)}


def largest_file(source: Path) -> Path:
    """Return the one file of a set that is *single*."""
    return max((Path(top, name) for top, _, names in os.walk(source) for name in names),
               key=lambda path: path.stat().st_size)  # fmt: skip


__all__ = ["SETS", "SMALL", "DataSet", "largest_file"]
