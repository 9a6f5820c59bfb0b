"""Commands on a disk that is full, or nearly: `Crammed` puts the repository of a job on one."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.disks import Disk, fill
from tests.support.faulty_calls import Job
from tests.support.killing import run

SIZE = 64 << 20
BLOCK = 4096


class Crammed:
    """A *job* whose repository lies on a *disk*, where something else takes all room but some."""

    def __init__(self, job: Job, disk: Disk) -> None:
        self.job, self._disk = job, disk
        self._filler = disk.path / "filler"
        place = job.path / "repository"
        shutil.move(place, disk.path / "repository")
        place.symlink_to(disk.path / "repository")

    @property
    def root(self) -> Path:
        """Where the repository lies."""
        return self._disk.path / "repository"

    def attempt(self, room: int) -> bool:
        """Run it with *room* bytes free; whether it has done its work."""
        self._filler.unlink(missing_ok=True)
        self.job.reset()
        fill(self._filler, room)
        code, said = run(self.job.command, self.job.path / "cache")
        where = f"with room for {room}: exit {code}: {said}"
        assert "Traceback" not in said, where
        assert "bug" not in said, where
        if code == 0:
            assert said == "", where
            self.job.done(self.job.repository)
        else:
            assert code in (1, 3), where
            assert "No space left in the repository" in said, where
            assert code == 3 or len(said.strip().splitlines()) == 1, where
        self.job.look()
        return code == 0

    def go_on(self) -> None:
        """With room given back the next run ends it."""
        self._filler.unlink()
        self.job.go_on()
