"""Cutting off what writes to a repository at its n-th step on the disk: nothing works from then on.

As after a kill, what was begun stays as it is: no clean-up finds a disk to clean up.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ibtfs.store.storage import lease, local, upload
from ibtfs.store.storage.local import LocalStorage

LOCAL_STEPS: tuple[tuple[Any, str], ...] = (
    (LocalStorage, "create_file"), (LocalStorage, "delete"), (upload, "rename_new"),
    (upload, "rename_over"), (upload, "sync_names"), (local, "sync_names"),
    (lease.FileLease, "release"),
)  # fmt: skip
"""What is called for each step on a disk of this machine."""


class CutOff(BaseException):
    """It ends here."""


class Steps:
    """Counts steps on the disk, each before it is done; at number *last* all is over.

    *points* are what is called for each.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        last: int | None = None,
        points: Iterable[tuple[Any, str]] = LOCAL_STEPS,
    ) -> None:
        self.count = 0
        self._last = last
        for owner, name in points:
            patch.setattr(owner, name, self._counting(getattr(owner, name)))

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self._last is not None and self.count > self._last:
                raise CutOff
            return real(*args, **options)

        return step


def cut_at_each_step(root: Path, work: Callable[[], object], *, least: int) -> Iterator[int | None]:
    """Do *work* to the repository in *root* to its end, and then cut it off at each of its steps.

    Each time it begins with what *root* is now.  Yields None when it is done, and then the number
    of the step at each cut, with the repository as that left it, but without locks: this process
    still lives.  There have to be *least* steps.
    """
    kept = root.with_name(f"{root.name} kept")
    shutil.copytree(root, kept)
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch)
        work()
    assert steps.count >= least
    yield None
    for last in range(steps.count):
        shutil.rmtree(root)
        shutil.copytree(kept, root)
        with pytest.MonkeyPatch.context() as patch:
            Steps(patch, last)
            with pytest.raises(CutOff):
                work()
        for lock in (root / "locks").iterdir():
            lock.unlink()
        yield last
