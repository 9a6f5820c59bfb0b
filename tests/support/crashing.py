"""Cutting off what writes to a repository at its n-th step on the disk: nothing works from then on.

As after a kill, what was begun stays as it is: no clean-up finds a disk to clean up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ibtfs.store.storage import lease, local, upload
from ibtfs.store.storage.local import LocalStorage


class CutOff(BaseException):
    """It ends here."""


class Steps:
    """Counts steps on the disk, each before it is done; at number *last* all is over."""

    def __init__(self, patch: pytest.MonkeyPatch, last: int | None = None) -> None:
        self.count = 0
        self._last = last
        for owner, name in (
            (LocalStorage, "create_file"),
            (LocalStorage, "delete"),
            (upload, "rename_new"),
            (upload, "rename_over"),
            (upload, "sync_names"),
            (local, "sync_names"),
            (lease.FileLease, "release"),
        ):
            patch.setattr(owner, name, self._counting(getattr(owner, name)))

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self._last is not None and self.count > self._last:
                raise CutOff
            return real(*args, **options)

        return step
