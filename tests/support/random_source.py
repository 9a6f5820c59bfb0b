"""Small random trees whose names meet again and again, as files, folders and links."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from pathlib import Path

SECOND = 1_000_000_000


class RandomSource:
    """A folder at *path*, made empty, that changes at random."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path, self._rng = path, rng
        self.path.mkdir()
        self._clock = itertools.count(1)

    def step(self) -> None:
        """Make a few changes, or none."""
        for _ in range(self._rng.choice((0, 1, 2, 5, 9))):
            self._change()

    def _change(self) -> None:
        rng = self._rng
        path = self.path.joinpath(*(rng.choice("abc") for _ in range(rng.randrange(1, 4))))
        self._make_parents(path)
        act = rng.choice(("write", "write", "write", "remove", "chmod", "folder", "link", "touch"))
        if act in {"chmod", "touch"} and os.path.lexists(path):
            if act == "chmod" and not path.is_symlink():
                path.chmod(rng.choice((0o755, 0o700, 0o711)))
            else:
                moment = next(self._clock) * SECOND
                os.utime(path, ns=(moment, moment), follow_symlinks=False)
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if act == "write":
            path.write_bytes(b"x" * rng.randrange(3))
        elif act == "folder":
            path.mkdir()
        elif act == "link":
            path.symlink_to(rng.choice("xy"))

    def _make_parents(self, path: Path) -> None:
        for parent in reversed(path.relative_to(self.path).parents):
            folder = self.path / parent
            if folder.is_symlink() or not folder.is_dir():
                folder.unlink(missing_ok=True)
                folder.mkdir()
