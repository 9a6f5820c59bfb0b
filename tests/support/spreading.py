"""How the tests are spread over processes, with pytest-xdist."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.support import CHECKOUT


@cache
def shares(module: str) -> bool:
    """Whether the tests of a module share what is made once for all of them."""
    return '(scope="module"' in (CHECKOUT / module).read_text()


def unit_of(test: str) -> str:
    """What goes to one process as a whole: a module whose tests share something, else a test.

    Each process would make it anew: 71 generations of a large file, three times.
    """
    module = test.partition("::")[0]
    return module if shares(module) else test


def scheduling(config: pytest.Config, log: Any) -> Any:
    """Gives out units: those of many tests first, then single tests in their order."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    return Scheduling(config, log)
